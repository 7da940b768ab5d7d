"""The steps of an epoch, whatever decides their rows: one dataset or a mixture, sorted by length or not."""

from __future__ import annotations

from collections.abc import Generator

from iceblink.load.bucket import bucketed
from iceblink.load.columns import Columns
from iceblink.load.mixed_steps import mixed_steps
from iceblink.load.mixture import MixedOrder
from iceblink.load.order import Order, Rank
from iceblink.load.steps import Reading, steps


def course(order: Order | MixedOrder, rank: Rank, first: int, reading: Reading) -> Generator[Columns, None, None]:
    """Yield the rank's rows of each step of an epoch from `first` on; see `steps`."""

    def made(rank: Rank, first: int) -> Generator[Columns, None, None]:
        if isinstance(order, MixedOrder):
            return mixed_steps(order, rank, first, reading)
        return steps(order, rank, first, reading)

    return made(rank, first) if order.shape.bucket is None else bucketed(made, order, rank, first)
