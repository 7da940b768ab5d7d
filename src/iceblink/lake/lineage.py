"""The snapshots that led to a version, and the stretches of them whose changes somebody wants."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Literal, TypeAlias

from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.snapshots import Operation, Snapshot

from iceblink.errors import ConfigError, PlanError, SnapshotNotFound, nearest
from iceblink.lake.manifest_files import read_manifest_list
from iceblink.lake.manifests import origin_of
from iceblink.lake.table import Table, milliseconds, shown

Version: TypeAlias = int | str | datetime
"""A snapshot id; the name of a tag; a time, as a datetime or ISO 8601 text."""

Overwrites = Literal["raise", "skip"]


@dataclass(frozen=True)
class Span:
    """From one version of a table to a later one.

    Parameters
    ----------
    before : int or None
        Snapshot id; None for the table without any row.
    at : int
        Snapshot id.
    ordinal : int
        Number of the span, in the order of commits.
    mixed : bool
        Whether rows may both come and go.
    """

    before: int | None
    at: int
    ordinal: int = 0
    mixed: bool = False


@dataclass(frozen=True, eq=False)
class Lineage:
    """A version of a table and all before it, each made from the one before.

    Parameters
    ----------
    table : Table
        At the last version.
    """

    table: Table

    @cached_property
    def snapshots(self) -> tuple[Snapshot, ...]:
        """The snapshots, newest first, as far as they are kept."""
        return tuple(self._back())

    def _back(self) -> Iterator[Snapshot]:
        found = self.table.snapshot
        while found is not None:
            yield found
            parent = found.parent_snapshot_id
            found = None if parent is None else self.table.pyiceberg.snapshot_by_id(parent)

    @cached_property
    def whole(self) -> bool:
        """Whether it goes back to a version that was made from none.

        Who expires the parent of a snapshot may take its name away as well: what the first one kept of earlier files
        tells, which asks for its manifest list.
        """
        if not self.snapshots:
            return True
        first = self.snapshots[-1]
        if first.parent_snapshot_id is not None:
            return False
        return all(
            one.added_snapshot_id == first.snapshot_id and not one.existing_files_count and not one.deleted_files_count
            for one in read_manifest_list(first.manifest_list, origin_of(self.table, first))
        )

    def find(self, version: Version) -> int | None:
        """Return the id of a snapshot; None for a time before the first one.

        Raises
        ------
        SnapshotNotFound
            No tag has the name; what was current at that time is not kept.
        ConfigError
            A text that is neither a tag nor a time.
        """
        if isinstance(version, int):
            return version
        if isinstance(version, str):
            tags = {
                name: ref.snapshot_id
                for name, ref in self.table.pyiceberg.metadata.refs.items()
                if ref.snapshot_ref_type == SnapshotRefType.TAG
            }
            if version in tags:
                return tags[version]
            try:
                datetime.fromisoformat(version)
            except ValueError:
                raise SnapshotNotFound(
                    f"{version!r} is neither a tag nor a time", self.table.name, nearest(version, tags, "tags")
                ) from None
        at_ms = milliseconds(version, self.table.name)
        found = next((one.snapshot_id for one in self.snapshots if one.timestamp_ms <= at_ms), None)
        if found is None and not self.whole:
            raise SnapshotNotFound(f"no snapshot is as old as {shown(at_ms)}", self.table.name, self._way_out())
        return found

    def get(self, version: Version) -> int:
        """Return the id of a snapshot; SnapshotNotFound for a time before the first one, too."""
        found = self.find(version)
        if found is None:
            raise SnapshotNotFound(f"no snapshot is as old as {version}", self.table.name, self._way_out())
        return found

    def since(self, after: int | None) -> list[Snapshot]:
        """Return the snapshots after one of them, oldest first; all of them for None.

        Raises
        ------
        SnapshotNotFound
            `after`, or some snapshot behind it, is not kept.
        PlanError
            `after` is a snapshot that this version does not come from.
        """
        ids = [one.snapshot_id for one in self.snapshots]
        if after in ids:
            return list(reversed(self.snapshots[: ids.index(after)]))
        if after is None and self.whole:
            return list(reversed(self.snapshots))
        if not self.whole or self.table.pyiceberg.snapshot_by_id(after or 0) is None:
            what = (
                "the first snapshots of the table are" if after is None else f"snapshot {after}, or one behind it, is"
            )
            raise SnapshotNotFound(f"{what} not kept", self.table.name, self._way_out())
        raise PlanError(
            f"version {self.table.snapshot_id} was not made from snapshot {after}",
            self.table.name,
            "it is on another branch, or the table was rolled back or replaced since: read the table as a whole",
        )

    def committed_at(self, snapshot_id: int) -> datetime:
        """Return when one of the snapshots was made, in UTC."""
        (found,) = [one for one in self.snapshots if one.snapshot_id == snapshot_id]
        return datetime.fromtimestamp(found.timestamp_ms / 1000, UTC)

    def _way_out(self) -> str:
        if not self.snapshots:
            return "the table has no snapshots yet: nothing was written to it"
        oldest = self.snapshots[-1]
        return (
            f"the oldest that is kept is {oldest.snapshot_id} of {shown(oldest.timestamp_ms)}, older were expired: "
            "read the table as a whole, and changes after that"
        )


def appended_spans(snapshots: Iterable[Snapshot], overwrites: Overwrites, where: str) -> tuple[Span, ...]:
    """Return the spans in which nothing but new rows came.

    Raises
    ------
    PlanError
        A snapshot took rows out, and `overwrites` says ``"raise"``.
    ConfigError
        `overwrites` says something else.
    """
    if overwrites not in ("raise", "skip"):
        raise ConfigError(f"overwrites={overwrites!r}", where, nearest(overwrites, ("raise", "skip"), "choices"))
    spans: list[Span] = []
    for one in snapshots:
        operation = _operation(one)
        if operation == Operation.APPEND:
            spans.append(Span(one.parent_snapshot_id, one.snapshot_id))
        elif operation != Operation.REPLACE and overwrites == "raise":
            raise PlanError(
                f"snapshot {one.snapshot_id} took rows out as well ({operation.value}): appended rows are not all",
                where,
                "lake.changes tells of all rows that came and went; overwrites='skip' leaves such snapshots out",
            )
    return tuple(_merged(spans))


def changed_spans(snapshots: Iterable[Snapshot]) -> tuple[Span, ...]:
    """Return a span for each snapshot that changed rows."""
    found = [one for one in snapshots if _operation(one) != Operation.REPLACE]
    return tuple(
        Span(one.parent_snapshot_id, one.snapshot_id, number, _operation(one) == Operation.OVERWRITE)
        for number, one in enumerate(found)
    )


def net_spans(snapshots: Sequence[Snapshot]) -> tuple[Span, ...]:
    """Return the fewest spans that have the same changes in sum: from one compaction to the next."""
    kinds = {_operation(one) for one in snapshots} - {Operation.REPLACE}
    mixed = len(kinds) > 1 or Operation.OVERWRITE in kinds
    return tuple(Span(one.before, one.at, 0, mixed) for one in _merged(changed_spans(snapshots)))


def _merged(spans: Iterable[Span]) -> list[Span]:
    """Let spans that follow each other be one."""
    merged: list[Span] = []
    for span in spans:
        if merged and merged[-1].at == span.before:
            merged[-1] = Span(merged[-1].before, span.at)
        else:
            merged.append(span)
    return merged


def _operation(snapshot: Snapshot) -> Operation:
    return Operation.OVERWRITE if snapshot.summary is None else snapshot.summary.operation
