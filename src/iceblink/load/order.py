"""Which rows each step of an epoch has: a pure function of the table's row groups, a seed and the epoch.

The units of a source (row groups, about) are put in an order that the epoch draws, one behind the other. The line is
cut into lanes of the same length; a step takes the next few rows of every lane, so that its rows come of as many units
as there are lanes, and units come at different times to their end. Rows change places only within their unit, where it
was not cut. Nothing of this depends on who takes part: a rank takes its stretch of the rows of each step.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from iceblink.load.permute import Permutation, shuffled
from iceblink.load.sequences import Bucket
from iceblink.splitmix import start_of

Quality: TypeAlias = Literal["none", "block", "window", "global"]
Tail: TypeAlias = Literal["keep", "drop", "pad"]


@dataclass(frozen=True)
class Shape:
    """All that the order of rows depends on beside the units and the epoch.

    Parameters
    ----------
    batch_rows : int
        Rows of one step, of all ranks together.
    lanes : int
        A divisor of `batch_rows`.
    quality : {"none", "block", "window", "global"}
        None leaves the units and their rows as they are; "global" is a permutation of all rows, and has no lanes.
        "block" and "window" differ only in the number of lanes.
    tail : {"keep", "drop", "pad"}
        Of the rows behind the last whole step: make a shorter one, none, or one filled up with the epoch's first rows.
    seed : int
    shares : int
        A divisor of `batch_rows`: the number of ranks when the job began. Rows are sorted by length inside of a share.
    bucket : Bucket or None
    """

    batch_rows: int
    lanes: int
    quality: Quality
    tail: Tail
    seed: int
    shares: int = 1
    bucket: Bucket | None = None

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Self:
        """Return the shape of which a state holds the fields."""
        found = {field.name: state[field.name] for field in fields(cls)}
        return cls(**found | {"bucket": None if found["bucket"] is None else Bucket(**found["bucket"])})


@dataclass(frozen=True)
class Rank:
    """One of several that share out the rows of each step."""

    number: int
    world: int

    def share(self, rows: int) -> tuple[int, int]:
        """Return where the rank's part of so many rows begins and ends."""
        return rows * self.number // self.world, rows * (self.number + 1) // self.world


@dataclass(frozen=True)
class Wanted:
    """Rows of one unit that a lane needs.

    Parameters
    ----------
    lane : int
    first_step : int
        The step that needs the first of them.
    unit : int
    places : ndarray of int64, shape (rows,)
        Their places in the unit, in the order in which they are needed.
    """

    lane: int
    first_step: int
    unit: int
    places: NDArray[np.int64]


@dataclass(frozen=True)
class Lane:
    """A stretch of the line, from `begin` to `end`; a step takes `each` rows, this rank those from `low` to `high`."""

    number: int
    begin: int
    end: int
    each: int
    low: int
    high: int

    @property
    def rows(self) -> int:
        """Rows of a step for this rank."""
        return self.high - self.low


@dataclass(frozen=True)
class Section:
    """Consecutive steps that are alike: from `first` up to `last`, which is not one of them; `skipped` came before."""

    first: int
    last: int
    lanes: tuple[Lane, ...]
    skipped: int = 0

    @property
    def rows(self) -> int:
        """Rows of a step for this rank."""
        return sum(lane.rows for lane in self.lanes)


