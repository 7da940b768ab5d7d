"""Steps of a mixture: the rows of its sources, each read in the order that it has alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from iceblink.load.columns import Columns, joined, taken
from iceblink.load.mixture import MixedOrder, Source
from iceblink.load.order import Rank
from iceblink.load.shares import WholeShares
from iceblink.load.steps import Reading, steps

SOURCE = "source"
"""Name of the column that has the number of each row's source, in the order in which they were given."""


def mixed_steps(order: MixedOrder, rank: Rank, first: int, reading: Reading) -> Generator[Columns, None, None]:
    """Yield the rank's rows of each step of an epoch from `first` on; see `steps`."""
    shape = order.shape
    wide = WholeShares.of(rank, shape.shares)
    low, high = wide.part(rank, shape.batch_rows)
    share = np.repeat(np.arange(wide.last - wide.first), shape.batch_rows // shape.shares)
    begin = order.drawn(first, wide.first, wide.last).firsts
    with ExitStack() as stack:
        lines = []
        for source, number in zip(order.mixture.sources, begin, strict=True):
            turn = int(number) // source.share_rows
            turns = stack.enter_context(closing(_turns(order, source, wide, reading, turn)))
            lines.append(_Line(turns, turn, source.share_rows))
        for step in range(first, order.steps):
            drawn = order.drawn(step, wide.first, wide.last)
            parts, places = [], []
            for number, line in enumerate(lines):
                line.forget(int(drawn.firsts[number]))
                mine = np.flatnonzero(drawn.sources[low:high] == number)
                for columns, some in line.take(share[low:high][mine], drawn.numbers[low:high][mine]):
                    parts.append(columns)
                    places.append(mine[some])
            back = np.argsort(np.concatenate(places))
            yield taken(joined(parts), back) | {SOURCE: drawn.sources[low:high].astype(np.int32)}


def _turns(
    order: MixedOrder, source: Source, rank: Rank, reading: Reading, first: int
) -> Generator[Columns, None, None]:
    """Yield the steps that a source has alone, from one on and without an end."""
    mine = replace(
        reading,
        read=lambda unit: reading.read(source.first_unit + unit),
        threads=max(1, round(reading.threads * source.weight)),
        ahead_bytes=int(reading.ahead_bytes * source.weight),
    )
    epoch, step = divmod(first, order.source(source, 0).steps)
    while True:
        yield from steps(order.source(source, epoch), rank, step, mine)
        epoch, step = epoch + 1, 0


class _Line:
    """The rows of one source for some shares: of the steps of its own that are needed now.

    Parameters
    ----------
    turns : iterator of Columns
        Those steps.
    first : int
        The number of the first of them.
    share_rows : int
        How many rows of such a step each share has.
    """

    def __init__(self, turns: Iterator[Columns], first: int, share_rows: int) -> None:
        self._turns, self._first, self._share_rows = turns, first, share_rows
        self._held: deque[Columns] = deque()

    def forget(self, number: int) -> None:
        """Let go of rows that have smaller numbers."""
        while self._first < number // self._share_rows:
            _ = self._held.popleft() if self._held else next(self._turns)  # which other ranks took
            self._first += 1

    def take(
        self, shares: NDArray[np.int64], numbers: NDArray[np.int64]
    ) -> Iterator[tuple[Columns, NDArray[np.int64]]]:
        """Yield rows by their shares and their numbers in those, and which of them they are."""
        turns, rows = np.divmod(numbers, self._share_rows)
        for turn in np.unique(turns) - self._first:
            while len(self._held) <= turn:
                self._held.append(next(self._turns))
            some = np.flatnonzero(turns == self._first + turn)
            yield taken(self._held[turn], shares[some] * self._share_rows + rows[some]), some
