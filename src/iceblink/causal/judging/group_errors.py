"""Errors of means of groups: of rows that are independent, or of clusters that may be in several groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from iceblink.causal.matrix import Matrix
from iceblink.causal.moments import Floats, Moments
from iceblink.causal.passes import Grouping
from iceblink.causal.regression.sandwich import squares_by_cluster

if TYPE_CHECKING:
    from iceblink.dataset import Dataset


@dataclass(frozen=True, eq=False)
class GroupErrors:
    """What is known of the errors of the means of p columns in k groups.

    Parameters
    ----------
    covariance : float64 array (p k, p k)
        Of the means of the first column in each group, then of the next.
    convention : str
    freedom : float
        Degrees of freedom of Student's t.
    """

    covariance: Floats
    convention: str
    freedom: float


def group_errors(
    data: Dataset, matrix: Matrix, grouping: Grouping, found: Moments, clusters: tuple[str, ...]
) -> GroupErrors:
    """Return the errors of means of columns by group. Eager: with clusters one pass, else none.

    Parameters
    ----------
    data : Dataset
    matrix : Matrix
    grouping : Grouping
    found : Moments
        Of the matrix, by the grouping.
    clusters : tuple of str

    Raises
    ------
    QueryError, PlanError
        A row has no cluster, or all have the same.
    """
    groups, width = found.means.shape
    if not clusters:
        covariance = np.zeros((width, groups, width, groups))
        each = np.arange(groups)
        covariance[:, each, :, each] = found.products / ((found.rows - 1) * found.rows)[:, np.newaxis, np.newaxis]
        flat = covariance.reshape(width * groups, -1)
        return GroupErrors(flat, "variances inside of groups, divisor n - 1", np.inf)
    names = dict.fromkeys((*matrix.inputs, *grouping.inputs, *clusters))
    meat, count = squares_by_cluster(data.select(*names), _Apart(matrix, grouping, found), clusters)
    rows = int(found.rows.sum())
    factor = count / (count - 1) * (rows - 1) / (rows - groups)
    return GroupErrors(meat * factor, f"CR1 by {', '.join(clusters)} ({count:,})", count - 1)


@dataclass(frozen=True, eq=False)
class _Apart:
    """What rows add to the errors of means (p k, n): how far they are from the mean of their group, over its rows."""

    matrix: Matrix
    grouping: Grouping
    found: Moments

    @property
    def width(self) -> int:
        return self.found.means.size

    def __call__(self, batch: pa.RecordBatch) -> Floats:
        groups, width = self.found.means.shape
        at = np.searchsorted(self.found.groups, self.grouping.numbers(batch))
        apart = (self.matrix.filled(batch) - self.found.means[at].T) / self.found.rows[at]
        added = np.zeros((width, groups, batch.num_rows))
        added[:, at, np.arange(batch.num_rows)] = apart
        return added.reshape(width * groups, -1)
