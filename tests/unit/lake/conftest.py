"""Tables whose metadata is made by hand: data files and deletes that no writer here can make."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.avro.file import AvroOutputFile
from pyiceberg.conversions import to_bytes
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

from iceblink.lake.catalog import Catalog
from iceblink.lake.table import Table

PATH_FIELD = 2147483546
_fields = ("key_metadata", "split_offsets", "equality_ids", "sort_order_id")


class DeleteManifestWriter(ManifestWriterV2):
    """A manifest of deletes with the fields of format version 3, which PyIceberg reads but does not write."""

    def content(self) -> ManifestContent:
        return ManifestContent.DELETES

    def new_writer(self) -> AvroOutputFile[ManifestEntry]:
        schema = self._with_partition(3)
        return AvroOutputFile(self._output_file, schema, "manifest_entry", schema, {**self._meta, "content": "deletes"})


@dataclass
class Crafted:
    """Adds files to the metadata of a table; the files themselves are never made."""

    table: Table
    numbers: Iterable[int] = field(default_factory=count)

    def file(
        self,
        name: str,
        partition: tuple[Any, ...] = (),
        bounds: Mapping[str, tuple[Any, Any]] | None = None,
        content: DataFileContent = DataFileContent.DATA,
        version: int = 2,
        **given: Any,
    ) -> DataFile:
        kinds: dict[str, Any] = {one.name: (one.field_id, one.field_type) for one in self.table.iceberg_schema.fields}
        lower = {kinds[key][0]: to_bytes(kinds[key][1], low) for key, (low, _) in (bounds or {}).items()}
        upper = {kinds[key][0]: to_bytes(kinds[key][1], high) for key, (_, high) in (bounds or {}).items()}
        settings: dict[str, Any] = {
            "content": content,
            "file_path": f"{self.table.location}/data/{name}",
            "file_format": FileFormat.PARQUET,
            "partition": Record(*partition),
            "record_count": 10,
            "file_size_in_bytes": 1000,
            "column_sizes": dict.fromkeys(lower, 100),
            "value_counts": dict.fromkeys(lower, 10),
            "null_value_counts": dict.fromkeys(lower, 0),
            "nan_value_counts": {},
            "lower_bounds": lower,
            "upper_bounds": upper,
            **dict.fromkeys(_fields),
            **given,
        }
        file = DataFile.from_args(version, **settings)  # type: ignore[arg-type]  # 2 or 3
        file.spec_id = self.table.pyiceberg.spec().spec_id
        return file

    def append(self, *files: DataFile) -> Table:
        """Commit data files."""
        transaction = self.table.pyiceberg.transaction()
        with transaction.update_snapshot().fast_append() as append:
            for file in files:
                append.append_data_file(file)
        transaction.commit_transaction()
        self.table = self.table.refresh()
        return self.table

    def position_deletes(self, name: str, partition: tuple[Any, ...] = (), **given: Any) -> DataFile:
        return self.file(name, partition, None, DataFileContent.POSITION_DELETES, 3, **given)

    def equality_deletes(self, name: str, ids: list[int], partition: tuple[Any, ...] = ()) -> DataFile:
        return self.file(name, partition, None, DataFileContent.EQUALITY_DELETES, 3, equality_ids=ids)

    def vector(self, name: str, target: str, offset: int, partition: tuple[Any, ...] = ()) -> DataFile:
        target = f"{self.table.location}/data/{target}"
        place = {"referenced_data_file": target, "content_offset": offset, "content_size_in_bytes": 40}
        return self.position_deletes(name, partition, file_format=FileFormat.PUFFIN, **place)

    def delete(self, *deletes: DataFile) -> Table:
        """Commit delete files."""
        iceberg = self.table.pyiceberg
        transaction = iceberg.transaction()
        with transaction.update_snapshot().fast_append() as append:
            output = iceberg.io.new_output(f"{self.table.location}/metadata/deletes-{next(iter(self.numbers))}.avro")
            snapshot_id = append.snapshot_id
            with DeleteManifestWriter(iceberg.spec(), iceberg.schema(), output, snapshot_id, "deflate") as writer:
                for delete in deletes:
                    writer.add_entry(
                        ManifestEntry.from_args(
                            status=ManifestEntryStatus.ADDED, snapshot_id=snapshot_id, data_file=delete
                        )
                    )
            append._process_manifests = lambda manifests: [writer.to_manifest_file(), *manifests]  # type: ignore[method-assign]
        transaction.commit_transaction()
        self.table = self.table.refresh()
        return self.table


@pytest.fixture
def lake(tmp_path: Path) -> Catalog:
    return Catalog.embedded(tmp_path / "a läke #1%20?")


@pytest.fixture
def crafted(lake: Catalog) -> Callable[..., Crafted]:
    """Make a table by the words of `Catalog.create`, to add files to."""

    def make(schema: Mapping[str, str], **given: Any) -> Crafted:
        return Crafted(lake.create("ns.t", schema, **given))

    return make
