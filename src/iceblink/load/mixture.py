"""Which rows of several sources each step of a mixture has: a pure function of the weights and the step.

Each share of a step, one for each rank that the job began with, has a line of rows of its own through all epochs. How
many of the first so many rows of that line are of one source is known at once, so that the mixture's step tells where
it is in every source. A source is ordered as if it were alone, in steps of about as many rows as the mixture takes of
it, and goes round its own epochs.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iceblink.load.order import Order, Shape
from iceblink.load.permute import shuffled
from iceblink.splitmix import start_of

BITS = 20  # of weights: in whole numbers, so that no rounding adds up, however many rows there are
MOST_ROWS = 1 << 62 - BITS  # of a share, through all epochs


def dealt(weights: Sequence[float], shares: int, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many rows of each source are among the first rows of each share.

    Never less for more rows, and as many as the weights say but for a difference that does not grow. Shares round at
    different times, so that all rows of a step are divided by weight, too.

    Parameters
    ----------
    weights : sequence of float
    shares : int
    rows : ndarray of int64, shape (n,)

    Returns
    -------
    ndarray of int64, shape (sources, shares, n)
    """
    left = np.broadcast_to(rows, (shares, len(rows)))
    found = []
    for source, weight in enumerate(weights[:-1]):
        part = round(weight / sum(weights[source:]) * (1 << BITS))
        turn = shuffled(shares, start_of("iceblink mixture", source))
        phase = ((2 * turn + 1) << BITS) // (2 * shares)
        found.append((left * part + phase[:, None]) >> BITS)
        left = left - found[-1]
    return np.stack([*found, left])


@dataclass(frozen=True)
class Source:
    """One of the datasets of a mixture.

    Parameters
    ----------
    name : str
    weight : float
    first_unit, last_unit : int
        Where its units are among those of the mixture; the last one is not its own.
    shape : Shape
        Its order, if it were alone; its seed is the mixture's.
    """

    name: str
    weight: float
    first_unit: int
    last_unit: int
    shape: Shape

    @property
    def share_rows(self) -> int:
        """Rows of a share, in one of its own steps."""
        return self.shape.batch_rows // self.shape.shares

    def order(self, unit_rows: NDArray[np.int64], seed: int, epoch: int) -> Order:
        """Return the order of one of its own epochs."""
        shape = replace(self.shape, seed=start_of("iceblink mixture", seed, self.name))
        return Order(unit_rows[self.first_unit : self.last_unit], shape, epoch)


@dataclass(frozen=True)
class Mixture:
    """Sources, and how many steps of the mixture make one of its epochs."""

    sources: tuple[Source, ...]
    steps: int

    @property
    def weights(self) -> list[float]:
        """Of the sources."""
        return [source.weight for source in self.sources]

    def state(self) -> dict[str, Any]:
        """Return what is not decided by the sources and the weights alone."""
        return {"steps": self.steps, "sources": {source.name: asdict(source.shape) for source in self.sources}}

    def at(self, state: Mapping[str, Any]) -> Mixture:
        """Return the mixture of a state."""
        shapes = state["sources"]
        sources = tuple(replace(source, shape=Shape.of(shapes[source.name])) for source in self.sources)
        return Mixture(sources, state["steps"])

    def lines(self, unit_rows: NDArray[np.int64], share_rows: int) -> list[str]:
        """Return the sources in words."""
        found = []
        taken = dealt(self.weights, 1, np.array([self.steps * share_rows]))[:, 0, 0]
        for source, each in zip(self.sources, taken, strict=True):
            order = source.order(unit_rows, 0, 0)
            found.append(
                f"  {source.name}: weight {source.weight:.4g}, {order.rows:,} rows, order {source.shape.quality}, "
                f"{source.shape.lanes} lanes; seen {each / (order.steps * source.share_rows):.2f} times an epoch"
            )
        return found


def steps_before(source: int, weights: Sequence[float], shares: int, share_rows: int, source_rows: int) -> int:
    """Return how many steps there are before a source gives a row the second time.

    Parameters
    ----------
    source : int
    weights : sequence of float
    shares : int
    share_rows : int
        Rows of a share in a step.
    source_rows : int
        Rows of the source for one share.
    """

    def taken(step: int) -> int:
        return int(dealt(weights, shares, np.array([step * share_rows]))[source].max())

    enough = 2 * int((source_rows + len(weights)) * sum(weights) / weights[source])
    return bisect_right(range(1, min(enough, MOST_ROWS) // share_rows + 2), source_rows, key=taken)


@dataclass(frozen=True)
class Drawn:
    """The rows of some shares in a step.

    Parameters
    ----------
    sources : ndarray of int64, shape (rows,)
        The number of each row's source.
    numbers : ndarray of int64, shape (rows,)
        The number of each row in the line that its share has of that source.
    firsts : ndarray of int64, shape (sources,)
        No share takes a row with a smaller number from now on.
    """

    sources: NDArray[np.int64]
    numbers: NDArray[np.int64]
    firsts: NDArray[np.int64]


class MixedOrder:
    """The rows of one epoch of a mixture.

    Parameters
    ----------
    unit_rows : ndarray of int64
        Rows of each unit of all sources.
    shape : Shape
    mixture : Mixture
    epoch : int
    """

    tail_rows = 0

    def __init__(self, unit_rows: NDArray[np.int64], shape: Shape, mixture: Mixture, epoch: int) -> None:
        self.unit_rows, self.shape, self.mixture, self.epoch = unit_rows, shape, mixture, epoch
        self.rows = int(unit_rows.sum())
        self.steps = self.whole_steps = mixture.steps

    @property
    def at_hand(self) -> NDArray[np.int64]:
        """The units of which any row may be wanted at any time."""
        sources = self.mixture.sources
        return np.concatenate([self.source(one, 0).at_hand + one.first_unit for one in sources])

    def rows_of(self, _step: int) -> int:
        """Return how many rows a step has, of all ranks together."""
        return self.shape.batch_rows

    def repeated(self, _step: int) -> int:
        """Return how many rows of a step only fill it up."""
        return 0

    def source(self, source: Source, epoch: int) -> Order:
        """Return the order of a source in one of its own epochs."""
        return source.order(self.unit_rows, self.shape.seed, epoch)

    def drawn(self, step: int, first_share: int, last_share: int) -> Drawn:
        """Return what the rows of some shares are in a step."""
        rows = self.shape.batch_rows // self.shape.shares
        begin = (self.epoch * self.steps + step) * rows
        counts = dealt(self.mixture.weights, self.shape.shares, begin + np.arange(rows + 1))[:, first_share:last_share]
        sources = np.diff(counts, axis=2).argmax(axis=0)
        numbers = np.take_along_axis(counts[:, :, :-1], sources[None], axis=0)[0]
        return Drawn(sources.ravel(), numbers.ravel(), counts[:, :, 0].min(axis=1))
