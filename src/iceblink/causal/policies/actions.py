"""What can be done with a row, what that is worth, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from iceblink.causal.judging.columns import check_numbers, numbers
from iceblink.causal.moments import Floats
from iceblink.errors import ConfigError

if TYPE_CHECKING:
    from iceblink.dataset import Dataset

Amount = float | str
Costs = Amount | Mapping[str, Amount]

TREAT = "treat"
"""What the only action is called."""


@dataclass(frozen=True)
class Actions:
    """Actions beside that of doing nothing, which gains nothing and costs nothing.

    Parameters
    ----------
    names : tuple of str
        Of the A actions.
    scores : tuple of str
        A column of doubly robust scores of each.
    costs : tuple of float or str
        What each costs, in the unit of the outcome: an amount, or a column of amounts.
    """

    names: tuple[str, ...]
    scores: tuple[str, ...]
    costs: tuple[Amount, ...]

    @classmethod
    def of(cls, score: str | Mapping[str, str], cost: Costs, where: str) -> Actions:
        """Read what a user says. Raises ConfigError."""
        scores = {TREAT: score} if isinstance(score, str) else dict(score)
        if not scores:
            raise ConfigError("there are no actions", where, "score={action: column, ...}")
        for name in scores:
            if not isinstance(name, str):
                raise ConfigError(
                    f"an action is called {name!r}", where, "by a text, which `assigned` has where it is done"
                )
        if isinstance(cost, Mapping):
            if set(cost) != set(scores):
                raise ConfigError(
                    f"costs are of {list(cost)}, and the actions are {list(scores)}", where, "one of each"
                )
            costs = tuple(cost[name] for name in scores)
        else:
            costs = (cost,) * len(scores)
        for one in costs:
            if not isinstance(one, str) and not np.isfinite(one):
                raise ConfigError(f"cost is {one}", where, "a number in the unit of the outcome, or a column")
        return cls(tuple(scores), tuple(scores.values()), costs)

    @property
    def single(self) -> bool:
        """Whether rows are treated or not, and no more is to be said of it."""
        return self.names == (TREAT,)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns that are read."""
        return tuple(dict.fromkeys((*self.scores, *(cost for cost in self.costs if isinstance(cost, str)))))

    def check(self, data: Dataset, where: str) -> None:
        """Raise ColumnNotFound or TypeMismatch where a column is none, or none of numbers. Reads nothing."""
        check_numbers(data, self.inputs, where)

    def worth(self, batch: pa.RecordBatch, where: str) -> Floats:
        """Return the score less the cost (A, n) of each action on each row. Raises QueryError."""
        columns = {name: numbers(batch, name, where) for name in self.inputs}
        return np.stack(
            [
                columns[score] - (columns[cost] if isinstance(cost, str) else cost)
                for score, cost in zip(self.scores, self.costs, strict=True)
            ]
        )
