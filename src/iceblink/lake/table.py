"""One table at one version: what it is made of, and how to reach its other versions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa
from pyiceberg.io import FileIO
from pyiceberg.schema import Schema
from pyiceberg.table import Table as IcebergTable
from pyiceberg.table.refs import MAIN_BRANCH, SnapshotRefType
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.transforms import VoidTransform

from iceblink.errors import ConfigError, SnapshotNotFound, nearest
from iceblink.lake.entries import FileEntry
from iceblink.lake.manifests import Made, files_as, live_files, total_files
from iceblink.lake.metadata_tables import metadata_table
from iceblink.lake.remote_planning import served_files
from iceblink.lake.schemas import arrow_schema
from iceblink.lake.storage import Storage
from iceblink.lake.transforms import show_partition, show_sort
from iceblink.mapped import Mapped, here
from iceblink.predicate import Everything, Predicate

if TYPE_CHECKING:
    from iceblink.lake.catalog import Catalog


@dataclass(frozen=True, eq=False)
class Table:
    """One table pinned to one version; immutable, picklable.

    Made by `Catalog.load` and `Catalog.create`; other versions by `at` and `refresh`.

    Parameters
    ----------
    catalog : Catalog
    name : str
        Dotted full name.
    pyiceberg : pyiceberg.table.Table
        For use inside `lake` only.
    iceberg_schema : pyiceberg.schema.Schema
        The schema at this version; for use inside `lake` only.
    snapshot_id : int or None
        None while the table is empty.
    branch : str
        Where a write goes that starts from here.
    """

    catalog: Catalog
    name: str
    pyiceberg: IcebergTable
    iceberg_schema: Schema
    snapshot_id: int | None
    branch: str = MAIN_BRANCH

    @classmethod
    def latest(cls, catalog: Catalog, name: str, loaded: IcebergTable) -> Self:
        """Return the newest version on the main branch of a table as PyIceberg loaded it."""
        return cls(catalog, name, loaded, loaded.schema(), loaded.metadata.current_snapshot_id)

    def __reduce__(self) -> tuple[Callable[..., Table], tuple[Any, ...]]:
        # the metadata file is immutable: reading it again gives exactly this version, wherever it is unpickled
        location, io = self.pyiceberg.metadata_location, self.pyiceberg.io
        return unpickled, (self.catalog, self.name, location, io, self.schema_id, self.snapshot_id, self.branch)

    def __repr__(self) -> str:
        return f"Table({self.name!r}, snapshot={self.snapshot_id})"

    # what it is

    @property
    def uuid(self) -> str:
        """The table's identity, kept through renames."""
        return str(self.pyiceberg.metadata.table_uuid)

    @property
    def location(self) -> str:
        """The folder under which its files are."""
        return self.pyiceberg.location()

    @property
    def schema_id(self) -> int:
        """The id of the schema at this version."""
        return self.iceberg_schema.schema_id

    @property
    def format_version(self) -> str:
        """The version of the Iceberg format that it has."""
        return str(self.pyiceberg.metadata.format_version)

    @property
    def properties(self) -> Mapping[str, str]:
        """Iceberg table properties, of the newest metadata."""
        return dict(self.pyiceberg.properties)  # a copy: metadata is shared by all who load it

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns as a user sees them, with field ids: see `schemas.arrow_schema`."""
        return arrow_schema(self.iceberg_schema, self.properties)

    @property
    def partition_by(self) -> tuple[str, ...]:
        """Partition transforms of new files, in the words of `Catalog.create`."""
        return show_partition(self.pyiceberg.spec(), self.pyiceberg.schema())

    @property
    def partition_columns(self) -> tuple[str, ...]:
        """The columns that partition transforms are of."""
        spec, schema = self.pyiceberg.spec(), self.pyiceberg.schema()
        live = (one.source_id for one in spec.fields if not isinstance(one.transform, VoidTransform))
        return tuple(dict.fromkeys(name for source in live if (name := schema.find_column_name(source)) is not None))

    @property
    def sort_by(self) -> tuple[str, ...]:
        """Sort order of new files, in the words of `Catalog.create`."""
        return show_sort(self.pyiceberg.sort_order(), self.pyiceberg.schema())

    @cached_property
    def storage(self) -> Storage:
        """The file systems that its files are in."""
        return Storage.of(self.pyiceberg.io.properties)

    @property
    def snapshot(self) -> Snapshot | None:
        """The pinned PyIceberg snapshot; for use inside `lake` only."""
        return None if self.snapshot_id is None else self.pyiceberg.snapshot_by_id(self.snapshot_id)

    @cached_property
    def file_count(self) -> int:
        """Number of data files; from the snapshot's summary, else from its manifest list."""
        counted = self._summary("total-data-files")
        return total_files(self) if counted is None else counted

    @property
    def row_count(self) -> int | None:
        """Number of rows by the snapshot's summary alone; None when deletes apply or the summary does not say."""
        if self.snapshot is None:
            return 0
        deletes = [self._summary(f"total-{kind}") for kind in ("delete-files", "position-deletes", "equality-deletes")]
        return None if any(deletes) else self._summary("total-records")

    @property
    def version(self) -> str:
        """What tells its rows from those of other versions, in short."""
        return str(self.snapshot_id or 0)

    def _summary(self, key: str) -> int | None:
        if self.snapshot is None:
            return 0
        summary = self.snapshot.summary
        value = summary.get(key) if summary is not None else None
        return None if value is None else int(value)

    def files(self, predicate: Predicate | None = None, bounds: Collection[str] = ()) -> Iterator[FileEntry]:
        """Return the data files that may hold rows for which `predicate` is true, with the deletes that apply.

        Streams: manifests are read as the iterator proceeds. A REST catalog that plans scans, and is to, is asked
        instead: see `remote_planning`.

        Parameters
        ----------
        predicate : Predicate, optional
            Default: all files.
        bounds : collection of str
            Columns to decode statistics bounds of, besides those in `predicate`. Decoding all would cost more than
            the rest of planning.

        Raises
        ------
        DataCorrupt
            A manifest or the manifest list is missing or damaged.
        """
        asked = predicate or Everything()
        served = served_files(self, asked, bounds)
        return live_files(self, asked, bounds) if served is None else served

    def files_as(
        self, made: Callable[[FileEntry], Made], predicate: Predicate | None = None, mapped: Mapped = here
    ) -> Iterator[Made]:
        """Return what `made` gives of each of the same files, called wherever `mapped` reads the manifests."""
        asked = predicate or Everything()
        served = served_files(self, asked)
        return files_as(self, asked, made, mapped=mapped) if served is None else map(made, served)

    # other versions

    def refresh(self) -> Table:
        """Return the newest version, on the same branch."""
        newest = self.catalog.load(self.name)
        return newest if self.branch == MAIN_BRANCH else newest.at(branch=self.branch)

    def at(
        self,
        snapshot: int | None = None,
        as_of: datetime | str | int | None = None,
        tag: str | None = None,
        branch: str | None = None,
    ) -> Table:
        """Return another version, by exactly one of these.

        Parameters
        ----------
        snapshot : int
            Snapshot id.
        as_of : datetime, str or int
            What was current at that time: a datetime or ISO 8601 text, UTC unless it says otherwise, or milliseconds
            since 1970.
        tag, branch : str
            Name of a reference. A branch has the table's newest schema, all else the schema of its time.

        Raises
        ------
        SnapshotNotFound
            With what there is.
        ConfigError
            None or several are given, or a time that cannot be read.
        """
        given = [value for value in (snapshot, as_of, tag, branch) if value is not None]
        if len(given) != 1:
            raise ConfigError(f"{len(given)} versions are given", self.name, "give one of snapshot, as_of, tag, branch")
        if branch is not None:
            found = self._named(branch, SnapshotRefType.BRANCH) if branch != MAIN_BRANCH else None
            newest = Table.latest(self.catalog, self.name, self.pyiceberg)
            return newest if found is None else replace(newest, snapshot_id=found.snapshot_id, branch=branch)
        if tag is not None:
            return self._pinned(self._named(tag, SnapshotRefType.TAG))
        if as_of is not None:
            return self._pinned(self._current_at(as_of))
        by_id = self.pyiceberg.snapshot_by_id(snapshot) if snapshot is not None else None
        if by_id is None:
            raise SnapshotNotFound(f"no snapshot {snapshot}", self.name, self._what_there_is())
        return self._pinned(by_id)

    def _pinned(self, snapshot: Snapshot) -> Table:
        schema = self.pyiceberg.schemas().get(snapshot.schema_id) if snapshot.schema_id is not None else None
        return replace(self, iceberg_schema=schema or self.pyiceberg.schema(), snapshot_id=snapshot.snapshot_id)

    def _named(self, name: str, kind: SnapshotRefType) -> Snapshot:
        refs = {key: ref for key, ref in self.pyiceberg.metadata.refs.items() if ref.snapshot_ref_type == kind}
        found = self.pyiceberg.snapshot_by_id(refs[name].snapshot_id) if name in refs else None
        if found is None:
            word, plural = (("tag", "tags"), ("branch", "branches"))[kind == SnapshotRefType.BRANCH]
            raise SnapshotNotFound(f"no {word} {name!r}", self.name, nearest(name, refs, plural))
        return found

    def _current_at(self, as_of: datetime | str | int) -> Snapshot:
        at_ms = milliseconds(as_of, self.name)
        found = self.pyiceberg.snapshot_as_of_timestamp(at_ms)
        if found is None:
            raise SnapshotNotFound(f"no snapshot is as old as {shown(at_ms)}", self.name, self._what_there_is())
        return found

    def _what_there_is(self) -> str:
        snapshots = sorted(self.pyiceberg.metadata.snapshots, key=lambda one: one.timestamp_ms)
        if not snapshots:
            return "the table has no snapshots yet: nothing was written to it"
        oldest, newest = snapshots[0], snapshots[-1]
        return (
            f"the oldest is {oldest.snapshot_id} of {shown(oldest.timestamp_ms)}, "
            f"the newest {newest.snapshot_id} of {shown(newest.timestamp_ms)}"
        )

    # what is known of it

    def history(self) -> pa.Table:
        """Return the snapshots, oldest first: when, what was done, how many rows came and went.

        Returns
        -------
        pa.Table
            ``committed_at, snapshot_id, parent_id, operation, rows_added, rows_removed, rows, files, refs``. Counts are
            of what the files hold, rows that are only written again included, and null where the writer did not say.
        """
        refs: dict[int, list[str]] = {}
        for name, ref in self.pyiceberg.metadata.refs.items():
            refs.setdefault(ref.snapshot_id, []).append(name)
        rows = []
        for snapshot in sorted(
            self.pyiceberg.metadata.snapshots, key=lambda one: (one.timestamp_ms, one.sequence_number)
        ):
            summary = snapshot.summary.additional_properties if snapshot.summary else {}
            counts = {
                column: int(summary[key]) if key in summary else None
                for column, key in (
                    ("rows_added", "added-records"),
                    ("rows_removed", "deleted-records"),
                    ("rows", "total-records"),
                    ("files", "total-data-files"),
                )
            }
            rows.append(
                {
                    "committed_at": snapshot.timestamp_ms * 1000,
                    "snapshot_id": snapshot.snapshot_id,
                    "parent_id": snapshot.parent_snapshot_id,
                    "operation": snapshot.summary.operation.value if snapshot.summary else None,
                    **counts,
                    "refs": sorted(refs.get(snapshot.snapshot_id, [])),
                }
            )
        return pa.Table.from_pylist(rows, schema=_HISTORY)

    def refs(self) -> pa.Table:
        """Return branches and tags: ``name``, ``type``, ``snapshot_id`` and how long each is kept."""
        return self.metadata_table("refs")

    def metadata_table(self, kind: str) -> pa.Table:
        """Return one of the metadata tables, as this version has it: `metadata_tables.KINDS`.

        Raises
        ------
        ConfigError
            No such kind, with the nearest.
        DataCorrupt
            A manifest, or the manifest list, is missing or damaged.
        """
        return metadata_table(self, kind)


