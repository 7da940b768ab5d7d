"""What a job reads, in units: row groups of a table, or chunks kept beside the journal of anything else."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import TypeAlias
from uuid import uuid4

import pyarrow as pa

from iceblink.errors import WriteError
from iceblink.lake.storage import Storage
from iceblink.plan.nodes import Plan, Query, Scan
from iceblink.plan.optimize import statement
from iceblink.plan.rowwise import leaf_of, over
from iceblink.predicate import Everything, Predicate
from iceblink.run.checkpoint_journal import Journal
from iceblink.run.local_engine import LocalEngine
from iceblink.run.lower import plan_of
from iceblink.scan.batch import Batch
from iceblink.scan.plan import ScanPlan, pack
from iceblink.scan.split import Piece

Unit: TypeAlias = Callable[[], Generator[Batch, None, None]]

SPLITS = 2
"""A unit is about so many splits: when it is done its files are closed and the journal gets an entry."""


def units_of(plan: Plan, engine: LocalEngine, journal: Journal) -> Sequence[Unit]:
    """Return the units of a plan's rows, in order; those of a journal that knows them are the same again.

    A scan, or a query over one that looks at one row at a time, is read unit by unit. Of anything else the rows are
    first kept in chunks: a process that goes on does not compute them again.
    """
    leaf = leaf_of(plan)
    if isinstance(leaf, Scan):
        return [partial(engine.batches, over(plan, part)) for part in _parts(plan, leaf, engine, journal)]
    if not journal.of("chunks"):
        _keep(plan, engine, journal)
    (entry,) = journal.of("chunks")
    return [partial(_chunk, journal.storage, f"{journal.folder}/{name}", row) for name, row in entry["chunks"]]


def _parts(plan: Plan, scan: Scan, engine: LocalEngine, journal: Journal) -> Iterator[Scan]:
    """Yield the scan in parts of whole row groups; how large is journalled, as it rests on estimates."""
    columns: tuple[str, ...] | None = None
    predicate: Predicate = Everything()
    if isinstance(plan, Query):
        (reference,) = statement(plan, engine.evaluate).references
        columns, predicate = reference.columns, reference.predicate
    # each row group a split of its own: where larger ones end would depend on estimates, too
    single = replace(engine.job, settings=engine.settings.override(split_bytes=1))
    planned = plan_of(scan, columns, predicate, single)
    if not journal.of("parts"):
        share = SPLITS * engine.settings.split_bytes / max(1, planned.decoded_bytes)
        journal.add("parts", rows=max(1, round(planned.rows * share)))
    (entry,) = journal.of("parts")
    for pieces in _grouped(planned, entry["rows"]):
        yield replace(scan, part=_only(planned, pieces))


def _grouped(planned: ScanPlan, rows: int) -> Iterator[list[Piece]]:
    group: list[Piece] = []
    size = 0
    for piece in planned.pieces:
        if group and size + piece.rows > rows:
            yield group
            group, size = [], 0
        group.append(piece)
        size += piece.rows
    if group:
        yield group


def _only(planned: ScanPlan, pieces: list[Piece]) -> ScanPlan:
    splits = pack(pieces, sys.maxsize, replace(planned.splits[0], pieces=()))
    groups = sum(max(0, piece.groups) for piece in pieces)
    return replace(planned, splits=splits, files=len({piece.path for piece in pieces}), groups=groups)


def _keep(plan: Plan, engine: LocalEngine, journal: Journal) -> None:
    """Write the rows of a plan to chunks, streams of Arrow's IPC format, and journal them when all are there.

    Raises
    ------
    WriteError
        The disk is full.
    """
    journal.delete([name for name in journal.files() if ".arrow" in name])  # of a process that died here
    chunks: list[tuple[str, int]] = []
    row = 0
    try:
        with closing(engine.batches(plan)) as batches:
            following = next(batches, None)
            while following is not None:
                name = f"rows-{uuid4().hex}.arrow"
                chunks.append((name, row))
                options = pa.ipc.IpcWriteOptions(compression="lz4")
                with (
                    journal.writing(name) as stream,
                    pa.ipc.new_stream(stream, following.data.schema, options=options) as writer,
                ):
                    size = 0
                    while following is not None and size < SPLITS * engine.settings.split_bytes:
                        writer.write_batch(following.data)
                        size += following.data.nbytes
                        row += following.data.num_rows
                        following = next(batches, None)
    except OSError as error:
        hint = "free space there; what was kept is removed when the job is begun again"
        raise WriteError(f"cannot keep the rows of the source: {error}", journal.folder, hint) from error
    journal.add("chunks", chunks=chunks)


def _chunk(storage: Storage, path: str, first_row: int) -> Generator[Batch, None, None]:
    with storage.open_input(path) as file, pa.ipc.open_stream(file) as reader:
        for data in reader:
            yield Batch(data, "", first_row)
            first_row += data.num_rows
