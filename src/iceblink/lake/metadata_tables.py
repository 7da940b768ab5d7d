"""The metadata of a table as tables: its snapshots, files, partitions and so on.

What concerns files is built here and not by PyIceberg, whose tables fail on uuid columns and on empty tables and do not
know deletion vectors. Values are shown typed, a uuid as text.

References
----------
.. [1] Apache Iceberg documentation, "Spark Queries", section "Inspecting tables".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyiceberg.conversions import from_bytes
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
)
from pyiceberg.table import Table as IcebergTable
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.types import IcebergType, NestedField, PrimitiveType, UUIDType

from iceblink.errors import ConfigError, nearest
from iceblink.lake.deletes import REFERENCED
from iceblink.lake.manifest_files import read_manifest, read_manifest_list
from iceblink.lake.manifests import origin_of, verify
from iceblink.lake.pruning import partition_values
from iceblink.lake.schemas import Beside, arrow_type
from iceblink.lake.statistics import statistics_of
from iceblink.lake.values import to_python

if TYPE_CHECKING:
    from iceblink.lake.table import Table

DATA = frozenset({DataFileContent.DATA.value})
DELETES = frozenset({DataFileContent.POSITION_DELETES.value, DataFileContent.EQUALITY_DELETES.value})

_COUNTS = pa.map_(pa.int32(), pa.int64())
_BOUNDS = pa.map_(pa.int32(), pa.binary())


def metadata_table(table: Table, kind: str) -> pa.Table:
    """Return one of `KINDS`, of this version of `table`; what `Table.metadata_table` does."""
    if kind in _OURS:
        return _OURS[kind](table)
    if kind not in KINDS:
        raise ConfigError(f"no metadata table {kind!r}", table.name, nearest(kind, KINDS, "kinds"))
    iceberg = table.pyiceberg
    pinned = iceberg.metadata.model_copy(update={"current_snapshot_id": table.snapshot_id})
    view = IcebergTable(iceberg.name(), pinned, iceberg.metadata_location, iceberg.io, iceberg.catalog)
    try:
        found: pa.Table = getattr(view.inspect, kind)()
    except Exception:  # a damaged file raises whatever its bytes happen to mean
        verify(table)  # names the file that is to blame
        raise
    return found


Found = tuple[ManifestFile, ManifestEntry]


def _entries(table: Table, every_snapshot: bool = False) -> Iterator[Found]:
    """Read the entries of this version, those of removed files included; or of all versions, each manifest once."""
    snapshots = table.pyiceberg.metadata.snapshots if every_snapshot else [table.snapshot]
    read: set[str] = set()
    for snapshot in snapshots:
        if snapshot is None:
            continue
        origin = origin_of(table, snapshot)
        for manifest in read_manifest_list(snapshot.manifest_list, origin):
            if manifest.manifest_path not in read:
                read.add(manifest.manifest_path)
                for entry in read_manifest(manifest, origin, live=False):
                    yield manifest, entry


class _Rows:
    """Makes rows of files: the columns depend on the table's schema and partition specs."""

    def __init__(self, table: Table) -> None:
        self._columns = [
            (field.name, field.field_id, field.field_type)
            for field in table.iceberg_schema.fields
            if isinstance(field.field_type, PrimitiveType)
        ]
        self._specs = table.pyiceberg.specs()
        self._fields = _partition_fields(table.pyiceberg.metadata)
        self.partition = pa.struct([pa.field(field.name, _shown_type(field.field_type)) for field in self._fields])
        metrics = [pa.field(name, _metrics_type(kind)) for name, _, kind in self._columns]
        self.file = pa.struct(
            [
                pa.field("content", pa.int32()),
                pa.field("file_path", pa.string()),
                pa.field("file_format", pa.string()),
                pa.field("spec_id", pa.int32()),
                *([pa.field("partition", self.partition)] if self._fields else []),
                pa.field("record_count", pa.int64()),
                pa.field("file_size_in_bytes", pa.int64()),
                *(pa.field(f"{name}s", _COUNTS) for name in ("column_size", *_METRIC_COUNTS)),
                pa.field("lower_bounds", _BOUNDS),
                pa.field("upper_bounds", _BOUNDS),
                pa.field("split_offsets", pa.list_(pa.int64())),
                pa.field("equality_ids", pa.list_(pa.int32())),
                pa.field("sort_order_id", pa.int32()),
                *([pa.field("readable_metrics", pa.struct(metrics))] if metrics else []),
            ]
        )

    def partition_of(self, manifest: ManifestFile, file: DataFile) -> dict[str, object]:
        spec = self._specs[manifest.partition_spec_id]
        stored = dict(zip((field.field_id for field in spec.fields), partition_values(file), strict=True))
        return {field.name: _shown(field.field_type, stored.get(field.field_id)) for field in self._fields}

    def file_of(self, manifest: ManifestFile, file: DataFile) -> dict[str, object]:
        counts = {f"{name}s": getattr(file, f"{name}s") for name in ("column_size", *_METRIC_COUNTS)}
        bounds = {"lower_bounds": file.lower_bounds, "upper_bounds": file.upper_bounds}
        return {
            "content": file.content,
            "file_path": file.file_path,
            "file_format": str(file.file_format),
            "spec_id": manifest.partition_spec_id,
            "partition": self.partition_of(manifest, file),
            "record_count": file.record_count,
            "file_size_in_bytes": file.file_size_in_bytes,
            **{name: None if known is None else list(known.items()) for name, known in (counts | bounds).items()},
            "split_offsets": file.split_offsets,
            "equality_ids": file.equality_ids,
            "sort_order_id": file.sort_order_id,
            "readable_metrics": {name: _metrics(file, field_id, kind) for name, field_id, kind in self._columns},
        }