_HISTORY = pa.schema(
    {
        "committed_at": pa.timestamp("us", "UTC"),
        "snapshot_id": pa.int64(),
        "parent_id": pa.int64(),
        "operation": pa.string(),
        "rows_added": pa.int64(),
        "rows_removed": pa.int64(),
        "rows": pa.int64(),
        "files": pa.int64(),
        "refs": pa.list_(pa.string()),
    }
)


def unpickled(
    catalog: Catalog, name: str, location: str, io: FileIO, schema_id: int, snapshot_id: int | None, branch: str
) -> Table:
    loaded = catalog.load_from(name, location, io)
    return Table(catalog, name, loaded, loaded.schemas()[schema_id], snapshot_id, branch)


def milliseconds(given: datetime | str | int, where: str) -> int:
    """Return a time as milliseconds since 1970: ISO text and datetimes are UTC unless they say otherwise.

    Raises
    ------
    ConfigError
        Text that cannot be read.
    """
    if isinstance(given, int):
        return given
    if isinstance(given, str):
        try:
            given = datetime.fromisoformat(given)
        except ValueError:
            hint = "write it like 2026-01-31T12:00:00, UTC unless an offset is given"
            raise ConfigError(f"cannot read {given!r} as a time", where, hint) from None
    aware = given if given.tzinfo is not None else given.replace(tzinfo=UTC)
    return int(aware.timestamp() * 1000)


def shown(at_ms: int) -> str:
    """Return a time as ISO 8601 has it."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
