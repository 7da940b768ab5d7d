"""What came into a table and went out of it from one version to another: files, and rows of files, by metadata alone.

References
----------
.. [1] Iceberg table spec, "Reserved Field IDs"; those of a changelog's columns are in Iceberg's ``MetadataColumns``.
.. [2] Iceberg table spec, "Delete Formats" and "Sequence Number Inheritance".
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final, Literal, Self

from pyiceberg.manifest import DataFile, ManifestContent, ManifestEntry, ManifestFile
from pyiceberg.schema import Schema
from pyiceberg.types import IntegerType, LongType, NestedField, StringType

from iceblink.errors import DuplicateColumn
from iceblink.lake.deletes import DeleteIndex, PlacedDelete
from iceblink.lake.entries import DeleteFile, FileEntry
from iceblink.lake.lineage import Span
from iceblink.lake.manifest_files import read_manifest, read_manifest_list
from iceblink.lake.manifests import DataReader, DeleteReader, FileSearch, Made, origin_of, sequence_of
from iceblink.lake.pruning import partition_values
from iceblink.lake.row_lineage import Traced
from iceblink.lake.table import Table, unpickled
from iceblink.mapped import Mapped, here
from iceblink.predicate import Everything, Predicate

CHANGE_TYPE, ORDINAL, SNAPSHOT = "_change_type", "_change_ordinal", "_commit_snapshot_id"
INSERT: Final = "insert"
DELETE: Final = "delete"

_MARKS = (
    NestedField(2147483543, CHANGE_TYPE, StringType(), required=False),
    NestedField(2147483542, ORDINAL, IntegerType(), required=False),
    NestedField(2147483541, SNAPSHOT, LongType(), required=False),
)
_CHANGE_TYPE_ID, _ORDINAL_ID, _SNAPSHOT_ID = (field.field_id for field in _MARKS)


@dataclass(frozen=True, eq=False)
class Changes(Table):
    """The rows that some spans changed, read as a table with the columns of one version; immutable, picklable.

    Parameters
    ----------
    catalog, name, pyiceberg, iceberg_schema, snapshot_id, branch
        As of `Table`.
    spans : tuple of Span
    marked : bool
        Whether rows tell what became of them, in three columns more, and those that went are among them; else just new
        rows are.
    traced : bool
        Whether rows tell their lineage, too.
    """

    spans: tuple[Span, ...] = ()
    marked: bool = True
    traced: bool = False

    @classmethod
    def of(cls, table: Table, spans: tuple[Span, ...], marked: bool) -> Self:
        """Return the changes of some spans, as `table` has columns.

        Raises
        ------
        DuplicateColumn
            A column of the table has the name of one of the three.
        """
        schema = table.iceberg_schema
        if marked:
            for field in schema.fields:
                if field.name.lower() in {mark.name for mark in _MARKS}:  # SQL takes upper and lower case for the same
                    what = f"the table has a column {field.name!r} of its own"
                    raise DuplicateColumn(what, table.name, "rename it to ask for changes")
            schema = Schema(*schema.fields, *_MARKS, schema_id=schema.schema_id)
        traced = isinstance(table, Traced)
        where = table.catalog, table.name, table.pyiceberg, schema, table.snapshot_id, table.branch
        return cls(*where, spans, marked, traced)

    def __reduce__(self) -> tuple[Callable[..., Table], tuple[Any, ...]]:
        return _unpickled, (super().__reduce__()[1], self.spans, self.marked, self.traced)

    def __repr__(self) -> str:
        return f"Changes({self.name!r}, {len(self.spans)} spans to snapshot {self.snapshot_id})"

    @property
    def version(self) -> str:
        """What tells its rows from those of other spans, in short."""
        said = zlib.crc32(repr((self.spans, self.marked, self.traced)).encode())
        return f"{self.snapshot_id or 0}-{said:08x}"

    @property
    def row_count(self) -> int | None:
        """Not known by the metadata alone."""
        return None

    def files(self, predicate: Predicate | None = None, bounds: Collection[str] = ()) -> Iterator[FileEntry]:
        """Return the data files, and parts of them, that came and went, in the order of commits.

        A file that came and went is there twice. Manifests that two versions share are read only if delete files came
        or went.

        Raises
        ------
        DataCorrupt
            A manifest or a manifest list is missing or damaged.
        """
        for span in self.spans:
            between = _Between(self, span, predicate or Everything(), bounds)
            found = between.files() if self.marked else (one for one in between.files() if one.kind == INSERT)
            for one in sorted(found, key=lambda one: one.sequence):
                yield one.marked(span) if self.marked else one.entry

    def files_as(
        self, made: Callable[[FileEntry], Made], predicate: Predicate | None = None, mapped: Mapped = here
    ) -> Iterator[Made]:
        """Return what `made` gives of each of the same files; here: few manifests are read."""
        return map(made, self.files(predicate))


def _unpickled(table: tuple[Any, ...], spans: tuple[Span, ...], marked: bool, traced: bool) -> Changes:
    whole = unpickled(*table)
    return Changes.of(Traced.of(whole) if traced else whole, spans, marked)


@dataclass(frozen=True, slots=True)
class _Changed:
    """Rows of a file that came, or that went."""

    kind: Literal["insert", "delete"]
    entry: FileEntry
    sequence: int

    def marked(self, span: Span) -> FileEntry:
        """Return the file with the values that its rows have in the three columns."""
        marks = {_CHANGE_TYPE_ID: self.kind, _ORDINAL_ID: span.ordinal, _SNAPSHOT_ID: span.at}
        return replace(self.entry, identity={**self.entry.identity, **marks})


Listed = tuple[ManifestFile, ManifestEntry]


class _Version:
    """The manifests of one version, read when they are asked for."""

    def __init__(self, table: Table, snapshot_id: int | None, predicate: Predicate, bounds: Collection[str]) -> None:
        snapshot = None if snapshot_id is None else table.pyiceberg.snapshot_by_id(snapshot_id)
        assert snapshot is not None or snapshot_id is None, "spans are between snapshots that are kept"
        self._snapshot = snapshot
        self.manifests: list[ManifestFile] = []
        if snapshot is not None:
            origin = origin_of(table, snapshot)
            self.manifests = read_manifest_list(snapshot.manifest_list, origin)
            self._search = FileSearch(origin, table.iceberg_schema, table.pyiceberg.specs(), predicate, bounds)

    def paths(self, content: ManifestContent) -> set[str]:
        return {one.manifest_path for one in self.manifests if one.content == content}

    def listed(self, but: Collection[str] = (), only: Collection[str] | None = None) -> list[Listed]:
        """Return the live entries of the manifests of data files: not of these, or just of these."""
        return [
            (manifest, entry)
            for manifest in self.manifests
            if manifest.content == ManifestContent.DATA
            and manifest.manifest_path not in but
            and (only is None or manifest.manifest_path in only)
            for entry in read_manifest(manifest, self._search.origin)
        ]

    @cached_property
    def deletes(self) -> list[PlacedDelete]:
        """All deletes."""
        found = [one for one in self.manifests if one.content == ManifestContent.DELETES]
        return [delete for manifest in found for delete in DeleteReader(self._search)(manifest)]

    @cached_property
    def _reader(self) -> DataReader[Any]:
        return DataReader(self._search, self.deletes, _both)

    def entries(self, listed: Collection[Listed]) -> Iterator[tuple[FileEntry, int]]:
        """Return those that may hold wanted rows, with the deletes of this version and their sequence numbers."""
        for manifest, entry in listed:
            for found, _ in self._reader.wanted(manifest, [entry]):
                yield found, sequence_of(entry, manifest)


class _Between:
    """Compares two versions."""

    def __init__(self, table: Table, span: Span, predicate: Predicate, bounds: Collection[str]) -> None:
        self._before = _Version(table, span.before, predicate, bounds)
        self._at = _Version(table, span.at, predicate, bounds)

    def files(self) -> Iterator[_Changed]:
        """Yield what came and what went.

        By what is there, not by what manifests say was done: a manifest may be rewritten for its own sake.
        """
        before, at = self._before, self._at
        old = before.listed(but=at.paths(ManifestContent.DATA))
        new = at.listed(but=before.paths(ManifestContent.DATA))
        was, now = _paths(old), _paths(new)
        for entry, sequence in before.entries([one for one in old if one[1].data_file.file_path not in now]):
            yield _Changed(DELETE, entry, sequence)
        for entry, sequence in at.entries([one for one in new if one[1].data_file.file_path not in was]):
            yield _Changed(INSERT, entry, sequence)
        stayed = [one for one in new if one[1].data_file.file_path in was]
        yield from self._within(stayed)

    def _within(self, stayed: list[Listed]) -> Iterator[_Changed]:
        """Yield rows of files that stayed, to which other deletes apply now."""
        before, at = self._before, self._at
        if before.paths(ManifestContent.DELETES) == at.paths(ManifestContent.DELETES):
            return
        was, now = {one.file for one in before.deletes}, {one.file for one in at.deletes}
        moved = [one for one in before.deletes if one.file not in now]
        moved += [one for one in at.deletes if one.file not in was]
        if not moved:
            return
        index = DeleteIndex(moved)
        shared = before.paths(ManifestContent.DATA)
        about = [one for one in [*stayed, *at.listed(only=shared)] if _concerned(index, one)]
        earlier = {entry.path: entry.deletes for entry, _ in before.entries(about)}
        for entry, sequence in at.entries(about):
            then, after = earlier[entry.path], entry.deletes
            if gone := _without(after, then):
                yield _Changed(DELETE, replace(entry, deletes=then, only=gone), sequence)
            if back := _without(then, after):
                yield _Changed(INSERT, replace(entry, only=back), sequence)


def _paths(listed: Collection[Listed]) -> set[str]:
    return {entry.data_file.file_path for _, entry in listed}


def _concerned(index: DeleteIndex, listed: Listed) -> bool:
    manifest, entry = listed
    key = (manifest.partition_spec_id, partition_values(entry.data_file))
    return bool(index.applying_to(entry.data_file.file_path, sequence_of(entry, manifest), key))


def _without(deletes: tuple[DeleteFile, ...], others: tuple[DeleteFile, ...]) -> tuple[DeleteFile, ...]:
    return tuple(one for one in deletes if one not in others)


def _both(entry: FileEntry, file: DataFile) -> tuple[FileEntry, DataFile]:
    return entry, file
