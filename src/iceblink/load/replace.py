"""Rows that cannot be had, replaced by others: the same on every rank and each time, so that counts stay even."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from iceblink.errors import IceblinkError
from iceblink.events import Event
from iceblink.load.columns import Columns
from iceblink.load.course import course
from iceblink.load.mixture import MixedOrder
from iceblink.load.order import Order, Rank
from iceblink.load.steps import Reading

UNIT, PLACE = "\0unit", "\0place"  # no column of a user has such a name
NEAR, RECENT = 100, 32  # steps


@dataclass(frozen=True)
class RowsReplaced(Event):
    """Rows of a loader could not be read, or a function failed on them: others are in their place."""

    where: str
    rows: int
    error: str


def failing(rows: int, attempt: Callable[[int, int], object]) -> dict[int, IceblinkError]:
    """Return the rows that an attempt, from one row up to another, fails on: found by halving, each with its error.

    Rows that fail only together are all at fault.
    """
    bad: dict[int, IceblinkError] = {}

    def look(begin: int, end: int) -> None:
        try:
            attempt(begin, end)
            return
        except IceblinkError as error:
            failure = error  # and out of here: what fails later did not fail because of it
        before = len(bad)
        if end - begin > 1:
            look(begin, (begin + end) // 2)
            look((begin + end) // 2, end)
        if len(bad) == before:
            bad.update(dict.fromkeys(range(begin, end), failure))

    look(0, rows)
    return bad


def instead(rows: int, bad: Mapping[int, IceblinkError]) -> NDArray[np.int64]:
    """Return the places of rows where the good ones, in turn, are in the places of the bad.

    Raises
    ------
    IceblinkError
        All are bad: the first one's error.
    """
    places = np.arange(rows)
    good = np.setdiff1d(places, list(bad))
    if not len(good):
        raise bad[min(bad)]
    places[sorted(bad)] = np.resize(good, len(bad))
    return places


class Origins:
    """Where the rank's rows of the steps of an epoch come from: their units, and their places in those.

    To begin in the middle of an epoch takes as long as a hundred steps, so it is gone along with, from any thread.

    Parameters
    ----------
    order : Order or MixedOrder
    rank : Rank
    unit_rows : ndarray of int64, shape (units,)
    read : callable
        Gives the columns of a unit, where the order depends on what is in the rows.
    """

    def __init__(
        self, order: Order | MixedOrder, rank: Rank, unit_rows: NDArray[np.int64], read: Callable[[int], Columns]
    ) -> None:
        self._order, self._rank, self._unit_rows, self._read = order, rank, unit_rows, read
        self._lock = threading.Lock()
        self._course: Generator[Columns, None, None] | None = None
        self._next = 0  # step that the course gives
        self._recent: dict[int, Columns] = {}  # by step: several threads ask, not quite in order

    def of(self, step: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return units and places, of shape (rows,)."""
        with self._lock:
            if step not in self._recent:
                self._go(step)
            came = self._recent[step]
        return np.asarray(came[UNIT]), np.asarray(came[PLACE])

    def close(self) -> None:
        """End the threads of the course."""
        if self._course is not None:
            self._course.close()

    def _go(self, step: int) -> None:
        if self._course is None or not self._next <= step < self._next + NEAR:
            self.close()
            self._next = step
            self._course = course(self._order, self._rank, step, Reading(self._places, 1, 1 << 20, 1))
        while self._next <= step:
            self._recent[self._next] = next(self._course)
            self._next += 1
            if len(self._recent) > RECENT:
                del self._recent[next(iter(self._recent))]

    def _places(self, unit: int) -> Columns:
        rows = int(self._unit_rows[unit])
        columns = {} if self._order.shape.bucket is None else self._read(unit)
        return columns | {UNIT: np.full(rows, unit), PLACE: np.arange(rows)}