def _partition_fields(metadata: TableMetadata) -> list[NestedField]:
    """Return the partition fields of all specs; where several have a name, the older bear their id after it.

    PyIceberg's own ``specs_struct`` fails where a source column is gone.
    """
    kinds = {
        field_id: schema.find_type(field_id)
        for schema in sorted(metadata.schemas, key=lambda one: one.schema_id)
        for field_id in schema.field_ids
    }
    found: dict[int, NestedField] = {}
    for spec in sorted(metadata.partition_specs, key=lambda one: -one.spec_id):
        for field in spec.fields:
            if field.field_id not in found and field.source_id in kinds:
                taken = any(one.name == field.name for one in found.values())
                name = f"{field.name}_{field.field_id}" if taken else field.name
                found[field.field_id] = NestedField(
                    field.field_id, name, field.transform.result_type(kinds[field.source_id]), required=False
                )
    return sorted(found.values(), key=lambda one: one.field_id)


_METRIC_COUNTS = ("value_count", "null_value_count", "nan_value_count")


def _metrics_type(kind: IcebergType) -> pa.DataType:
    counts = [pa.field(name, pa.int64()) for name in ("column_size", *_METRIC_COUNTS)]
    return pa.struct([*counts, *(pa.field(name, _shown_type(kind)) for name in ("lower_bound", "upper_bound"))])


def _metrics(file: DataFile, field_id: int, kind: PrimitiveType) -> dict[str, object]:
    def of(known: Mapping[int, Any] | None) -> Any:
        return None if known is None else known.get(field_id)

    lower, upper = of(file.lower_bounds), of(file.upper_bounds)
    return {
        **{name: of(getattr(file, f"{name}s")) for name in ("column_size", *_METRIC_COUNTS)},
        "lower_bound": None if lower is None else _shown(kind, from_bytes(kind, lower)),
        "upper_bound": None if upper is None else _shown(kind, from_bytes(kind, upper)),
    }


def _shown_type(kind: IcebergType) -> pa.DataType:
    return pa.string() if isinstance(kind, UUIDType) else arrow_type(kind, Beside())


def _shown(kind: IcebergType, stored: Any) -> object:
    convert = to_python(kind)
    if stored is None or convert is None:
        return stored
    try:
        value = convert(stored)
    except OverflowError:
        return None
    return str(value) if isinstance(kind, UUIDType) else value


