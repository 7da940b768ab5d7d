"""Rows that an engine computed, kept on a local disk as units: for datasets that have no row groups of their own."""

from __future__ import annotations

import shutil
import tempfile
import weakref
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from iceblink.config import MIB
from iceblink.load.units import Stretch

UNIT_BYTES, UNIT_ROWS, SAMPLE_ROWS = 8 * MIB, 8192, 256
"""A unit has as many rows as make about so many bytes, judged by the first few, and not more than this."""


@dataclass(frozen=True, eq=False)
class KeptUnits:
    """Units as Arrow files in a folder."""

    schema: pa.Schema
    rows: NDArray[np.int64]
    decoded_bytes: int
    identity: dict[str, str]
    folder: Path

    def __reduce__(self) -> tuple[type[KeptUnits], tuple[Any, ...]]:
        return KeptUnits, (self.schema, self.rows, self.decoded_bytes, self.identity, self.folder)

    def read(self, unit: int) -> pa.Table:
        """Map the rows of a unit."""
        with pa.memory_map(str(_path(self.folder, unit))) as file:
            return pa.ipc.open_file(file).read_all()

    def key(self, unit: int) -> str:
        """Return nothing that another process finds again: these units are kept already."""
        return f"{self.folder.name}-{unit}"

    def place(self, unit: int) -> str:
        """Return which rows of the result these are."""
        (found,) = self.stretches(unit)
        return f"rows {found.first_row:,} to {found.first_row + found.rows - 1:,} of the dataset"

    def stretches(self, unit: int) -> tuple[Stretch, ...]:
        """Return which rows of the result these are."""
        return (Stretch("", int(self.rows[:unit].sum()), int(self.rows[unit])),)

    def untouched(self, _unit: int) -> bool:
        """Whether they are these rows."""
        return True


def kept_units(
    schema: pa.Schema, batches: Iterable[pa.RecordBatch], identity: dict[str, str], folder: Path
) -> KeptUnits:
    """Write rows into units.

    Their digest is part of the identity: a statement may give its rows in another order the next time. The files go
    with the object that is returned; its copies in other processes only read them.

    Parameters
    ----------
    schema : pa.Schema
    batches : iterable of pa.RecordBatch
    identity : dict of str to str
        Of what gives the rows.
    folder : Path
        In which a folder of its own is made, on a disk that has room for the rows, uncompressed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kept = Path(tempfile.mkdtemp(prefix="loader-", dir=folder))
    remove = partial(shutil.rmtree, kept, ignore_errors=True)
    rows, size, digest = [], 0, 0
    try:
        for unit, table in enumerate(_cut(batches)):
            path = _path(kept, unit)
            with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema) as writer:
                writer.write_table(table.combine_chunks())
            digest = _checksum(path, digest)
            rows.append(table.num_rows)
            size += path.stat().st_size
    except BaseException:
        remove()
        raise
    units = KeptUnits(schema, np.array(rows, np.int64), size, {**identity, "rows": f"digest {digest:08x}"}, kept)
    weakref.finalize(units, remove)
    return units


def _path(folder: Path, unit: int) -> Path:
    return folder / f"{unit}.arrow"


def _cut(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Yield tables of one length, but for the last, however long the batches are."""
    waiting: list[pa.RecordBatch] = []
    held, wanted = 0, 0
    for batch in batches:
        waiting.append(batch)
        held += batch.num_rows
        if not wanted and held >= SAMPLE_ROWS:
            wanted = _rows_of_unit(pa.Table.from_batches(waiting).slice(0, SAMPLE_ROWS))
        while wanted and held >= wanted:
            table = pa.Table.from_batches(waiting)
            yield table.slice(0, wanted)
            waiting = table.slice(wanted).to_batches()
            held -= wanted
    if held:
        yield pa.Table.from_batches(waiting)


def _rows_of_unit(sample: pa.Table) -> int:
    return max(1, min(UNIT_ROWS, UNIT_BYTES * SAMPLE_ROWS // max(1, int(sample.nbytes))))


def _checksum(path: Path, before: int) -> int:
    with path.open("rb") as file:
        while block := file.read(MIB):
            before = zlib.crc32(block, before)
    return before
