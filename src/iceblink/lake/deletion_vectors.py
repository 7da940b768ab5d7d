"""Deletion vectors: which rows of which data file are gone, all of one write in one Puffin file.

References
----------
.. [1] Iceberg table spec, "Deletion Vectors".
.. [2] Iceberg Puffin spec, "File structure", "deletion-vector-v1 blob type".
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Collection
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import numpy as np
import pyarrow as pa

from iceblink.errors import WriteError
from iceblink.events import FileWritten, emit
from iceblink.lake.files import NewFile, VectorPlace
from iceblink.lake.leftovers import mark_write, remove_writes
from iceblink.lake.manifests import data_files_by_path
from iceblink.lake.roaring import Positions, write_vector
from iceblink.lake.table import Table

BLOB = "deletion-vector-v1"
_MAGIC = b"PFA1"
_ROW_POSITION = 2147483645  # the field id of ``_pos``


class DeletionVectorWriter:
    """Writes a vector for each data file, one after the other; leaves nothing behind unless finished.

    In memory are the positions of one data file.

    Parameters
    ----------
    table : Table
        The version whose rows are deleted; not changed here.
    before : callable
        Returns the positions, ascending, that are deleted in a data file already: a data file has one vector, so they
        are in the new one, too.
    """

    def __init__(self, table: Table, before: Callable[[str], Positions]) -> None:
        self.token = uuid4().hex
        """Names this write: its file begins with it."""
        self._table, self._before = table, before
        self._path = table.pyiceberg.location_provider().new_data_location(f"{self.token}-00000-deletes.puffin")
        self._sink: Any = None
        self._written = 0
        self._target = ""
        self._held: list[Positions] = []
        self._vectors: list[tuple[VectorPlace, int]] = []
        self._finished = self._marked = False

    def delete(self, path: str, positions: Positions) -> None:
        """Delete rows of a data file: ascending positions, those of one file after those of another.

        Raises
        ------
        WriteError
            The storage refused; the writer is of no more use.
        """
        if path != self._target:
            self._flush()
            self._target = path
        self._held.append(positions)

    def finish(self, but: Collection[str] = ()) -> list[NewFile]:
        """Close the file and return the vectors, without those for the data files `but`, which are removed."""
        self._flush()
        wanted = {place.target: (place, rows) for place, rows in self._vectors if place.target not in but}
        if wanted:
            self._end(list(wanted.values()))
        else:
            self._abandon()
        self._finished = True
        made = []
        for target in data_files_by_path(self._table, wanted.keys()):
            place, rows = wanted[target.file_path]
            partition = tuple(target.partition[at] for at in range(len(target.partition)))
            metrics = {"record_count": rows}
            made.append(
                NewFile(
                    self._path, self.token, self._written, rows, target.spec_id, partition, None, metrics, True, place
                )
            )
        return made

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._finished:
            self._abandon()

    def _flush(self) -> None:
        """Write the vector of the last data file."""
        if not self._held:
            return
        positions = np.unique(np.concatenate([self._before(self._target), *self._held]))
        blob = write_vector(positions)
        if not self._marked:
            mark_write(self._table.pyiceberg, self.token)
            self._marked = True
            self._write(_MAGIC)
        self._vectors.append((VectorPlace(self._target, self._written, len(blob)), len(positions)))
        self._write(blob)
        self._held = []

    def _end(self, vectors: Collection[tuple[VectorPlace, int]]) -> None:
        """Write the footer; what vectors it does not name is nobody's."""
        blobs = [
            {
                "type": BLOB,
                "fields": [_ROW_POSITION],
                "snapshot-id": -1,  # it is not known before the commit
                "sequence-number": -1,
                "offset": place.offset,
                "length": place.length,
                "properties": {"referenced-data-file": place.target, "cardinality": str(rows)},
            }
            for place, rows in vectors
        ]
        said = json.dumps({"blobs": blobs, "properties": {"created-by": "iceblink"}}).encode()
        no_flags = bytes(4)
        self._write(_MAGIC + said + len(said).to_bytes(4, "little") + no_flags + _MAGIC)
        with self._explained():
            self._sink.close()
        emit(FileWritten(self._table.name, self._path, sum(rows for _, rows in vectors), self._written))

    def _write(self, content: bytes) -> None:
        with self._explained():
            if self._sink is None:
                self._sink = self._table.pyiceberg.io.new_output(self._path).create(overwrite=True)
            self._sink.write(content)
        self._written += len(content)

    def _abandon(self) -> None:
        if not self._marked:
            return
        with contextlib.suppress(OSError, pa.ArrowException, ValueError):
            if self._sink is not None:
                self._sink.close()
        remove_writes(self._table.pyiceberg, [self.token], [self._path])

    @contextlib.contextmanager
    def _explained(self) -> Any:
        try:
            yield
        except OSError as error:
            raise WriteError(
                f"cannot write {self._path}: {error.strerror or error}",
                self._table.name,
                "check that the location may be written and has space; the files of this write are removed",
            ) from error
