"""The live files of a table version, streamed out of its manifests, with the deletes that apply to each.

References
----------
.. [1] Iceberg table spec, "Scan Planning".
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from pyiceberg.conversions import from_bytes
from pyiceberg.manifest import DataFile, ManifestContent, ManifestEntry, ManifestFile
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.transforms import IdentityTransform, VoidTransform
from pyiceberg.types import PrimitiveType

from iceblink.errors import ColumnNotFound, PlanError
from iceblink.lake.deletes import DeleteIndex, PlacedDelete
from iceblink.lake.entries import FileEntry
from iceblink.lake.manifest_files import (
    FILE_FIRST_ROW_ID,
    Origin,
    forget,
    read_data_files,
    read_manifest,
    read_manifest_list,
)
from iceblink.lake.pruning import Pruner, Values, WholeMatch, partition_values
from iceblink.lake.values import Converter, to_python
from iceblink.mapped import Each, Mapped, Result, here
from iceblink.predicate import Predicate, columns

if TYPE_CHECKING:
    from iceblink.lake.table import Table

READERS = 8
"""Manifests read at once: they wait on storage more than they compute."""
BYTE_S = 2e-7
"""What a byte of a manifest, compressed as most are, takes to read [s]: 70 microseconds a file of twenty columns."""

Made = TypeVar("Made")


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
    return files_as(table, predicate, _itself, bounds)


def files_as(
    table: Table,
    predicate: Predicate,
    made: Callable[[FileEntry], Made],
    bounds: Collection[str] = (),
    mapped: Mapped = here,
) -> Iterator[Made]:
    """Return what is made of the same files.

    Parameters
    ----------
    made : callable
        Called where the manifest is read, so picklable if that is elsewhere: an entry is large, and most of it is
        seldom asked for.
    mapped : Mapped
        Reads the manifests.
    """
    return _matching(table, predicate, bounds, _EntryOnly(made), mapped)


def files_matching(table: Table, predicate: Predicate) -> Iterator[tuple[FileEntry, Literal["all", "some"]]]:
    """Return the same files, each with whether certainly all of its rows match, or perhaps only some."""
    whole = WholeMatch(predicate, table.iceberg_schema, table.pyiceberg.specs())
    for entry, file in _matching(table, predicate, (), _both, here):
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


@dataclass(frozen=True)
class FileSearch:
    """Which files of one version are wanted: all that it takes to read a manifest, without asking any catalog.

    Parameters
    ----------
    origin : Origin
    schema : Schema
        Of the version.
    specs : mapping of int to PartitionSpec
        All specs of the table, by id.
    predicate : Predicate
    bounds : collection of str
        Columns to decode bounds of besides those in `predicate`.
    """

    origin: Origin
    schema: Schema
    specs: Mapping[int, PartitionSpec]
    predicate: Predicate
    bounds: Collection[str]


def _matching(
    table: Table,
    predicate: Predicate,
    bounds: Collection[str],
    made: Callable[[FileEntry, DataFile], Made],
    mapped: Mapped,
) -> Iterator[Made]:
    schema, specs = table.iceberg_schema, table.pyiceberg.specs()
    pruner = Pruner(predicate, schema, specs)
    _Decoder(schema, columns(predicate) | set(bounds))  # unknown columns are named, whether there are files or not
    snapshot = table.snapshot
    if pruner.nothing or snapshot is None:
        return
    search = FileSearch(origin_of(table, snapshot), schema, specs, predicate, bounds)
    listed = [manifest for manifest, _ in _manifests(table) if pruner.keeps_manifest(manifest)]
    readers = table.storage.at_once(table.location, READERS)
    found = mapped(_each(partial(DeleteReader, search), readers), _of(listed, ManifestContent.DELETES))
    deletes = [delete for some in found for delete in some]
    files = mapped(_each(partial(DataReader, search, deletes, made), readers), _of(listed, ManifestContent.DATA))
    for some in files:
        yield from some


def _of(listed: Iterable[ManifestFile], content: ManifestContent) -> list[ManifestFile]:
    return [manifest for manifest in listed if manifest.content == content]


def _each(build: Callable[[], Callable[[ManifestFile], Result]], readers: int) -> Each[ManifestFile, Result]:
    return Each("manifests", build, _cost_s, readers)


def _cost_s(manifest: ManifestFile) -> float:
    return manifest.manifest_length * BYTE_S


class DeleteReader:
    """Reads the deletes of a manifest."""

    def __init__(self, search: FileSearch) -> None:
        self._search = search
        self._shapes = _shapes(search)

    def __call__(self, manifest: ManifestFile) -> list[PlacedDelete]:
        spec_id = manifest.partition_spec_id
        partitioned = self._shapes[spec_id].partitioned
        return [
            PlacedDelete.of(
                entry.data_file, sequence_of(entry, manifest), (spec_id, partition_values(entry.data_file)), partitioned
            )
            for entry in read_manifest(manifest, self._search.origin)
        ]


class DataReader(Generic[Made]):
    """Reads the wanted files of a manifest, each with its deletes."""

    def __init__(
        self, search: FileSearch, deletes: Iterable[PlacedDelete], made: Callable[[FileEntry, DataFile], Made]
    ) -> None:
        self._search, self._made = search, made
        self._deletes = DeleteIndex(deletes)
        self._pruner = Pruner(search.predicate, search.schema, search.specs)
        self._decoder = _Decoder(search.schema, columns(search.predicate) | set(search.bounds))
        self._shapes = _shapes(search)
        self._lock = Lock()

    def __call__(self, manifest: ManifestFile) -> list[Made]:
        entries = read_manifest(manifest, self._search.origin)
        with self._lock:  # PyIceberg's evaluators note down what they look at
            return [self._made(*found) for found in self.wanted(manifest, entries)]

    def wanted(self, manifest: ManifestFile, entries: Iterable[ManifestEntry]) -> Iterator[tuple[FileEntry, DataFile]]:
        """Yield those of some entries that may hold a wanted row, with their deletes."""
        spec_id = manifest.partition_spec_id
        shape = self._shapes[spec_id]
        for entry in entries:
            file = entry.data_file
            values = partition_values(file)
            if not self._pruner.keeps_partition(spec_id, values) or not self._pruner.keeps_file(file):
                continue
            if file.file_format.upper() != "PARQUET":
                raise PlanError(
                    f"a data file is {file.file_format}, only Parquet can be read",
                    f"table {self._search.origin.table}, file {file.file_path}",
                    "rewrite the table as Parquet with the engine that made it",
                )
            partition, identity = shape.values(values)
            sequence, first_row_id = sequence_of(entry, manifest), file[FILE_FIRST_ROW_ID]
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
                    self._decoder.decode(file.lower_bounds),
                    self._decoder.decode(file.upper_bounds),
                    self._deletes.applying_to(file.file_path, sequence, (spec_id, values)),
                    lineage=None if first_row_id is None else (first_row_id, sequence),
                ),
                file,
            )


@dataclass(frozen=True)
class _EntryOnly(Generic[Made]):
    made: Callable[[FileEntry], Made]

    def __call__(self, entry: FileEntry, _: DataFile) -> Made:
        return self.made(entry)


def _itself(entry: FileEntry) -> FileEntry:
    return entry


def _both(entry: FileEntry, file: DataFile) -> tuple[FileEntry, DataFile]:
    return entry, file


def sequence_of(entry: ManifestEntry, manifest: ManifestFile) -> int:
    """Return the data sequence number of an entry, its manifest's where it has none of its own."""
    return manifest.sequence_number if entry.sequence_number is None else entry.sequence_number


def is_partitioned(spec: PartitionSpec) -> bool:
    """Tell whether a spec has a field that is not void: equality deletes of one without are for all files."""
    return any(not isinstance(field.transform, VoidTransform) for field in spec.fields)


_NOTHING: Mapping[int, int] = {}
_UNKNOWN = object()
"""A value that is there but cannot be said in Python: nothing may be concluded from it."""


def _shapes(search: FileSearch) -> dict[int, _SpecShape]:
    return {spec_id: _SpecShape(spec, search.schema) for spec_id, spec in search.specs.items()}


class _SpecShape:
    """The partition fields of one spec: names, converters, and which are a column's own value."""

    def __init__(self, spec: PartitionSpec, schema: Schema) -> None:
        kinds = [field.field_type for field in spec.partition_type(schema).fields]
        self.partitioned = is_partitioned(spec)
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
