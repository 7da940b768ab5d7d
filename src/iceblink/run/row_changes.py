"""Changes of rows carried out: what is touched is found, written anew or marked deleted, committed once.

References
----------
.. [1] Iceberg documentation, "Configuration", ``write.delete.mode``, ``write.delete.isolation-level`` and their like.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from iceblink.errors import ConfigError, MergeCardinality, PlanError, QueryError, WriteError, nearest
from iceblink.lake.commit import Commit
from iceblink.lake.delete_files import PositionDeleteWriter
from iceblink.lake.deletion_vectors import DeletionVectorWriter
from iceblink.lake.entries import FileEntry
from iceblink.lake.files import NewFile
from iceblink.lake.format_version import check_writable
from iceblink.lake.leftovers import remove_writes
from iceblink.lake.manifests import files_matching
from iceblink.lake.row_delta import Isolation
from iceblink.lake.row_lineage import moving
from iceblink.lake.table import Table
from iceblink.plan.change_queries import (
    ACTION,
    DELETED,
    FILE,
    MATCHES,
    PLACE,
    UPDATED,
    UPDATES,
    counts,
    inserted,
    moved,
    pairs,
    places,
    rewritten,
)
from iceblink.plan.changes import RowChange
from iceblink.plan.late import exp
from iceblink.plan.nodes import Memory, Plan, Query, Scan, Stream, Tree
from iceblink.plan.optimize import statement
from iceblink.plan.predicates import either
from iceblink.plan.sql import union_query
from iceblink.predicate import Everything, Nothing, Predicate
from iceblink.run.change_keys import certain_match, equal_keys, key_range
from iceblink.run.change_lineage import traced
from iceblink.run.change_types import misfit, typed
from iceblink.run.checkpoint import Checkpointed
from iceblink.run.data_files import fitted, written
from iceblink.run.live_rows import live_rows
from iceblink.run.outcome import Counts, Written
from iceblink.run.session import Session
from iceblink.run.staging import staged
from iceblink.scan.deletes import Deletes
from iceblink.scan.place import POSITION, file_column
from iceblink.scan.plan import owner_of

Mode = Literal["copy-on-write", "merge-on-read"]
Numbers: TypeAlias = NDArray[np.int64]
LEAST_GROUP_ROWS = 122_880
"""No row group is kept smaller than so: the kernel's own have this many rows, and a thread reads one."""
REPORT = "nothing was committed; please report this"


@dataclass
class _Found:
    """What a change touches.

    Parameters
    ----------
    updated, deleted : dict of str to int
        Rows by data file.
    removed : set of str
        Data files that go whole.
    files : list of NewFile
        Delete files.
    """

    updated: dict[str, int] = field(default_factory=dict)
    deleted: dict[str, int] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)
    files: list[NewFile] = field(default_factory=list)

    @property
    def touched(self) -> set[str]:
        """Data files of which a row changes."""
        return {*self.updated, *self.deleted}


def change_rows(
    session: Session, change: RowChange, commit: Commit | None = None, job: Checkpointed | None = None
) -> Written:
    """Carry out a change in one commit; none where no row is touched and none comes.

    Eager, in bounded memory. Of the table's files those are read that may hold rows for which the condition is true, of
    these first the columns of the condition; files all of whose rows are deleted are not read where metadata says so.

    Parameters
    ----------
    session : Session
    change : RowChange
    commit : Commit, optional
        With what else is to be in it. It is made even where there is nothing to change.
    job : Checkpointed, optional
        What writes the rows that are added, and keeps the files for whoever goes on.

    Raises
    ------
    ColumnNotFound, AmbiguousColumn, TypeMismatch, SqlError, PlanError
        An expression is wrong; before anything is read.
    SchemaMismatch, NullInRequired
        A new value does not fit its column.
    MergeCardinality
        Several rows of the source match one row of the table, and there is a clause for such rows.
    CommitConflict
        Others changed, since, what was looked at: see `lake.row_delta.check_unmet`.
    WriteError
        The table cannot be written, or storage refused.
    """
    return _Change(session, change, commit, job).run()


