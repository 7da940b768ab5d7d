"""The live files of a table version, streamed out of its manifests, with the deletes that apply to each.

References
----------
.. [1] Iceberg table spec, "Scan Planning".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal

from pyiceberg.conversions import from_bytes
from pyiceberg.manifest import DataFile, ManifestContent, ManifestEntry, ManifestFile
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.transforms import IdentityTransform, VoidTransform
from pyiceberg.types import PrimitiveType

from iceblink.errors import ColumnNotFound, PlanError
from iceblink.lake.deletes import DeleteIndex
from iceblink.lake.entries import FileEntry
from iceblink.lake.manifest_files import Origin, forget, read_data_files, read_manifest, read_manifest_list
from iceblink.lake.pruning import Pruner, Values, WholeMatch, partition_values
from iceblink.lake.values import Converter, to_python
from iceblink.predicate import Predicate, columns

if TYPE_CHECKING:
    from iceblink.lake.table import Table

READERS = 8
"""Manifests read at once: they wait on storage more than they compute."""


def live_files(table: Table, predicate: Predicate, bounds: Collection[str] = ()) -> Iterator[FileEntry]:
    """Return the files that may hold rows for which `predicate` is true; what `Table.files` does.

    Parameters
    ----------
    table : Table
    predicate : Predicate
    bounds : collection of str
        Columns to decode bounds of besides those in `predicate`.

    Raises
    ------
    ColumnNotFound, DataCorrupt
    PlanError
        A file is not Parquet.
    """
    return (entry for entry, _ in _matching(table, predicate, bounds))


def files_matching(table: Table, predicate: Predicate) -> Iterator[tuple[FileEntry, Literal["all", "some"]]]:
    """Return the same files, each with whether certainly all of its rows match, or perhaps only some."""
    whole = WholeMatch(predicate, table.iceberg_schema, table.pyiceberg.specs())
    for entry, file in _matching(table, predicate, ()):
        yield entry, "all" if whole.matches(file, entry.spec_id, partition_values(file)) else "some"


def data_files_by_path(table: Table, paths: Set[str]) -> list[DataFile]:
    """Return PyIceberg's own objects for the live data files at `paths`, as a commit that removes them needs.

    Paths that this version does not have are left out; compare the lengths.
    """
    found: list[DataFile] = []
    for manifest, origin in _manifests(table):
        if manifest.content == ManifestContent.DATA and len(found) < len(paths):
            found += [file for file in read_data_files(manifest, origin) if file.file_path in paths]
    return found


def total_files(table: Table) -> int:
    """Count the data files by the manifest list alone, where the snapshot's summary does not say."""
    data = [manifest for manifest, _ in _manifests(table) if manifest.content == ManifestContent.DATA]
    return sum((one.added_files_count or 0) + (one.existing_files_count or 0) for one in data)


def verify(table: Table) -> None:
    """Read every manifest of this version anew; DataCorrupt names the one that is damaged."""
    forget()
    for manifest, origin in _manifests(table):
        read_manifest(manifest, origin)


def origin_of(table: Table, snapshot: Snapshot) -> Origin:
    """Return what errors should say of the metadata of `snapshot`."""
    return Origin(table.name, snapshot.snapshot_id, snapshot.parent_snapshot_id, table.storage)


Listed = tuple[ManifestFile, Origin]


def _manifests(table: Table) -> list[Listed]:
    snapshot = table.snapshot
    if snapshot is None:
        return []
    origin = origin_of(table, snapshot)
    return [(manifest, origin) for manifest in read_manifest_list(snapshot.manifest_list, origin)]


