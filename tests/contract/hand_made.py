"""Snapshots that no writer here makes: deletes by position and by equal values, and compactions."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.avro.file import AvroOutputFile
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestWriterV2,
)
from pyiceberg.typedef import Record

import iceblink as ib
from iceblink.lake.commit import Commit
from iceblink.lake.delete_files import POSITION_DELETES
from iceblink.lake.files import NewFile
from iceblink.lake.table import Table
from iceblink.lake.write import TableWriter


class DeleteManifestWriter(ManifestWriterV2):
    """A manifest of delete files, which PyIceberg reads but does not write."""

    def content(self) -> ManifestContent:
        return ManifestContent.DELETES

    def new_writer(self) -> AvroOutputFile[ManifestEntry]:
        schema = self._with_partition(2)
        return AvroOutputFile(self._output_file, schema, "manifest_entry", schema, {**self._meta, "content": "deletes"})


def loaded(lake: ib.Lake, name: str) -> Table:
    return lake.session.catalog.load(name)


def relabel(lake: ib.Lake, name: str, operation: str) -> None:
    """Let the newest snapshot say that it was made by another operation, which PyIceberg has no writer for."""
    table = loaded(lake, name)
    path = Path(table.pyiceberg.metadata_location)
    metadata = json.loads(path.read_text())
    (newest,) = [one for one in metadata["snapshots"] if one["snapshot-id"] == table.snapshot_id]
    newest["summary"]["operation"] = operation
    path.write_text(json.dumps(metadata) + " " * (len(path.read_text()) % 7 + 1))  # another length: it is read again


def data_files(lake: ib.Lake, table: Table, rows: pa.Table | None) -> list[NewFile]:
    if rows is None or not rows.num_rows:
        return []
    with TableWriter(table, lake.session.engine.settings) as writer:
        for batch in rows.to_batches():
            writer.write(batch)
        return writer.finish()


def row_delta(
    lake: ib.Lake, name: str, deletes: Callable[[Table, Path], list[DataFile]], rows: pa.Table | None = None
) -> None:
    """Commit delete files, and rows that they do not concern, in one snapshot: as streaming upserts do."""
    table = loaded(lake, name)
    iceberg = table.pyiceberg
    folder = Path(table.location, "data")
    folder.mkdir(exist_ok=True)
    found = deletes(table, folder)
    transaction = iceberg.transaction()
    with transaction.update_snapshot().fast_append() as append:
        for file in data_files(lake, table, rows):
            append.append_data_file(file.data_file())
        output = iceberg.io.new_output(f"{table.location}/metadata/deletes-{uuid4().hex}.avro")
        with DeleteManifestWriter(iceberg.spec(), iceberg.schema(), output, append.snapshot_id, "deflate") as writer:
            for delete in found:
                writer.add_entry(
                    ManifestEntry.from_args(
                        status=ManifestEntryStatus.ADDED, snapshot_id=append.snapshot_id, data_file=delete
                    )
                )
        others = append._process_manifests
        append._process_manifests = lambda manifests: [writer.to_manifest_file(), *others(manifests)]  # type: ignore[method-assign]
    transaction.commit_transaction()
    relabel(lake, name, "overwrite" if rows is not None else "delete")


def delete_file(data: pa.Table, folder: Path, content: DataFileContent, ids: list[int] | None = None) -> DataFile:
    path = folder / f"{uuid4().hex}-deletes.parquet"
    pq.write_table(data, path)
    file = DataFile.from_args(
        content=content,
        file_path=str(path),
        file_format=FileFormat.PARQUET,
        partition=Record(),
        record_count=data.num_rows,
        file_size_in_bytes=path.stat().st_size,
        equality_ids=ids,
    )
    file.spec_id = 0
    return file


def by_position(positions: Sequence[tuple[str, int]]) -> Callable[[Table, Path], list[DataFile]]:
    """Return deletes of (path, position)."""

    def made(table: Table, folder: Path) -> list[DataFile]:
        listed = pa.table([[path for path, _ in positions], [at for _, at in positions]], schema=POSITION_DELETES)
        return [delete_file(listed, folder, DataFileContent.POSITION_DELETES)]

    return made


def by_value(column: str, values: Sequence[Any]) -> Callable[[Table, Path], list[DataFile]]:
    """Return deletes of the rows of which a column has one of these values."""

    def made(table: Table, folder: Path) -> list[DataFile]:
        field = table.schema.field(column)
        keys = pa.table([pa.array(values, field.type)], schema=pa.schema([field]))
        number = int((field.metadata or {})[b"PARQUET:field_id"])
        return [delete_file(keys, folder, DataFileContent.EQUALITY_DELETES, [number])]

    return made


def compact(lake: ib.Lake, name: str) -> None:
    """Rewrite all live rows to one file, as a compaction does."""
    table = loaded(lake, name)
    files = data_files(lake, table, lake.table(name).to_arrow())
    Commit(table).overwrite({entry.path for entry in table.files()}, files).run()
    relabel(lake, name, "replace")


def expire(lake: ib.Lake, name: str, keep: int) -> None:
    """Expire all but the newest snapshots."""
    found = [row["snapshot_id"] for row in lake.history(name).to_pylist()]
    expiring = loaded(lake, name).pyiceberg.maintenance.expire_snapshots()
    for snapshot in found[:-keep]:
        expiring = expiring.by_id(snapshot)
    expiring.commit()