class Order:
    """The rows of one epoch.

    Parameters
    ----------
    unit_rows : sequence of int
        Rows of each unit that are left after deletes and filters.
    shape : Shape
    epoch : int
    """

    def __init__(self, unit_rows: Sequence[int] | NDArray[np.int64], shape: Shape, epoch: int) -> None:
        self.shape, self.epoch = shape, epoch
        self._rows = np.asarray(unit_rows, dtype=np.int64)
        self.rows = int(self._rows.sum())

    @property
    def at_hand(self) -> NDArray[np.int64]:
        """The units of which any row may be wanted at any time."""
        return np.flatnonzero(self._rows) if self.shape.quality == "global" else np.empty(0, np.int64)

    @property
    def whole_steps(self) -> int:
        """Steps with all their rows from one pass over the table."""
        return self.rows // self.shape.batch_rows

    @property
    def tail_rows(self) -> int:
        """Rows of the table behind the last whole step."""
        return self.rows % self.shape.batch_rows

    @property
    def steps(self) -> int:
        """Steps of the epoch."""
        return self.whole_steps + bool(self.tail_rows and self.shape.tail != "drop")

    def rows_of(self, step: int) -> int:
        """Return how many rows a step has, of all ranks together."""
        short = step >= self.whole_steps and self.shape.tail == "keep"
        return self.tail_rows if short else self.shape.batch_rows

    def repeated(self, step: int) -> int:
        """Return how many rows of a step, the last ones, only fill it up: the epoch begins with them."""
        return self.shape.batch_rows - self.tail_rows if step >= self.whole_steps and self.shape.tail == "pad" else 0

    def sections(self, rank: Rank, first: int = 0) -> Iterator[Section]:
        """Yield the steps from `first` on, with the lanes of which the rank has a part."""
        whole, rows = self.whole_steps, self.shape.batch_rows
        if first < whole:
            each = rows // self.shape.lanes
            low, high = rank.share(rows)
            lanes = [
                Lane(
                    number,
                    number * each * whole,
                    (number + 1) * each * whole,
                    each,
                    max(low - number * each, 0),
                    min(high - number * each, each),
                )
                for number in range(low // each, -(-high // each))
            ]
            yield Section(first, whole, tuple(lanes), skipped=first)
        if first < self.steps and whole < self.steps:
            begin, each = whole * rows, self.rows_of(whole)
            yield Section(whole, self.steps, (Lane(0, begin, begin + each, each, *rank.share(each)),))

    def wanted(self, section: Section, steps_at_once: int) -> Iterator[Wanted]:
        """Yield what the lanes of a section need, in the order of need where so many steps are made at once."""

        def needed(found: Wanted) -> tuple[int, int]:
            return (found.first_step - section.first) // steps_at_once, found.lane

        return heapq.merge(*(self._along(lane, section) for lane in section.lanes if lane.rows), key=needed)

    def _along(self, lane: Lane, section: Section) -> Iterator[Wanted]:
        at = lane.begin + section.skipped * lane.each
        while at < lane.end:
            turn = at - at % self.rows  # what fills up the last step begins the line again
            place = int(np.searchsorted(self._ends, at - turn, side="right"))
            unit, unit_end = int(self._line[place]), int(self._ends[place]) + turn
            unit_begin = unit_end - int(self._rows[unit])
            begin, end = max(unit_begin, lane.begin), min(unit_end, lane.end)  # of the part in the lane
            inside = np.arange(at, end) - lane.begin
            slots = inside % lane.each
            mine = inside[(lane.low <= slots) & (slots < lane.high)]
            if len(mine):
                step = section.first - section.skipped + int(mine[0]) // lane.each
                places = mine + (lane.begin - begin)  # in the part of the unit that is in the lane
                if self.shape.quality != "none":
                    places = self._within(unit, begin - unit_begin, end - begin)[places]
                yield Wanted(lane.number, step, unit, places + (begin - unit_begin))
            at = end

    def drawn(self, rank: Rank, first: int, last: int) -> NDArray[np.int64]:
        """Return the rows of some steps of a permutation of all rows.

        Returns
        -------
        ndarray of int64, shape (rows,)
            Places in the table, of the rank's rows of each step, one step behind the other.
        """
        found = []
        for step in range(first, last):
            low, high = rank.share(self.rows_of(step))
            found.append(step * self.shape.batch_rows + np.arange(low, high))
        return self._permutation(np.concatenate(found) % self.rows)

    def found(self, places: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the units of rows that are named by their places in the table, and their places in those."""
        ends = np.cumsum(self._rows)
        units = np.searchsorted(ends, places, side="right")
        return units, places - (ends - self._rows)[units]

    def _within(self, unit: int, begin: int, rows: int) -> NDArray[np.int64]:
        return shuffled(rows, self._key("rows", unit, begin))

    @cached_property
    def _line(self) -> NDArray[np.int64]:
        """The units in the order of the epoch; those without rows are left out."""
        units = np.flatnonzero(self._rows)
        return units if self.shape.quality == "none" else units[shuffled(len(units), self._key("units"))]

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        return np.cumsum(self._rows[self._line])

    @cached_property
    def _permutation(self) -> Permutation:
        return Permutation(self.rows, self._key("all rows"))

    def _key(self, *words: object) -> int:
        return start_of("iceblink loader", self.shape.seed, self.epoch, *words)
