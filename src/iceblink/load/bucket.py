"""Steps of rows alike: those of a window of steps, sorted by length and dealt out to the same steps again.

A window begins at a multiple of its length, so that whoever begins in the middle of one makes all of it again.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from itertools import islice
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt
from numpy.typing import NDArray

from iceblink.load.columns import Column, Columns, joined, sliced, taken
from iceblink.load.mixture import MixedOrder
from iceblink.load.order import Order, Rank
from iceblink.load.permute import shuffled
from iceblink.load.shares import WholeShares
from iceblink.splitmix import start_of

Steps: TypeAlias = Callable[[Rank, int], Generator[Columns, None, None]]


def bucketed(made: Steps, order: Order | MixedOrder, rank: Rank, first: int) -> Generator[Columns, None, None]:
    """Yield the rank's rows of each step from `first` on; a short last step stays as it is.

    Parameters
    ----------
    made : callable
        Gives the steps of a rank from one on, as they are without this.
    order : Order or MixedOrder
    rank : Rank
    first : int
    """
    shape, whole = order.shape, order.whole_steps
    assert shape.bucket is not None
    wide, length = WholeShares.of(rank, shape.shares), shape.bucket.steps
    begin = first - first % length if first < whole else first
    low, high = wide.part(rank, shape.batch_rows)
    with closing(made(wide, begin)) as steps:
        for start in range(begin, whole, length):
            window = list(islice(steps, min(length, whole - start)))
            columns = joined(window)
            sizes = lengths_of(columns[shape.bucket.column])
            key = None if shape.quality == "none" else start_of("iceblink bucket", shape.seed, order.epoch, start)
            places = _dealt(sizes.reshape(len(window), -1, shape.batch_rows // shape.shares), key)
            for step in range(max(first - start, 0), len(window)):
                yield taken(columns, places[step, low:high])
        for columns in steps:
            yield sliced(columns, *wide.part(rank, order.rows_of(whole)))


def _dealt(sizes: NDArray[np.int64], key: int | None) -> NDArray[np.int64]:
    """Return the places that each step's rows have in the window: shape (steps, shares * rows), as of `sizes`.

    Every share deals its shortest rows to the same step, and so on.
    """
    steps, shares, rows = sizes.shape
    by_size = np.argsort(sizes.swapaxes(0, 1).reshape(shares, -1), axis=1, kind="stable")
    step, row = np.divmod(by_size, rows)
    places = (step * shares + np.arange(shares)[:, None]) * rows + row
    turns = np.arange(steps) if key is None else shuffled(steps, key)
    found: NDArray[np.int64] = places.reshape(shares, steps, rows)[:, turns].swapaxes(0, 1).reshape(steps, -1)
    return found


def lengths_of(column: Column) -> NDArray[Any]:
    """Return how long each row is: numbers say it themselves."""
    if isinstance(column, np.ndarray):
        return column
    is_list = pt.is_list(column.type) or pt.is_large_list(column.type)
    lengths: pa.Array = pc.list_value_length(column) if is_list else pc.binary_length(column)
    return np.asarray(lengths.fill_null(0))
