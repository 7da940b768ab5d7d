"""What came into a table and went since some version: at once, or step by step for as long as anybody listens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from threading import Event
from types import TracebackType
from typing import Any, Self

from iceblink.dataset import Dataset
from iceblink.errors import ConfigError, PlanError
from iceblink.lake.changes import Changes
from iceblink.lake.lineage import (
    Lineage,
    Overwrites,
    Span,
    Version,
    appended_spans,
    changed_spans,
    net_spans,
)
from iceblink.lake.position import Position, last_position
from iceblink.lake.table import Table
from iceblink.plan.nodes import Plan, Scan
from iceblink.run.changelog import changelog
from iceblink.run.session import Session


class Following:
    """The ways of a lake to read what changed."""

    session: Session

    def appended(
        self,
        name: str,
        *,
        after: Version | None = None,
        until: Version | None = None,
        branch: str = "main",
        overwrites: Overwrites = "raise",
    ) -> Dataset:
        """Return the rows that were appended to a table after one version, up to another.

        Lazy: just the added files are planned and read, as a scan of any kind, with filters pruned. Columns are those
        of the last version, found in older files by their ids: what was added since is null there. What a compaction
        rewrote is not new.

        Parameters
        ----------
        name : str
        after, until : int, str or datetime, optional
            A snapshot id; a tag; or a time, UTC unless it says otherwise: what was current then. Rows of `until` are in
            it, those of `after` are not. Default: all that the table ever got, up to now.
        branch : str
            Whose history it is, if `until` does not say.
        overwrites : {"raise", "skip"}
            What to do about snapshots that took rows out too: `changes` tell the whole truth then, appended rows not.

        Raises
        ------
        TableNotFound
        SnapshotNotFound
            A version that is not there, or was expired.
        PlanError
            `until` was not made from `after`; an overwrite lies between them.
        """
        lineage = _lineage(self.session, name, branch, until)
        snapshots = lineage.since(None if after is None else _found(lineage, after))
        spans = appended_spans(snapshots, overwrites, name)
        return Dataset(Scan.of(Changes.of(lineage.table, spans, marked=False)), self.session)

    def changes(
        self,
        name: str,
        *,
        after: Version | None = None,
        until: Version | None = None,
        keys: str | Sequence[str] | None = None,
        net: bool = False,
        where: Any = None,
        branch: str = "main",
    ) -> Dataset:
        """Return the rows that came into a table and went out of it after one version, up to another: a changelog.

        Lazy. Rows have the columns of the last version, and after them ``_change_type`` (``insert``, ``delete``),
        ``_change_ordinal`` (int, number of the snapshot in the range, in the order of commits) and
        ``_commit_snapshot_id`` (long). They come in no order. Compactions change nothing.

        Read are data files that were added or removed, and those to which deletes were added. Rows that a rewrite only
        carried over to another file are left out: a snapshot took them out and put them in. To find them, the rows of
        snapshots that did both are grouped by all columns, on disk where memory ends; those of others stream.

        Parameters
        ----------
        name : str
        after, until, branch
            As in `appended`.
        keys : str or sequence of str, optional
            Columns that identify a row: where a snapshot took out one row of a key and put in one, they are
            ``update_before`` and ``update_after``. A key with a null is none. ``"_row_id"`` finds updates without a key
            of the table's own, in format version 3; rows then have the columns of row lineage.
        net : bool
            Whether all snapshots count as one, with ordinal 0 and the id of the last: a row that came and went is not
            told of, and files that did are not even read.
        where : boolean expression, optional
            Rows to look at: ``_.region == "eu"``. It prunes files, which a filter of the result does only where a
            snapshot did not both put in and take out.

        Raises
        ------
        TableNotFound, SnapshotNotFound, ColumnNotFound
        PlanError
            `until` was not made from `after`; `keys` name ``_row_id``, and rows have no ids.
        DuplicateColumn
            The table has a column named like one of those that are added.
        """
        lineage = _lineage(self.session, name, branch, until)
        snapshots = lineage.since(None if after is None else _found(lineage, after))
        spans = net_spans(snapshots) if net else changed_spans(snapshots)

        def filtered(plan: Plan) -> Plan:
            return plan if where is None else Dataset(plan, self.session).filter(where).plan

        return Dataset(changelog(self.session, lineage.table, spans, _names(keys), net, filtered), self.session)

    def follow(
        self,
        name: str,
        *,
        after: Version | None = None,
        into: str | None = None,
        follower: str = "default",
        changes: bool = False,
        keys: str | Sequence[str] | None = None,
        overwrites: Overwrites = "raise",
        branch: str = "main",
        poll: float | None = 10.0,
    ) -> Follow:
        """Follow a table: yield what each new snapshot brought, and wait for the next one.

        A first step has all the rows that the table has now, unless `after` or `into` says where to begin. A step whose
        rows are written with ``token=step.position`` is done exactly once, whatever is killed: the position is part of
        the commit. Give `into` that table, and the same program goes on where the last commit was.

        Parameters
        ----------
        name : str
        after : int, str or datetime, optional
            Where to begin: the `position` of a step that was dealt with, or a version as in `appended`.
        into : str, optional
            The table that the steps are written to: what it says of this follower goes before `after`.
        follower : str
            Tells pipelines from each other that write what they made of one table to the same table.
        changes, keys
            Whether rows are those of `Following.changes`; else appended rows.
        overwrites, branch
            As in `appended`.
        poll : float or None
            How often to look for a new snapshot, at one pointer in the catalog [s]. None: end when there is none.

        Returns
        -------
        Follow
            An iterator of `Step`; Ctrl-C, `close` and leaving its ``with`` block end it.

        Raises
        ------
        TableNotFound, SnapshotNotFound, PlanError, ConfigError
            Here, and at a later step as `appended` and `changes` do.
        """
        names = _names(keys)
        if names and not changes:
            raise ConfigError("`keys` pair updates, which appended rows are not", "follow", "write changes=True")
        appended_spans([], overwrites, name)  # looks at the word
        if poll is not None and poll < 0:
            raise ConfigError(f"poll={poll} is negative", "follow", "seconds, or None to end when all is read")
        lineage = _lineage(self.session, name, branch)
        uuid = lineage.table.uuid
        written = None if into is None else self.session.catalog.load(into)
        last = None if written is None else last_position(written, follower, uuid)
        place = last.at if last is not None else None if after is None else _found(lineage, after)
        if place is not None:
            lineage.since(place)
        start = Position(follower, uuid, None, place)
        return Follow(self.session, name, branch, start, changes, names, overwrites, poll)


@dataclass(frozen=True)
class Step:
    """What one snapshot brought.

    Parameters
    ----------
    rows : Dataset
        Lazy.
    position : str
        Names the step: the `token` of the write of what becomes of its rows, or kept elsewhere, to follow `after` it.
    snapshot_id : int
    committed_at : datetime
        UTC.
    """

    rows: Dataset
    position: str
    snapshot_id: int
    committed_at: datetime


class Follow(Iterator[Step]):
    """Steps of a table, as they come; made by `Lake.follow`. A context manager that ends it.

    Parameters
    ----------
    session : Session
    name, branch : str
    start : Position
        Where the first step begins.
    changes : bool
    keys : sequence of str
    overwrites : {"raise", "skip"}
    poll : float or None
        As of `Following.follow`.
    """

    def __init__(
        self,
        session: Session,
        name: str,
        branch: str,
        start: Position,
        changes: bool,
        keys: Sequence[str],
        overwrites: Overwrites,
        poll: float | None,
    ) -> None:
        self._session, self._name, self._branch = session, name, branch
        self._last = start
        self._changes, self._keys, self._overwrites, self._poll = changes, keys, overwrites, poll
        self._closed = Event()

    def __next__(self) -> Step:
        while not self._closed.is_set():
            step = self._step()
            if step is not None:
                return step
            if self._poll is None or self._closed.wait(self._poll):
                break
        raise StopIteration

    def _step(self) -> Step | None:
        """Return the step behind the last one, if there is something yet."""
        table, last = _at(self._session, self._name, self._branch), self._last
        _check_same(table, last)
        if table.snapshot_id is None or table.snapshot_id == last.at:
            return None
        if last.at is None:
            all_of_it = [Span(None, table.snapshot_id)]
            return self._to(table, self._changed(table, all_of_it) if self._changes else Scan.of(table))
        for snapshot in Lineage(table).since(last.at):
            spans = changed_spans([snapshot])
            if not self._changes:
                spans = appended_spans([snapshot], self._overwrites, self._name)
            if spans:
                found = replace(table, snapshot_id=snapshot.snapshot_id)
                added = Scan.of(Changes.of(found, spans, marked=False))
                return self._to(found, self._changed(found, spans) if self._changes else added)
        return None

    def _changed(self, table: Table, spans: Sequence[Span]) -> Plan:
        return changelog(self._session, table, spans, self._keys, False, lambda plan: plan)

    def _to(self, table: Table, rows: Plan) -> Step:
        """Take the step to a version."""
        assert table.snapshot_id is not None, "a step has a snapshot"
        self._last = replace(self._last, before=self._last.at, at=table.snapshot_id)
        committed_at = Lineage(table).committed_at(table.snapshot_id)
        return Step(Dataset(rows, self._session), str(self._last), table.snapshot_id, committed_at)

    def close(self) -> None:
        """End the iteration, from any thread: a wait ends at once, a step under way is not disturbed."""
        self._closed.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _lineage(session: Session, name: str, branch: str, until: Version | None = None) -> Lineage:
    table = _at(session, name, branch)
    if until is None:
        return Lineage(table)
    return Lineage(table.at(snapshot=Lineage(table).get(until)))


def _at(session: Session, name: str, branch: str) -> Table:
    table = session.catalog.load(name)
    return table if branch == "main" else table.at(branch=branch)


def _found(lineage: Lineage, after: Version) -> int | None:
    """Return the snapshot of a version, or of the position of a step."""
    position = Position.read(after) if isinstance(after, str) else None
    if position is None:
        return lineage.find(after)
    _check_same(lineage.table, position)
    return position.at


def _check_same(table: Table, position: Position) -> None:
    if table.uuid != position.table:
        hint = "follow the new one from its beginning, under another name of a follower"
        raise PlanError("the table was dropped and made anew since that step", f"follow {table.name}", hint)


def _names(keys: str | Sequence[str] | None) -> tuple[str, ...]:
    return (keys,) if isinstance(keys, str) else tuple(keys or ())
