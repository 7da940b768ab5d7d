"""What every forest is asked for and checks, and what every grown one does to a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import pyarrow as pa

from iceblink.causal.forests.bins import Bins
from iceblink.causal.moments import Floats
from iceblink.causal.passes import BLOCK_ROWS, Missing, check_missing
from iceblink.causal.whole import check_whole
from iceblink.errors import ColumnNotFound, ConfigError, DuplicateColumn, PlanError

if TYPE_CHECKING:
    from collections.abc import Callable

    from iceblink.dataset import Dataset

Tried = int | Literal["sqrt"] | None
MOST_DEPTH = 16


def check_names(names: object, role: str, where: str) -> None:
    """Raise ConfigError where one text stands for several columns: it would be taken for its letters."""
    if isinstance(names, str):
        raise ConfigError(f"{role} are {names!r}", where, f"a list: [{names!r}]")


def check_shape(trees: int, depth: int, min_leaf: int, tried: Tried, missing: Missing, where: str) -> None:
    """Raise ConfigError where trees cannot be of such a shape."""
    if trees < 1:
        raise ConfigError(f"trees is {trees}", where, "one or more")
    if not 1 <= depth <= MOST_DEPTH:
        raise ConfigError(f"depth is {depth}", where, f"from 1 to {MOST_DEPTH}: a tree has up to 2 ** depth leaves")
    if min_leaf < 1:
        raise ConfigError(f"min_leaf is {min_leaf}", where, "one or more rows")
    if tried is not None and tried != "sqrt":
        check_whole(where, max_features=tried)
        if tried < 1:
            raise ConfigError(f"max_features is {tried}", where, 'a number, "sqrt", or None for all')
    check_missing(missing, where)


def tried_of(tried: Tried, features: int) -> int:
    """Return how many of the features are tried in a node."""
    if tried is None:
        return features
    return max(int(features**0.5), 1) if tried == "sqrt" else min(tried, features)


def check_roles(
    data: Dataset,
    roles: tuple[str, str],
    features: Sequence[str],
    where: str,
    *,
    confounders: Sequence[str] = (),
    residuals: Sequence[str] = (),
) -> None:
    """See that columns are there and have one role each.

    Parameters
    ----------
    data : Dataset
    roles : (str, str)
        Outcome and treatment.
    features : sequence of str
    where : str
        For errors.
    confounders, residuals : sequence of str
        If there are any.

    Raises
    ------
    ColumnNotFound
    PlanError
        The outcome, the treatment or what is left of them is a feature or a confounder, or both are the same.
    """
    for name in (*roles, *residuals, *confounders):
        if name not in data.columns:
            raise ColumnNotFound.of(name, data.columns, where)
    for pair in (roles, tuple(residuals)):
        if len(set(pair)) < len(pair):
            raise PlanError(f"{pair[0]!r} is both outcome and treatment", where, "name another column")
    for name in (*roles, *residuals):
        for role, names in (("features", features), ("confounders", confounders)):
            if name in names:
                raise PlanError(f"{name!r} is among the {role}", where, f"leave it out: {role} were there before")


def scored(
    data: Dataset, bins: Bins, score: Callable[[pa.RecordBatch], Floats], names: Sequence[str], where: str
) -> Dataset:
    """Return rows with columns that are computed of their features. Lazy.

    Raises
    ------
    ColumnNotFound, TypeMismatch, DuplicateColumn
    """
    bins.check(data.schema, where)
    for at, name in enumerate(names):
        if name in data.columns or name in names[:at]:
            raise DuplicateColumn(f"there is a column {name!r} already", where, "give another name")
    schema = pa.schema([*data.schema, *(pa.field(name, pa.float64()) for name in names)])
    return data.map_batches(_Scored(score, tuple(names)), schema=schema, batch_size=BLOCK_ROWS)


@dataclass(frozen=True)
class _Scored:
    score: Callable[[pa.RecordBatch], Floats]
    names: tuple[str, ...]

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        added = map(pa.array, self.score(batch))
        return pa.RecordBatch.from_arrays([*batch.columns, *added], names=[*batch.schema.names, *self.names])
