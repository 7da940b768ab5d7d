"""Rows that cannot be had, replaced by others: the same on every rank and each time, so that counts stay even."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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


def origins(
    order: Order | MixedOrder,
    rank: Rank,
    step: int,
    unit_rows: NDArray[np.int64],
    read: Callable[[int], Columns],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where the rank's rows of a step come from: their units, and their places in those.

    Units are read only where the order depends on what is in the rows.
    """

    def places(unit: int) -> Columns:
        rows = int(unit_rows[unit])
        columns = {} if order.shape.bucket is None else read(unit)
        return columns | {UNIT: np.full(rows, unit), PLACE: np.arange(rows)}

    came = next(course(order, rank, step, Reading(places, 1, 1 << 20, 1)))
    return np.asarray(came[UNIT]), np.asarray(came[PLACE])