def _files(table: Table, contents: Iterable[int], every_snapshot: bool = False) -> pa.Table:
    rows = _Rows(table)
    seen: set[tuple[str, object]] = set()
    made = []
    for manifest, entry in _entries(table, every_snapshot):
        file = entry.data_file
        # several deletion vectors share a Puffin file: tell them apart by their targets
        place = (file.file_path, file[REFERENCED] if manifest.content == ManifestContent.DELETES else None)
        if file.content in contents and entry.status != ManifestEntryStatus.DELETED.value and place not in seen:
            seen.add(place)
            made.append(rows.file_of(manifest, file))
    return pa.Table.from_pylist(made, pa.schema(list(rows.file)))


def _all_entries(table: Table) -> pa.Table:
    rows = _Rows(table)
    schema = pa.schema(
        [
            pa.field("status", pa.int32()),
            pa.field("snapshot_id", pa.int64()),
            pa.field("sequence_number", pa.int64()),
            pa.field("file_sequence_number", pa.int64()),
            pa.field("data_file", rows.file),
        ]
    )
    made = []
    for manifest, entry in _entries(table):
        inherited = manifest.sequence_number
        made.append(
            {
                "status": entry.status,
                "snapshot_id": manifest.added_snapshot_id if entry.snapshot_id is None else entry.snapshot_id,
                "sequence_number": inherited if entry.sequence_number is None else entry.sequence_number,
                "file_sequence_number": inherited if entry.file_sequence_number is None else entry.file_sequence_number,
                "data_file": rows.file_of(manifest, entry.data_file),
            }
        )
    return pa.Table.from_pylist(made, schema)


_PARTITION_COUNTS = (
    "record_count",
    "file_count",
    "total_data_file_size_in_bytes",
    "delete_record_count",
    "delete_file_count",
)


def _partitions(table: Table) -> pa.Table:
    rows = _Rows(table)
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for manifest, entry in _entries(table):
        file = entry.data_file
        if entry.status == ManifestEntryStatus.DELETED.value:
            continue
        partition = rows.partition_of(manifest, file)
        key = (manifest.partition_spec_id, *partition.values())
        row = found.setdefault(
            key, {"partition": partition, "spec_id": manifest.partition_spec_id, **dict.fromkeys(_PARTITION_COUNTS, 0)}
        )
        if file.content in DATA:
            row["record_count"] += file.record_count
            row["file_count"] += 1
            row["total_data_file_size_in_bytes"] += file.file_size_in_bytes
        else:
            row["delete_record_count"] += file.record_count
            row["delete_file_count"] += 1
    schema = pa.schema(
        [
            *([pa.field("partition", rows.partition)] if rows.partition.num_fields else []),
            pa.field("spec_id", pa.int32()),
            *(pa.field(name, pa.int64()) for name in _PARTITION_COUNTS),
        ]
    )
    return pa.Table.from_pylist(list(found.values()), schema)


_STATISTICS = pa.schema(
    {
        "column": pa.string(),
        "field_id": pa.int32(),
        "distinct_values": pa.int64(),
        "snapshot_id": pa.int64(),
        "statistics_path": pa.string(),
    }
)


def _statistics(table: Table) -> pa.Table:
    """Return what the statistics nearest to this version say of each column."""
    found = statistics_of(table)
    if found is None:
        return _STATISTICS.empty_table()
    ids = {one.name: one.field_id for one in table.iceberg_schema.fields}
    made = [
        {
            "column": name,
            "field_id": ids[name],
            "distinct_values": count,
            "snapshot_id": found.snapshot_id,
            "statistics_path": found.path,
        }
        for name, count in found.distinct.items()
    ]
    return pa.Table.from_pylist(made, _STATISTICS)


_OURS: dict[str, Callable[[Table], pa.Table]] = {
    "files": partial(_files, contents=DATA | DELETES),
    "data_files": partial(_files, contents=DATA),
    "delete_files": partial(_files, contents=DELETES),
    "all_files": partial(_files, contents=DATA | DELETES, every_snapshot=True),
    "entries": _all_entries,
    "partitions": _partitions,
    "statistics": _statistics,
}
KINDS = (
    *_OURS,
    "snapshots",
    "history",
    "refs",
    "manifests",
    "all_manifests",
    "metadata_log_entries",
)
