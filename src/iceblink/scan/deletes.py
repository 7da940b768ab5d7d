"""Rows that delete files take out of a data file: by position, by deletion vector, by equal values.

References
----------
.. [1] Iceberg table spec, "Delete Formats": position delete files, deletion vectors, equality delete files.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import partial
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pt
from numpy.typing import NDArray

from iceblink.lake.delete_files import POSITION_DELETES
from iceblink.lake.entries import DeleteFile
from iceblink.lake.roaring import NotAVector, Positions, read_vector
from iceblink.lake.storage import Storage
from iceblink.predicate import Compare
from iceblink.scan.damage import damaged, reading
from iceblink.scan.decode import open_file, read_group
from iceblink.scan.footer import FOOTERS, Footer
from iceblink.scan.project import Projection, field_id
from iceblink.scan.prune import kept_groups

T = TypeVar("T")


class Deletes:
    """The delete files of one scan; each is read once, by whichever thread needs it first.

    Parameters
    ----------
    storage : Storage
    schema : pa.Schema
        The table's, for the types and defaults of the columns that equality deletes compare.
    owner : str
        Table and snapshot, in words, for errors.
    """

    def __init__(self, storage: Storage, schema: pa.Schema, owner: str) -> None:
        self.storage, self.schema, self.owner = storage, schema, owner
        self._lock = threading.Lock()
        self._locks: dict[Hashable, threading.Lock] = {}
        self._known: dict[Hashable, object] = {}

    def positions(self, path: str, deletes: Sequence[DeleteFile]) -> Positions:
        """Return the row positions that position deletes and deletion vectors take out of a data file, ascending.

        Raises
        ------
        DataCorrupt
            A delete file is missing or damaged.
        """
        return self._once(("positions", path, tuple(deletes)), partial(self._positions, path, deletes))

    def names(self, delete: DeleteFile, path: str) -> bool:
        """Tell whether a position delete file has rows of a data file: that it may apply need not mean that it does.

        Raises
        ------
        DataCorrupt
            The delete file is missing or damaged.
        """
        return any(len(found) for found in self._listed(delete, path))

    def _positions(self, path: str, deletes: Sequence[DeleteFile]) -> Positions:
        found: list[Positions] = []
        for delete in deletes:
            if delete.kind == "vector":
                found.append(self._read_vector(delete))
            elif delete.kind == "position":
                found += self._listed(delete, path)
        return np.unique(np.concatenate(found)) if found else np.empty(0, np.int64)

    def equal(
        self,
        file: pq.ParquetFile,
        footer: Footer,
        group: int,
        deletes: Sequence[DeleteFile],
        identity: Iterable[tuple[int, object]],
    ) -> NDArray[np.bool_]:
        """Return, for each row of a row group, whether some equality delete takes it out.

        Null equals null, and not-a-number equals itself.

        Raises
        ------
        DataCorrupt
            A delete file is missing or damaged.
        """
        rows = footer.metadata.row_group(group).num_rows
        gone = np.zeros(rows, bool)
        for delete in deletes:
            if delete.kind == "equality":
                keys = self._once(delete.path, partial(self._read_keys, delete))
                projection = Projection.of(keys.schema, footer.schema, identity)
                found = read_group(file, footer, group, projection)
                gone |= _equal(pa.Table.from_batches(found, keys.schema), keys)
        return gone

    def _once(self, key: Hashable, load: Callable[[], T]) -> T:
        with self._lock:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            if key not in self._known:
                self._known[key] = load()
            return self._known[key]  # type: ignore[return-value]

    def _read_vector(self, delete: DeleteFile) -> Positions:
        with reading(self.owner, delete.path), self.storage.open_input(delete.path, constant=True) as file:
            file.seek(delete.offset)
            blob = file.read(delete.length)
        try:
            return read_vector(blob)
        except NotAVector as error:
            raise damaged(f"a deletion vector is damaged: {error}", self.owner, delete.path) from error

    def _listed(self, delete: DeleteFile, path: str) -> list[Positions]:
        """Return what one position delete file says of a data file; row groups of other files are not read."""
        footer = FOOTERS.get(self.storage, delete.path, delete.file_bytes, self.owner)
        about = kept_groups(Compare("file_path", "=", path), footer, POSITION_DELETES, (), self.storage, self.owner)
        found = []
        for group in about:
            by_path = self._once((delete.path, group), partial(self._read_positions, footer, group))
            if path in by_path:
                found.append(by_path[path])
        return found

    def _read_positions(self, footer: Footer, group: int) -> Mapping[str, Positions]:
        with reading(self.owner, footer.path, group), open_file(self.storage, footer) as file:
            batches = read_group(file, footer, group, Projection.of(POSITION_DELETES, footer.schema))
        listed = pa.Table.from_batches(batches, POSITION_DELETES)
        paths = listed["file_path"].combine_chunks().dictionary_encode()
        positions = listed["pos"].to_numpy()
        codes = paths.indices.to_numpy()
        by_path = positions[np.argsort(codes, kind="stable")]
        counts = np.bincount(codes, minlength=len(paths.dictionary))
        ends = np.cumsum(counts)
        ranges = zip(paths.dictionary.to_pylist(), (ends - counts).tolist(), ends.tolist(), strict=True)
        return {path: by_path[start:end] for path, start, end in ranges}

    def _read_keys(self, delete: DeleteFile) -> pa.Table:
        footer = FOOTERS.get(self.storage, delete.path, delete.file_bytes, self.owner)
        own = [_single(number, footer.schema) for number in delete.equality_ids]
        if any(field is None for field in own):
            what = f"an equality delete file lacks a column it compares, one of field ids {delete.equality_ids}"
            raise damaged(what, self.owner, delete.path)
        # as the table has them now: a type may be wider, or the column gone
        fields = [_single(number, self.schema) or field for number, field in zip(delete.equality_ids, own, strict=True)]
        projection = Projection.of(pa.schema(fields), footer.schema)
        with reading(self.owner, delete.path), open_file(self.storage, footer) as file:
            groups = [read_group(file, footer, group, projection) for group in range(footer.metadata.num_row_groups)]
        return pa.Table.from_batches([batch for group in groups for batch in group], projection.schema)


def _single(number: int, schema: pa.Schema) -> pa.Field | None:
    """Return the top-level field that holds only field `number`, through any structs around it."""
    return next((found for field in schema if (found := _only(number, field)) is not None), None)


def _only(number: int, field: pa.Field) -> pa.Field | None:
    if field_id(field) == number:
        return field.with_nullable(True)
    if pt.is_struct(field.type):
        for child in field.type:
            found = _only(number, child)
            if found is not None:
                return field.with_type(pa.struct([found])).with_nullable(True)
    return None


def _equal(data: pa.Table, keys: pa.Table) -> NDArray[np.bool_]:
    """Return, for each row of `data`, whether `keys` has it: rows become numbers, column by column."""
    codes = np.zeros(len(data) + len(keys), np.int64)
    for left, right in zip(data.columns, keys.columns, strict=True):
        both = _leaf(pa.concat_arrays([*left.chunks, *right.chunks]))
        encoded = both.dictionary_encode(null_encoding="encode")
        pairs = codes * len(encoded.dictionary) + encoded.indices.to_numpy()
        codes = np.unique(pairs, return_inverse=True)[1] if data.num_columns > 1 else pairs
    return np.isin(codes[: len(data)], codes[len(data) :])


def _leaf(array: pa.Array) -> pa.Array:
    """Return the values at the bottom of structs of one field each."""
    while pt.is_struct(array.type):
        (array,) = array.flatten()  # a null struct makes its field null
    return array.storage if isinstance(array, pa.ExtensionArray) else array