class _Change:
    """One change under way."""

    def __init__(self, session: Session, change: RowChange, commit: Commit | None, job: Checkpointed | None) -> None:
        self._commit, self._job = commit, job
        self._session, self._engine = session, session.engine
        self._table = table = change.target.table
        check_writable(table)
        self._moving = moving(table)
        self._mode = _mode(table, change.verb)
        self._isolation = _isolation(table, change.verb)
        self._entries: dict[str, FileEntry] = {}
        self._file, self._by_number = file_column(())
        if change.source is not None and not isinstance(change.source, Scan | Memory):
            change = replace(change, source=staged(self._engine, change.source))  # it is looked at several times
        self._change = traced(typed(self._engine, change, self._named(change, change.target)), self._moving)

    def run(self) -> Written:
        done = self._added_first()  # a job's rows decide nothing, and what is kept of the files is found behind them
        scan = self._bounded(Scan.of(self._moving))
        looked_at = self._looked_at(scan)
        self._entries = {entry.path: entry for entry in self._table.files(looked_at)}
        self._file, self._by_number = file_column(self._entries)
        made: list[NewFile] = []
        try:
            whole = self._matched_whole()
            if whole:
                scan = scan.only(frozenset(self._entries.keys() - whole.keys()))
            placed = scan.with_placed(self._file).with_placed(POSITION)
            if self._mode == "copy-on-write":
                found = self._counted(placed)
                touched = scan.only(frozenset(found.touched - found.removed))
                rows = [rewritten(self._change, touched)] if touched.files else []
            else:
                found = self._marked(placed)
                made += found.files
                touched = scan.only(frozenset(found.updated))
                rows = moved(self._change, touched) if touched.files else []
            data = list(done)
            made += data
            for files in self._written(rows, touched, scan):
                data += files
                made += files
            inserted_rows = sum(file.rows for file in data) - self._expected(found)
            inserts = self._change.of("not matched") or self._change.added is not None
            if inserted_rows < 0 or (inserted_rows and not inserts):
                raise WriteError("the rows written are not those that were found", self._change.place, REPORT)
            found.removed |= whole.keys()
            found.deleted |= whole
            removed = found.touched if self._mode == "copy-on-write" else found.removed
            commit = self._commit or Commit(self._table)
            replaces = self._change.added is not None
            commit.change_rows(removed, made, found.touched, looked_at, self._isolation, replaces)
        except BaseException as error:
            if self._job is None:
                remove_writes(self._table.pyiceberg, {new.token for new in made}, [new.path for new in made])
            if isinstance(error, QueryError) and (said := misfit(error, self._change.place)) is not None:
                raise said from error
            raise
        table = commit.run() if found.touched or made or self._commit is not None else self._table
        counts = Counts(
            rows_inserted=inserted_rows,
            rows_updated=sum(found.updated.values()),
            rows_deleted=sum(found.deleted.values()),
            files_added=len(data),
            files_removed=len(removed),
            delete_files_added=len(found.files),
        )
        return Written(table, counts)

    # what is touched

    def _matched_whole(self) -> dict[str, int]:
        """Return the files of which metadata says that all rows are deleted, and how many rows that are."""
        change = self._change
        if change.source is not None or change.verb not in ("delete", "overwrite") or not self._entries:
            return {}
        (clause,) = change.clauses
        predicate = certain_match(clause.condition, change, self._engine)
        if predicate is None or isinstance(predicate, Nothing):
            return {}
        found = [entry.path for entry, match in files_matching(self._table, predicate) if match == "all"]
        return self._live(found)

    def _live(self, paths: Iterable[str]) -> dict[str, int]:
        return live_rows(self._engine, self._table, [self._entries[path] for path in paths])

    def _bounded(self, scan: Scan) -> Scan:
        """Narrow a merge to the keys that its source has: rows of others match nothing."""
        change = self._change
        if change.source is None or change.on is None:
            return scan
        keys = equal_keys(change)
        limits = key_range(self._engine, change, keys)
        if limits is None:  # there is no key at all
            return scan if change.of("not matched by source") else scan.only(frozenset())
        if limits:
            self._change = replace(change, on=exp.and_(change.on.copy(), *limits, copy=False))
        return scan

    def _counted(self, scan: Scan) -> _Found:
        """Find how many rows of which files change."""
        found = _Found()
        for tree in counts(self._change, scan, self._file):
            for batch in self._batches(tree, self._named(self._change, scan)):
                for row in batch.to_pylist():
                    path, updated, deleted = self._by_number[row[FILE]], row[UPDATED], row[DELETED]
                    if row[MATCHES] > 1:
                        raise self._several(scan)
                    if updated:
                        found.updated[path] = found.updated.get(path, 0) + updated
                    if deleted:
                        found.deleted[path] = found.deleted.get(path, 0) + deleted
        alive = self._live(found.deleted.keys() - found.updated.keys())
        found.removed = {path for path, rows in alive.items() if found.deleted[path] == rows}
        return found

    def _marked(self, scan: Scan) -> _Found:
        """Write the places of rows that change to deletes; a file all of whose rows go is removed instead."""
        found = _Found()
        several = self._change.source is not None and self._change.of("matched")
        third = self._table.format_version == "3"
        with DeletionVectorWriter(self._table, self._gone) if third else PositionDeleteWriter(self._table) as writer:
            last = (0, -1)
            for numbers, positions, actions in self._places(scan):
                same = (np.diff(numbers) == 0) & (np.diff(positions) == 0)
                if several and (same.any() or last == (int(numbers[0]), int(positions[0]))):
                    raise self._several(scan)
                last = int(numbers[-1]), int(positions[-1])
                chosen = actions > 0
                for number in dict.fromkeys(numbers[chosen].tolist()):
                    own, path = chosen & (numbers == number), self._by_number[number]
                    writer.delete(path, positions[own])
                    updated = int(np.count_nonzero(actions[own] == UPDATES))
                    deleted = int(np.count_nonzero(own)) - updated
                    if updated:
                        found.updated[path] = found.updated.get(path, 0) + updated
                    if deleted:
                        found.deleted[path] = found.deleted.get(path, 0) + deleted
            for path in found.touched:
                entry = self._entries[path]
                if not entry.deletes and found.updated.get(path, 0) + found.deleted.get(path, 0) == entry.rows:
                    found.removed.add(path)
            found.files = writer.finish(but=found.removed)
        return found

    def _gone(self, path: str) -> Numbers:
        """Return the places of a file's rows that are deleted already."""
        deletes = Deletes(self._table.storage, self._table.schema, owner_of(self._table.name, self._table.snapshot_id))
        return deletes.positions(path, self._entries[path].deletes)

    def _places(self, scan: Scan) -> Iterator[tuple[Numbers, Numbers, Numbers]]:
        tree = places(self._change, scan, self._file)
        for batch in self._batches(tree, self._named(self._change, scan)):
            actions = batch.column(ACTION).fill_null(0)
            yield batch.column(FILE).to_numpy(), batch.column(PLACE).to_numpy(), actions.to_numpy()

    def _several(self, scan: Scan) -> MergeCardinality:
        change = self._change
        columns = [name for name, _ in equal_keys(change)] or self._table.schema.names
        shown = ""
        for batch in self._batches(pairs(change, scan, self._file, columns), self._named(change, scan)):
            shown = f", such as that of {batch.to_pylist()[0]}"
        return MergeCardinality(
            f"several rows of the source match one row of the table{shown}",
            change.place,
            "keep one row for each key in the source: .distinct('key'), or aggregate it",
        )

    def _looked_at(self, scan: Scan) -> Predicate:
        """Return what every row of the table that is looked at satisfies."""
        scan = scan.with_placed(self._file).with_placed(POSITION)
        new = inserted(self._change, scan)
        found: Predicate = Nothing()
        for tree in [*counts(self._change, scan, self._file), *([] if new is None else [new])]:
            query = self._query(tree, self._named(self._change, scan))
            for reference in statement(query, self._engine.evaluate).references:
                if isinstance(reference.plan, Scan) and reference.plan.table.uuid == self._table.uuid:
                    found = either(found, reference.predicate)
        return Everything() if isinstance(found, Nothing) else found

    # what comes in its place

    def _written(self, rows: list[Tree], touched: Scan, scan: Scan) -> Iterator[list[NewFile]]:
        """Write what the statements `rows` give over the touched files, and what comes in.

        Rows that are added have files of their own where they have other types than the table: the kernel would bring
        both to types that have room for all, and round, where a writer looks at every value.
        """
        queries: list[Plan] = [self._query(tree, self._named(self._change, touched)) for tree in rows]
        new = inserted(self._change, scan)
        if new is not None:
            queries.append(self._query(new, self._named(self._change, scan)))
        added = self._change.added if self._job is None else None
        if added is not None and (not queries or not _of_types(added.schema, self._table.schema)):
            yield written(self._session, added, self._table)
        elif added is not None:
            queries.append(fitted(self._session, added, self._moving))
        if not queries:
            return
        plan = queries[0]
        if len(queries) > 1:
            tree = union_query([one.name for one in queries], self._moving.schema.names)
            plan = self._engine.query(tree, {one.name: one for one in queries})
        if self._job is not None:
            yield self._job.written_last(self._session, plan, self._moving)
        else:
            yield written(self._session, plan, self._moving, group_rows=self._group_rows(touched))

    def _group_rows(self, touched: Scan) -> int | None:
        """Return how large row groups become where files are rewritten: not larger than those files.

        What is buffered and encoded at once is then about as much as a file, however many small ones there are.
        """
        if self._mode != "copy-on-write" or not touched.files:
            return None
        return max(LEAST_GROUP_ROWS, *(self._entries[path].rows for path in touched.files))

    def _added_first(self) -> list[NewFile]:
        if self._job is None or self._change.added is None:
            return []
        return self._job.written(self._session, self._change.added, self._table)

    def _expected(self, found: _Found) -> int:
        """Return how many rows are written besides those inserted."""
        if self._mode == "merge-on-read":
            return sum(found.updated.values())
        rest = found.touched - found.removed
        return sum(self._live(rest).values()) - sum(found.deleted.get(path, 0) for path in rest)

    # statements

    def _named(self, change: RowChange, scan: Scan) -> dict[str, Plan]:
        """Return all that a statement over `scan` may name."""
        source = {} if change.source is None else {change.source.name: self._beside(change.source, scan)}
        return {**change.plans, **source, scan.name: scan}

    def _beside(self, source: Plan, scan: Scan) -> Plan:
        """Return a source as it is read beside a scan.

        Rows with their places are fed to the kernel, which takes them for one row and would keep all of them in a hash
        table; if the source is fed, too, it is the source's.
        """
        if isinstance(source, Memory) and POSITION in scan.schema.names:
            rows = source.data
            if rows.num_rows <= sum(entry.rows for entry in self._entries.values()):
                return Stream(rows.schema, rows.to_reader)
        return source

    def _query(self, tree: Tree, sources: Mapping[str, Plan]) -> Query:
        used = {one.name for one in tree.find_all(exp.Table)}
        return self._engine.query(tree, {name: plan for name, plan in sources.items() if name in used})

    def _batches(self, tree: Tree, sources: Mapping[str, Plan]) -> Iterator[pa.RecordBatch]:
        with closing(self._engine.batches(self._query(tree, sources))) as batches:
            for batch in batches:
                yield batch.data


def _of_types(given: pa.Schema, wanted: pa.Schema) -> bool:
    return all(given.field(field.name).type == field.type for field in wanted)


_AS_ICEBERG = {"overwrite": "delete", "upsert": "merge"}
"""What Iceberg's properties call it."""


def _mode(table: Table, verb: str) -> Mode:
    name = f"write.{_AS_ICEBERG.get(verb, verb)}.mode"
    mode = _property(table, name, ("copy-on-write", "merge-on-read"))
    if mode == "merge-on-read" and table.pyiceberg.metadata.format_version < 2:
        hint = f"set {name} to copy-on-write"
        raise PlanError("a table of format version 1 has no delete files", table.name, hint)
    return cast(Mode, mode)


def _isolation(table: Table, verb: str) -> Isolation:
    name = f"write.{_AS_ICEBERG.get(verb, verb)}.isolation-level"
    return cast(Isolation, _property(table, name, ("serializable", "snapshot")))


def _property(table: Table, name: str, values: tuple[str, ...]) -> str:
    """Return a table property; the first value is the default."""
    value = table.properties.get(name, values[0])
    if value not in values:
        raise ConfigError(f"{name} is {value!r}", f"properties of {table.name}", nearest(value, values, "values"))
    return value
