"""The middle of a sandwich covariance: squares of the scores of rows, or of clusters of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from iceblink.causal.blas import one_thread
from iceblink.causal.matrix import Matrix, floats
from iceblink.causal.moments import Floats
from iceblink.causal.passes import BLOCK_ROWS, summed
from iceblink.causal.regression.fit import LinearFit
from iceblink.causal.regression.link import Identity, Link
from iceblink.causal.sums import Sums
from iceblink.errors import ColumnNotFound, PlanError, QueryError

if TYPE_CHECKING:
    from iceblink.dataset import Dataset

POWERS = {"HC0": 0, "HC1": 0, "HC2": 1, "HC3": 2}
"""By which power of 1 - leverage a squared residual is divided."""


IDENTITY = Identity()
ALONE = 1e-9
"""A row whose leverage is nearer to 1 than this has a residual of nothing but rounding."""
KEYLESS = "keyless"
"""Beside scores, which have numbers: how many rows lack a key."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows as a fit sees them: `n` of them, of which `whole` says where they stood.

    Parameters
    ----------
    outcome, score, weight : float64 arrays (n,)
    columns : float64 array (k, n)
        Fitted regressors.
    whole : bool array
    """

    outcome: Floats
    score: Floats
    columns: Floats
    weight: Floats
    whole: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Residuals:
    """A fitted model, and what it leaves of each row of a batch.

    Parameters
    ----------
    matrix : Matrix
        What the fit's places are of.
    weight : str or None
    fit : LinearFit
    link : Link
        How the mean follows from the score.
    """

    matrix: Matrix
    weight: str | None
    fit: LinearFit
    link: Link = IDENTITY

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns of the table that are read."""
        return tuple(dict.fromkeys((*self.matrix.inputs, *([self.weight] if self.weight else ()))))

    def rows(self, batch: pa.RecordBatch) -> Rows:
        """Return what is needed of the rows of a batch; rows that lack a value have no weight."""
        fit = self.fit
        values = self.matrix.filled(batch)
        weight = np.ones(batch.num_rows)
        if self.weight is not None:
            weight = floats(batch.column(self.weight)).astype(np.float64)
        whole = np.isfinite(values.sum(axis=0)) & np.isfinite(weight)
        if not whole.all():
            values, weight = values[:, whole], weight[whole]
        values -= fit.centres[:, np.newaxis]
        score = fit.coefficients @ self._beside_ones(values, fit.regressors)
        columns = fit.projection @ self._beside_ones(values, fit.instruments)
        return Rows(values[fit.outcome], score, columns, weight, whole)

    def scores(self, batch: pa.RecordBatch, power: int) -> Floats:
        """Return the scores (k, n) of rows, divided by a power of the root of 1 - leverage; of rows left out zeros."""
        rows = self.rows(batch)
        left = rows.outcome - self.link.mean(rows.score)
        if power:
            leverage = rows.weight * np.einsum("in,in->n", rows.columns, self.fit.bread @ rows.columns)
            if (alone := int((leverage > 1 - ALONE).sum())) > 0:
                raise QueryError(
                    f"{alone:,} rows each decide a coefficient alone, so that they leave no residual to be weighed",
                    "HC2 and HC3",
                    'join their category with others, leave them out, or say errors="HC1"',
                )
            left = left / np.sqrt(1 - leverage) ** power
        found = rows.columns * (rows.weight * left)
        if rows.whole.all():
            return np.asarray(found)
        wide = np.zeros((len(found), batch.num_rows))
        wide[:, rows.whole] = found
        return wide

    def _beside_ones(self, values: Floats, places: Sequence[int]) -> Floats:
        chosen = values[list(places)]
        return np.concatenate([np.ones((1, values.shape[1])), chosen]) if self.fit.intercept else chosen


@dataclass(frozen=True)
class _RowSquares:
    residuals: Residuals
    power: int

    def __call__(self, batch: pa.RecordBatch) -> Sums:
        with one_thread():
            scores = self.residuals.scores(batch, self.power)
            return Sums({"meat": scores @ scores.T})


def robust_meat(data: Dataset, residuals: Residuals, kind: str) -> Floats:
    """Return the sum (k, k) of squared scores of rows."""
    return summed(data.select(*residuals.inputs), _RowSquares(residuals, POWERS[kind]))["meat"]