def _matching(table: Table, predicate: Predicate, bounds: Collection[str]) -> Iterator[tuple[FileEntry, DataFile]]:
    schema, specs = table.iceberg_schema, table.pyiceberg.specs()
    pruner = Pruner(predicate, schema, specs)
    decoder = _Decoder(schema, columns(predicate) | set(bounds))
    if pruner.nothing:
        return
    listed = [one for one in _manifests(table) if pruner.keeps_manifest(one[0])]
    shapes = {spec_id: _SpecShape(spec, schema) for spec_id, spec in specs.items()}
    deletes = DeleteIndex()
    for manifest, entries in _read_ahead(one for one in listed if one[0].content == ManifestContent.DELETES):
        spec_id = manifest.partition_spec_id
        for entry in entries:
            file = entry.data_file
            key = (spec_id, partition_values(file))
            deletes.add(file, _sequence(entry, manifest), key, shapes[spec_id].partitioned)

    for manifest, entries in _read_ahead(one for one in listed if one[0].content == ManifestContent.DATA):
        spec_id = manifest.partition_spec_id
        shape = shapes[spec_id]
        for entry in entries:
            file = entry.data_file
            values = partition_values(file)
            if not pruner.keeps_partition(spec_id, values) or not pruner.keeps_file(file):
                continue
            if file.file_format.upper() != "PARQUET":
                raise PlanError(
                    f"a data file is {file.file_format}, only Parquet can be read",
                    f"table {table.name}, file {file.file_path}",
                    "rewrite the table as Parquet with the engine that made it",
                )
            partition, identity = shape.values(values)
            yield (
                FileEntry(
                    file.file_path,
                    file.file_size_in_bytes,
                    file.record_count,
                    spec_id,
                    partition,
                    identity,
                    _NOTHING if file.column_sizes is None else file.column_sizes,  # asking its length would decode it
                    _NOTHING if file.null_value_counts is None else file.null_value_counts,
                    decoder.decode(file.lower_bounds),
                    decoder.decode(file.upper_bounds),
                    deletes.applying_to(file.file_path, _sequence(entry, manifest), (spec_id, values)),
                ),
                file,
            )


def _sequence(entry: ManifestEntry, manifest: ManifestFile) -> int:
    return manifest.sequence_number if entry.sequence_number is None else entry.sequence_number


_NOTHING: Mapping[int, int] = {}
_UNKNOWN = object()
"""A value that is there but cannot be said in Python: nothing may be concluded from it."""

Loaded = tuple[ManifestFile, list[ManifestEntry]]


def _read_ahead(listed: Iterable[Listed]) -> Iterator[Loaded]:
    """Read manifests in order, a few ahead of the consumer."""
    wanted = deque(listed)
    if len(wanted) == 1:
        yield _load(wanted[0])
        return
    pool = ThreadPoolExecutor(READERS, thread_name_prefix="iceblink-manifest")
    running: deque[Future[Loaded]] = deque()
    try:
        while wanted or running:
            while wanted and len(running) < READERS:
                running.append(pool.submit(_load, wanted.popleft()))
            yield running.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _load(listed: Listed) -> Loaded:
    manifest, origin = listed
    return manifest, read_manifest(manifest, origin)


class _SpecShape:
    """The partition fields of one spec: names, converters, and which are a column's own value."""

    def __init__(self, spec: PartitionSpec, schema: Schema) -> None:
        kinds = [field.field_type for field in spec.partition_type(schema).fields]
        self.partitioned = any(not isinstance(field.transform, VoidTransform) for field in spec.fields)
        self._names = [field.name for field in spec.fields]
        self._converters = [to_python(kind) for kind in kinds]
        self._sources = [
            field.source_id if isinstance(field.transform, IdentityTransform) else None for field in spec.fields
        ]
        self._known: dict[Values, tuple[Mapping[str, object], Mapping[int, object]]] = {}

    def values(self, stored: Values) -> tuple[Mapping[str, object], Mapping[int, object]]:
        """Return values by partition field name, and by source field id for identity fields; shared between files."""
        known = self._known.get(stored)
        if known is None:
            shown = list(map(_converted, stored, self._converters))
            named = {name: value for name, value in zip(self._names, shown, strict=True) if value is not _UNKNOWN}
            identity = {
                source: value
                for source, value in zip(self._sources, shown, strict=True)
                if source is not None and value is not _UNKNOWN
            }
            known = self._known[stored] = named, identity
        return known


class _Decoder:
    """Decodes bounds of chosen columns only: most of a manifest is bounds that nobody asks for."""

    def __init__(self, schema: Schema, names: Collection[str]) -> None:
        fields = {field.name: field for field in schema.fields}
        self._wanted: list[tuple[int, PrimitiveType, Converter | None]] = []
        for name in names:
            if name not in fields:
                raise ColumnNotFound.of(name, fields)
            kind = fields[name].field_type
            if isinstance(kind, PrimitiveType):
                self._wanted.append((fields[name].field_id, kind, to_python(kind)))

    def decode(self, stored: Mapping[int, bytes] | None) -> Mapping[int, object]:
        if not stored or not self._wanted:
            return {}
        found: dict[int, object] = {}
        for field_id, kind, converter in self._wanted:
            raw = stored.get(field_id)
            if raw is not None:
                value = _converted(from_bytes(kind, raw), converter)
                if value is not _UNKNOWN:
                    found[field_id] = value
        return found


def _converted(value: Any, converter: Converter | None) -> object:
    if value is None or converter is None:
        return value
    try:
        return converter(value)
    except OverflowError:  # a year or a nanosecond, which Python does not have
        return _UNKNOWN
