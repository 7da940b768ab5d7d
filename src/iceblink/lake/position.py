"""How far a follower of a table has come: kept by the table that it writes, with each commit, in the same snapshot."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from iceblink.errors import CommitConflict, ConfigError, PlanError
from iceblink.lake.lineage import Lineage
from iceblink.lake.table import Table

TOKEN = "iceblink.commit-token"
"""The entry of a snapshot's summary that says which write made it."""

_TEXT = re.compile(r"follow/([^/]+)/([0-9a-f-]{36})/(\d*)/(\d+)")
_NAME = re.compile(r"[^/\s]+")


@dataclass(frozen=True)
class Position:
    """A step of a follower; as text, the token of the write of what it had.

    Parameters
    ----------
    follower : str
    table : str
        UUID of the table that is followed.
    before : int or None
        Snapshot up to which the step before has come; None for the first step.
    at : int or None
        Snapshot up to which this step has come; None where there was none yet.
    """

    follower: str
    table: str
    before: int | None
    at: int | None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.follower):
            raise ConfigError(f"no follower can be named {self.follower!r}", "follow", "without spaces and /")

    def __str__(self) -> str:
        return f"follow/{self.follower}/{self.table}/{'' if self.before is None else self.before}/{self.at}"

    @classmethod
    def read(cls, text: str) -> Self | None:
        """Return the position that a token is; None if it is another one."""
        found = _TEXT.fullmatch(text)
        if found is None:
            return None
        return cls(found[1], found[2], int(found[3]) if found[3] else None, int(found[4]))

    def property(self, sequence_number: int) -> dict[str, str]:
        """Return the table property that says so besides, and since when: it outlives the snapshot."""
        return {_key(self.follower, self.table): f"{sequence_number} {self}"}

    def check(self, written: Table) -> None:
        """Refuse unless the step before this one is the last that a table has.

        Raises
        ------
        CommitConflict
        """
        last = last_position(written, self.follower, self.table)
        if last is not None and last.at != self.before:
            raise CommitConflict(
                f"follower {self.follower!r} has come to snapshot {last.at} here, this step begins at {self.before}",
                f"{written.name}, snapshot {self.at} of table {self.table}",
                "every step is written, once and in order: a second follower of the same name is at work, or a step "
                "was left out",
            )


def last_position(written: Table, follower: str, table: str) -> Position | None:
    """Return how far a follower of `table`, a UUID, has come in a table that it writes; None if it never wrote.

    Of the snapshots that led to its version: what was rolled back does not count. Where these are not all kept, the
    table's property says it.

    Raises
    ------
    PlanError
        It was rolled back to a version whose position was expired.
    """
    lineage = Lineage(written)
    for snapshot in lineage.snapshots:
        token = None if snapshot.summary is None else snapshot.summary.additional_properties.get(TOKEN)
        found = Position.read(token or "")
        if found is not None and (found.follower, found.table) == (follower, table):
            return found
    said = written.properties.get(_key(follower, table))
    if said is None or lineage.whole:
        return None
    since, _, text = said.partition(" ")
    if int(since) > (lineage.snapshots[-1].sequence_number or int(since)):
        what = f"how far follower {follower!r} has come here was expired, and the table rolled back since"
        raise PlanError(what, written.name, "give the follower another name, and begin with after=")
    return Position.read(text)


def _key(follower: str, table: str) -> str:
    return f"iceblink.follow.{follower}.{table}"