class Scored(Protocol):
    """What makes scores of rows, to be squared."""

    @property
    def width(self) -> int:
        """How many scores a row has."""

    def __call__(self, batch: pa.RecordBatch) -> Floats:
        """Return the scores (k, n) of the rows of a batch."""


@dataclass(frozen=True)
class _RowScores:
    residuals: Residuals

    @property
    def width(self) -> int:
        return len(self.residuals.fit.coefficients)

    def __call__(self, batch: pa.RecordBatch) -> Floats:
        with one_thread():
            return self.residuals.scores(batch, 0)


@dataclass(frozen=True)
class _KeyedScores:
    """Rows become their keys and scores."""

    scored: Scored
    keys: tuple[str, ...]
    names: tuple[str, ...]

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        arrays = [*(batch.column(key) for key in self.keys), *map(pa.array, self.scored(batch))]
        return pa.RecordBatch.from_arrays(arrays, names=[*(f"key{at}" for at in range(len(self.keys))), *self.names])


@dataclass(frozen=True)
class _ClusterSquares:
    names: tuple[str, ...]

    def __call__(self, batch: pa.RecordBatch) -> Sums:
        scores = np.stack([floats(batch.column(name)) for name in self.names]).astype(np.float64)
        keyless = floats(batch.column(KEYLESS)).astype(np.float64).sum()
        with one_thread():
            meat = scores @ scores.T
        return Sums({"meat": meat, "clusters": np.array(float(batch.num_rows)), "keyless": np.array(keyless)})


def clustered_meat(data: Dataset, residuals: Residuals, keys: tuple[str, ...]) -> tuple[Floats, int]:
    """Return the sum (k, k) of squared sums of a fit's scores by cluster, and how many clusters there are.

    Raises what `squares_by_cluster` raises.
    """
    for key in keys:
        if key not in data.schema.names:
            raise ColumnNotFound.of(key, data.schema.names, "cluster")
    needed = dict.fromkeys((*residuals.inputs, *keys))
    return squares_by_cluster(data.select(*needed), _RowScores(residuals), keys)


def told_of_clusters(keys: tuple[str, ...], count: int) -> str:
    """Return what a convention says of errors of an influence function that allow for clusters."""
    return f"by {', '.join(keys)} ({count:,}), times G / (G - 1)"


def squares_by_cluster(data: Dataset, scored: Scored, keys: tuple[str, ...], of: str = "rows") -> tuple[Floats, int]:
    """Return the sum (k, k) of squared sums of scores by cluster, and how many clusters there are.

    Rows, which errors call by `of`, are grouped by keys as any `group_by` does it, on the engine of the dataset.

    Raises
    ------
    PlanError
        There is one cluster.
    QueryError
        Rows lack a key, so that nobody knows whom they belong to.
    """
    names = tuple(f"score{at}" for at in range(scored.width))
    schema = pa.schema(
        [
            *(pa.field(f"key{at}", data.schema.field(key).type) for at, key in enumerate(keys)),
            *(pa.field(name, pa.float64()) for name in names),
        ]
    )
    scores = data.map_batches(_KeyedScores(scored, keys, names), schema=schema, batch_size=BLOCK_ROWS)
    totals = ", ".join(f"sum({name}) AS {name}" for name in names)
    by = ", ".join(f"key{at}" for at in range(len(keys)))
    lacking = " OR ".join(f"key{at} IS NULL" for at in range(len(keys)))
    keyless = f"sum(CASE WHEN {lacking} THEN 1e0 ELSE 0e0 END) AS {KEYLESS}"
    found = summed(scores.sql(f"SELECT {totals}, {keyless} FROM this GROUP BY {by}"), _ClusterSquares(names))
    clusters = int(found["clusters"])
    if found["keyless"]:
        raise QueryError(
            f"{', '.join(keys)} is missing in {int(found['keyless']):,} {of}",
            f"cluster {', '.join(keys)}",
            f'filter the rows, or say missing="drop" to leave out {of} that lack a value',
        )
    if clusters < 2:
        raise PlanError(
            "there is one cluster", f"cluster {', '.join(keys)}", "errors need at least two, and many to be good"
        )
    return found["meat"], clusters
