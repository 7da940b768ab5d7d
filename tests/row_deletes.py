"""Rows deleted as other engines do it: by delete files, which nothing here writes; made by hand from plain parts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.conversions import to_bytes
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    ManifestWriterV2,
)
from pyiceberg.table import Table as IcebergTable
from pyiceberg.types import StringType

import iceblink as ib

PATH_FIELD, POSITION_FIELD = 2147483546, 2147483545
Key = tuple[int, tuple[Any, ...]]


class DeleteManifestWriter(ManifestWriterV2):
    """PyIceberg's writer, of a manifest of delete files."""

    def content(self) -> ManifestContent:
        return ManifestContent.DELETES

    @property
    def _meta(self) -> dict[str, str]:
        return {**super()._meta, "content": "deletes"}


def live(lake: ib.Lake, name: str) -> dict[Key, list[DataFile]]:
    """Return the data files of a table by partition, as PyIceberg sees them."""
    table = lake.session.catalog.load(name).pyiceberg
    found: dict[Key, list[DataFile]] = defaultdict(list)
    snapshot = table.current_snapshot()
    for manifest in snapshot.manifests(table.io) if snapshot else ():
        if manifest.content == ManifestContent.DATA:
            for entry in manifest.fetch_manifest_entry(table.io):
                file = entry.data_file
                found[file.spec_id, tuple(file.partition[at] for at in range(len(file.partition)))].append(file)
    return found


def delete_by_position(lake: ib.Lake, name: str, ids: Collection[int], bounded: bool = True) -> None:
    """Delete the rows of these ``id`` by one delete file for each partition that has any.

    Without bounds nobody can tell from the metadata which files it names.
    """
    table = lake.session.catalog.load(name).pyiceberg
    made: list[DataFile] = []
    for files in live(lake, name).values():
        rows = sorted(
            (file.file_path, place)
            for file in files
            for place, number in enumerate(pq.read_table(file.file_path, columns=["id"])["id"].to_pylist())
            if number in ids
        )
        if rows:
            schema = pa.schema([field("file_path", pa.string(), PATH_FIELD), field("pos", pa.int64(), POSITION_FIELD)])
            listed = pa.table([[path for path, _ in rows], [place for _, place in rows]], schema=schema)
            bounds = {
                "lower_bounds": {PATH_FIELD: to_bytes(StringType(), rows[0][0])},
                "upper_bounds": {PATH_FIELD: to_bytes(StringType(), rows[-1][0])},
            }
            given = bounds if bounded else {}
            made.append(delete_file(table, listed, files[0], DataFileContent.POSITION_DELETES, **given))
    commit(table, made, "position")


def delete_by_value(lake: ib.Lake, name: str, ids: Iterable[int]) -> None:
    """Delete the rows of these ``id`` by one equality delete for each partition."""
    table = lake.session.catalog.load(name).pyiceberg
    number = table.schema().find_field("id").field_id
    listed = pa.table([list(ids)], schema=pa.schema([field("id", pa.int64(), number)]))
    made = [
        delete_file(table, listed, files[0], DataFileContent.EQUALITY_DELETES, equality_ids=[number])
        for files in live(lake, name).values()
    ]
    commit(table, made, "equality")


def field(name: str, dtype: pa.DataType, number: int) -> pa.Field:
    return pa.field(name, dtype, nullable=False, metadata={"PARQUET:field_id": str(number)})


def delete_file(
    table: IcebergTable, rows: pa.Table, like: DataFile, content: DataFileContent, **given: Any
) -> DataFile:
    """Write a delete file for the partition of `like`."""
    path = f"{table.location()}/data/{uuid4().hex}-deletes.parquet"
    pq.write_table(rows, path)
    file = DataFile.from_args(
        content=content,
        file_path=path,
        file_format=FileFormat.PARQUET,
        partition=like.partition,
        record_count=rows.num_rows,
        file_size_in_bytes=Path(path).stat().st_size,
        **given,
    )
    file.spec_id = like.spec_id
    return file


def commit(table: IcebergTable, deletes: list[DataFile], kind: str) -> None:
    """Commit delete files in one snapshot."""
    if not deletes:
        return
    rows = sum(file.record_count for file in deletes)
    told = {"added-delete-files": str(len(deletes)), f"added-{kind}-deletes": str(rows)}
    transaction = table.transaction()
    with transaction.update_snapshot(snapshot_properties=told).fast_append() as append:
        made: list[ManifestFile] = []
        for spec_id in sorted({file.spec_id for file in deletes}):
            output = table.io.new_output(f"{table.location()}/metadata/{uuid4().hex}-deletes.avro")
            spec, schema = table.specs()[spec_id], table.schema()
            with DeleteManifestWriter(spec, schema, output, append.snapshot_id, "deflate") as writer:
                for file in deletes:
                    if file.spec_id == spec_id:
                        entry = ManifestEntry.from_args(
                            status=ManifestEntryStatus.ADDED, snapshot_id=append.snapshot_id, data_file=file
                        )
                        writer.add_entry(entry)
            made.append(writer.to_manifest_file())
        append._process_manifests = lambda manifests: [*made, *manifests]  # type: ignore[method-assign]
    transaction.commit_transaction()
