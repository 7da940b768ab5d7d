"""A dataset as plain Parquet files in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from iceblink.errors import WriteError
from iceblink.plan.nodes import Plan, Repartition
from iceblink.plan.sql import numbered_query, unused
from iceblink.run.local_engine import LocalEngine
from iceblink.scan.batch import Batch

PART = "__iceblink_part"


def write_parquet(plan: Plan, engine: LocalEngine, folder: str) -> list[str]:
    """Run `plan` and write its rows; returns the files. What fails leaves no file behind.

    Raises
    ------
    WriteError
        The folder holds files already, or its disk is full.
    """
    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise WriteError(f"{folder!r} exists and is not an empty folder", "write_parquet", "choose a new folder")
    target.mkdir(parents=True, exist_ok=True)
    files = _Files(target, plan.schema)
    try:
        if isinstance(plan, Repartition) and plan.by:
            part = unused(PART, plan.schema.names)
            tree = numbered_query(plan.source.name, part, plan.by, plan.partitions)
            _divide(engine.batches(engine.query(tree, {plan.source.name: plan.source})), part, files)
        elif isinstance(plan, Repartition):
            _deal(engine.batches(plan), files, plan.partitions)
        else:
            _roll(engine.batches(plan), files, engine.settings.file_bytes)
        return files.finish()
    except BaseException as error:
        files.abort()
        if isinstance(error, OSError):
            raise WriteError(str(error), f"write_parquet({folder!r})", "free space, or choose another disk") from error
        raise


def _roll(batches: Iterator[Batch], files: _Files, file_bytes: int) -> None:
    """Fill one file after the other."""
    number = 0
    for batch in batches:
        if files.put(number, batch.data) >= file_bytes:
            number += 1


def _deal(batches: Iterator[Batch], files: _Files, parts: int) -> None:
    """Give the parts batches in turns."""
    for number, batch in enumerate(batches):
        files.put(number % parts, batch.data)


def _divide(batches: Iterator[Batch], part: str, files: _Files) -> None:
    """Put each row into the file of its number in column `part`."""
    for batch in batches:
        parts = batch.data.column(part)
        rows = batch.data.drop_columns([part])
        for number in pc.unique(parts).to_pylist():
            files.put(number, rows.filter(pc.equal(parts, number)))


class _Files:
    """Numbered Parquet files, opened when first written to."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self._folder, self._schema = folder, schema
        self._open: dict[int, tuple[Path, pq.ParquetWriter]] = {}

    def put(self, number: int, batch: pa.RecordBatch) -> int:
        """Write a batch to file `number`; returns the file's size so far [bytes]."""
        if number not in self._open:
            path = self._folder / f"part-{number:05}.parquet"
            writer = pq.ParquetWriter(path, self._schema, compression="zstd", write_page_checksum=True)
            self._open[number] = path, writer
        path, writer = self._open[number]
        writer.write_batch(batch)
        return path.stat().st_size

    def finish(self) -> list[str]:
        """Close all; a dataset without rows gives one file without rows."""
        if not self._open:
            self.put(0, pa.RecordBatch.from_pylist([], schema=self._schema))
        for _, writer in self._open.values():
            writer.close()
        return [str(path) for _, (path, _) in sorted(self._open.items())]

    def abort(self) -> None:
        """Remove all."""
        for path, writer in self._open.values():
            with suppress(OSError, pa.ArrowException):
                writer.close()
            path.unlink(missing_ok=True)
