"""Steps made of units: read in the order of need by several threads, their rows put in the places of their steps.

Several steps are made at once, for the cost of a lane is the same for one row and for many.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from iceblink.load.columns import Column, Columns, bytes_of, joined, rows_of, sliced, taken
from iceblink.load.order import Order, Rank, Section, Wanted
from iceblink.scan.ordered import in_order

PART_ROWS = 1024  # memory of a unit is given back in parts of so many rows, as its lane goes on


@dataclass(frozen=True)
class Reading:
    """How units are read.

    Parameters
    ----------
    read : callable
        Gives the columns of a unit; called by several threads.
    threads : int
    ahead_bytes : int
        Rows of at most this size wait for their steps, beside those of the units that are open [bytes].
    steps_at_once : int
    """

    read: Callable[[int], Columns]
    threads: int
    ahead_bytes: int
    steps_at_once: int


@dataclass(frozen=True)
class _Part:
    """Some of the rows that a lane needs, in their order."""

    lane: int
    columns: Columns
    nbytes: int


def steps(order: Order, rank: Rank, first: int, reading: Reading) -> Generator[Columns, None, None]:
    """Yield the rank's rows of each step of an epoch from `first` on.

    Closing the generator ends its threads. The arrays of several steps are parts of one.
    """
    for section in order.sections(rank, first):
        if order.shape.quality == "global":
            yield from _drawn(order, rank, section, reading)
        else:
            yield from _laid(order, section, reading)


def _laid(order: Order, section: Section, reading: Reading) -> Generator[Columns, None, None]:
    tasks = (partial(_parts, reading.read, wanted) for wanted in order.wanted(section, reading.steps_at_once))
    with closing(in_order(tasks, reading.threads, lambda part: part.nbytes, reading.ahead_bytes)) as parts:
        lanes = {lane.number: _Waiting(lane.rows) for lane in section.lanes if lane.rows}
        for first in range(section.first, section.last, reading.steps_at_once):
            count = min(reading.steps_at_once, section.last - first)
            for lane in lanes.values():
                while not lane.has(count):
                    part = next(parts)  # of this lane, or of another one whose unit was needed before
                    lanes[part.lane].add(part.columns)
            yield from _split(_interleaved([lane.take(count) for lane in lanes.values()], count), count)


def _parts(read: Callable[[int], Columns], wanted: Wanted) -> Iterator[_Part]:
    columns = read(wanted.unit)
    for start in range(0, len(wanted.places), PART_ROWS):
        some = taken(columns, wanted.places[start : start + PART_ROWS])
        yield _Part(wanted.lane, some, bytes_of(some))


class _Waiting:
    """The rows of one lane that were read and have not found their step; `rows` of them make one."""

    def __init__(self, rows: int) -> None:
        self._rows, self._held = rows, 0
        self._parts: deque[Columns] = deque()

    def add(self, columns: Columns) -> None:
        """Take rows behind those that wait."""
        self._parts.append(columns)
        self._held += rows_of(columns)

    def has(self, count: int) -> bool:
        """Whether there are rows for so many steps."""
        return self._held >= count * self._rows

    def take(self, count: int) -> list[Columns]:
        """Return the rows of so many steps."""
        wanted = count * self._rows
        self._held -= wanted
        found = []
        while wanted:
            columns = self._parts.popleft()
            rows = rows_of(columns)
            found.append(columns if rows <= wanted else sliced(columns, 0, wanted))
            if rows > wanted:
                self._parts.appendleft(sliced(columns, wanted, rows))
            wanted -= min(rows, wanted)
        return found


def _interleaved(lanes: Sequence[Sequence[Columns]], count: int) -> Columns:
    """Return rows of several lanes, so many steps of each, as the rows of one step behind the other."""
    per_step = [sum(map(rows_of, parts)) // count for parts in lanes]
    return {name: _column([[part[name] for part in parts] for parts in lanes], per_step, count) for name in lanes[0][0]}


def _column(lanes: Sequence[Sequence[Column]], per_step: Sequence[int], count: int) -> Column:
    width = sum(per_step)
    first = lanes[0][0]
    if isinstance(first, np.ndarray):
        made = np.empty((count, width, *first.shape[1:]), first.dtype)
        begin = 0
        for parts, rows in zip(lanes, per_step, strict=True):
            whole = parts[0] if len(parts) == 1 else np.concatenate(parts)
            made[:, begin : begin + rows] = whole.reshape(count, rows, *first.shape[1:])
            begin += rows
        return made.reshape(count * width, *first.shape[1:])
    whole = pa.concat_arrays([part for parts in lanes for part in parts])
    if len(lanes) == 1 or count == 1:
        return whole
    begins = np.concatenate([[0], np.cumsum(per_step)[:-1]]) * count
    places = [
        begin + np.arange(count * rows).reshape(count, rows) for begin, rows in zip(begins, per_step, strict=True)
    ]
    return whole.take(pa.array(np.hstack(places).ravel()))


def _drawn(order: Order, rank: Rank, section: Section, reading: Reading) -> Generator[Columns, None, None]:
    """Yield steps of rows that come from anywhere: of units that are cheap to read again and again."""

    def made(first: int, last: int) -> Iterator[Columns]:
        yield _gathered(order, order.drawn(rank, first, last), reading.read)

    firsts = range(section.first, section.last, reading.steps_at_once)
    spans = [(first, min(first + reading.steps_at_once, section.last)) for first in firsts]
    tasks = (partial(made, *span) for span in spans)
    with closing(in_order(tasks, reading.threads, bytes_of, reading.ahead_bytes)) as found:
        for (first, last), columns in zip(spans, found, strict=True):
            yield from _split(columns, last - first)


def _gathered(order: Order, places: NDArray[np.int64], read: Callable[[int], Columns]) -> Columns:
    """Return rows of the table by their places in it: unit by unit, then put in order."""
    units, inside = order.found(places)
    by_unit = np.argsort(units, kind="stable")
    bounds = np.flatnonzero(np.diff(units[by_unit], prepend=-1, append=-1))
    groups = [by_unit[begin:end] for begin, end in pairwise(bounds)]
    parts = [taken(read(int(units[group[0]])), inside[group]) for group in groups]
    back = np.empty_like(by_unit)
    back[by_unit] = np.arange(len(places))
    return taken(joined(parts), back)


def _split(columns: Columns, count: int) -> Iterator[Columns]:
    rows = rows_of(columns) // count
    return (sliced(columns, step * rows, (step + 1) * rows) for step in range(count))
