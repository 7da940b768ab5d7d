"""Uplift trees and forests: for whom does a treatment make an outcome likelier?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa

from iceblink.causal.forests.arms import Cells, counted_arms
from iceblink.causal.forests.asking import Tried, check_names, check_roles, check_shape, scored, tried_of
from iceblink.causal.forests.bins import Bins, binned, check_features
from iceblink.causal.forests.divergence import DIVERGENCES, Criterion, Divergence
from iceblink.causal.forests.drawing import Bootstrap, EveryRow
from iceblink.causal.forests.growth import Drawing, Shape, filled, grown
from iceblink.causal.forests.rows import Binner, binned_rows
from iceblink.causal.forests.trees import Tree, importance, importance_sheet
from iceblink.causal.judging.columns import keys_of
from iceblink.causal.matrix import Number
from iceblink.causal.moments import Floats
from iceblink.causal.observational.study import Arms
from iceblink.causal.passes import Missing
from iceblink.causal.provenance import UNKNOWN, Provenance
from iceblink.causal.regression.design import complete
from iceblink.causal.result import Result
from iceblink.causal.sheet import Sheet
from iceblink.causal.whole import check_whole_fields
from iceblink.errors import ConfigError, PlanError, nearest

if TYPE_CHECKING:
    from iceblink.dataset import Dataset


@dataclass(frozen=True)
class UpliftForest:
    """A random forest whose trees look for rows that a treatment moves, of outcomes 0 and 1 and some arms [1]_.

    The effect is P(outcome = 1 | arm, features) - P(outcome = 1 | control, features): a cause only if treatments were
    drawn by lot, or features are all that decided them. Each tree sees rows as often as a Poisson draw by their key
    says, which is a bootstrap; trees grow level by level, all in one pass for each level.

    Parameters
    ----------
    outcome : str
        A column of 0 and 1, or false and true.
    treatment : str
        A column of two values or a few.
    features : sequence of str
        Columns of numbers, or of categories: texts, true and false. What is missing is a value of its own.
    key : str or sequence of str
        The columns of the unit, which decide in which trees it is.
    control : value of the treatment, optional
        Default: the smallest.
    trees, depth : int
        How many, and how many splits a row meets in one, at most.
    criterion : {"KL", "ED", "Chi"}
        The divergence of outcomes: Kullback and Leibler's, squared Euclidean, chi-squared.
    normalization : bool
        Whether gains are divided by what punishes splits that tell the arms apart.
    min_leaf, min_arm : int
        Rows of a leaf, and of each arm in it, at least; the second is CausalML's ``min_samples_treatment``.
    n_reg : float
        By how many rows of the node above chances are drawn towards it when splits are compared.
    max_features : int, "sqrt" or None
        How many features, drawn anew, are tried in each node; None: all.
    bins : int
        Of a feature of numbers, at most 4,096.
    missing : {"raise", "drop"}
        What to do about rows that lack outcome or treatment.
    seed : int

    Raises
    ------
    ConfigError

    References
    ----------
    .. [1] Rzepakowski, Jaroszewicz: Decision trees for uplift modeling with single and multiple treatments, Knowledge
       and Information Systems 2012.
    """

    outcome: str
    treatment: str
    features: Sequence[str]
    key: str | Sequence[str]
    control: object = None
    trees: int = 50
    depth: int = 5
    criterion: Criterion = "KL"
    normalization: bool = True
    min_leaf: int = 100
    min_arm: int = 10
    n_reg: float = 10.0
    max_features: Tried = "sqrt"
    bins: int = 64
    missing: Missing = "raise"
    seed: int = 0

    def __post_init__(self) -> None:
        name = type(self).__name__
        check_whole_fields(self, name)
        check_names(self.features, "features", name)
        check_shape(self.trees, self.depth, self.min_leaf, self.max_features, self.missing, name)
        if self.criterion not in DIVERGENCES:
            raise ConfigError(
                f"no criterion {self.criterion!r}", name, nearest(self.criterion, list(DIVERGENCES), "criteria")
            )
        if self.min_arm < 1:
            raise ConfigError(f"min_arm is {self.min_arm}", name, "one or more: a leaf compares its arms")
        if self.n_reg < 0:
            raise ConfigError(f"n_reg is {self.n_reg}", name, "0 or more")

    def fit(self, data: Dataset) -> GrownUplift:
        """Grow it. Eager: two passes or three, one for each level, and one for the leaves.

        Binned rows of less than 256 MiB are kept in memory between passes.

        Raises
        ------
        ColumnNotFound, TypeMismatch, QueryError
        PlanError
            There are not two arms, outcomes are not 0 and 1 or all the same, no feature varies, an arm has too few
            rows, or a tree drew none of some arm.
        """
        title = f"{type(self).__name__} of {self.outcome} by {self.treatment}"
        keys = keys_of(self.key, data, title)
        check_roles(data, (self.outcome, self.treatment), self.features, title)
        check_features(data.schema, self.features, self.bins, title)
        Number(self.outcome).check(data.schema, title)
        if self.missing == "drop":
            data = complete(data, (self.outcome, self.treatment))
        arms, counts = counted_arms(data, self.outcome, self.treatment, self.control, title)
        if counts[:, 0].min() < self.min_arm:
            few = int(counts[:, 0].argmin())
            raise PlanError(
                f"{int(counts[few, 0]):,} rows have {self.treatment} {arms.names[few]}, fewer than min_arm",
                title,
                "leave the arm out by a filter, or join it with others",
            )
        rows = int(counts[:, 0].sum())
        bins = binned(data, self.features, keys, rows, self.bins, self.seed, title)
        seen = binned_rows(data, Binner(bins, keys, Cells(self.outcome, arms), self.seed), rows)
        rule = Divergence(len(arms), self.criterion, self.normalization, self.min_leaf, self.min_arm, self.n_reg)
        shape = Shape(self.trees, self.depth, tried_of(self.max_features, len(bins.features)), self.bins, self.seed)
        trees = grown(seen, bins, rule, self._drawing, shape)
        sums = filled(seen, trees, rule, self._drawing, len(bins.features))
        if any((one[0, ::2] + one[0, 1::2]).min() == 0 for one in sums):
            raise PlanError(
                "a tree drew no row of some arm", title, "units are too few for bootstraps: a finer key, or UpliftTree"
            )
        return GrownUplift(title, bins, arms, tuple(trees), tuple(sums), Provenance.of(data, seed=self.seed))

    @property
    def _drawing(self) -> Drawing:
        return Bootstrap(self.seed)


@dataclass(frozen=True)
class UpliftTree(UpliftForest):
    """One tree, of all rows and all features: to be read, by `GrownUplift.show`.

    Parameters are those of `UpliftForest`, whose defaults differ as CausalML's do.
    """

    trees: int = 1
    depth: int = 3
    n_reg: float = 100.0
    max_features: Tried = None

    @property
    def _drawing(self) -> Drawing:
        return EveryRow()


@dataclass(frozen=True, eq=False, repr=False)
class GrownUplift(Result):
    """Grown uplift trees.

    Parameters
    ----------
    title : str
    bins : Bins
    counted : Arms
        The arms of the rows that it learnt from, the control first.
    trees : tuple of Tree
    sums : tuple of float64 array (m, 2 J)
        Rows of each node of each tree by arm and outcome, those drawn twice counted twice.
    provenance : Provenance
    """

    keys: ClassVar[tuple[str, ...]] = ("feature",)

    title: str
    bins: Bins
    counted: Arms
    trees: tuple[Tree, ...]
    sums: tuple[Floats, ...]
    provenance: Provenance = UNKNOWN

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms that have an effect, each but the control."""
        return self.counted.names[1:]

    @property
    def control(self) -> str:
        """The arm that they are compared with."""
        return self.counted.names[0]

    def effect(self, data: Dataset, column: str = "effect") -> Dataset:
        """Return the rows with what each treatment adds to the chance of outcome 1, over the control. Lazy.

        Parameters
        ----------
        data : Dataset
            Has the features; outcome and treatment are not needed.
        column : str
            What is added; of more than two arms ``column[arm]`` for each but the control.

        Raises
        ------
        ColumnNotFound, TypeMismatch, DuplicateColumn
        """
        names = [column] if len(self.arms) == 1 else [f"{column}[{arm}]" for arm in self.arms]
        chances = tuple(self._chances(at) for at in range(len(self.trees)))
        effects = tuple(chance[:, 1:] - chance[:, :1] for chance in chances)
        return scored(data, self.bins, _Mean(self.bins, self.trees, effects), names, self.title)

    def importance(self) -> pa.Table:
        """Return what splits by each feature were worth, as parts of the whole: feature, importance."""
        return importance(self.bins, self.trees, [one.sum(axis=1) for one in self.sums])

    def show(self, tree: int = 0) -> str:
        """Return a tree to read: of each node its rows, the control's chance, and what each treatment adds.

        Raises
        ------
        PlanError
            There is no such tree.
        """
        if not 0 <= tree < len(self.trees):
            raise PlanError(f"no tree {tree}", self.title, f"from 0 to {len(self.trees) - 1}")
        labels = []
        for sums, chance in zip(self.sums[tree], self._chances(tree), strict=True):
            added = ", ".join(
                f"{name} {value - chance[0]:+.4f}" for name, value in zip(self.arms, chance[1:], strict=True)
            )
            labels.append(f"{int(sums.sum()):,} rows, {self.control} {chance[0]:.4f}, {added}")
        return self.trees[tree].shown(self.bins, labels)

    def to_arrow(self) -> pa.Table:
        """Return `importance`."""
        return self.importance()

    def sheet(self) -> Sheet:
        """Return what `summary` and notebooks show: how large they are, and what their features are worth."""
        leaves = sum(int((tree.feature < 0).sum()) for tree in self.trees)
        size = f"{len(self.trees)} trees, {leaves:,} leaves, arms {', '.join(self.counted.names)}"
        return importance_sheet(f"{self.title}: {size}", self.importance(), self.provenance)

    def _chances(self, tree: int) -> Floats:
        """Return the chances of outcome 1 (m, J); where a node has no row of some arm, those of the node above."""
        rows = self.sums[tree][:, ::2] + self.sums[tree][:, 1::2]
        found: Any = np.divide(self.sums[tree][:, 1::2], rows, out=np.zeros_like(rows), where=rows > 0)
        return self.trees[tree].inherited(found, rows.min(axis=1) > 0)


@dataclass(frozen=True, eq=False)
class _Mean:
    """The mean of trees (k, n): of values (m, k) of each, those of a row's leaves."""

    bins: Bins
    trees: tuple[Tree, ...]
    values: tuple[Floats, ...]

    def __call__(self, batch: pa.RecordBatch) -> Floats:
        codes = self.bins.codes(batch)
        found = np.zeros((batch.num_rows, self.values[0].shape[1]))
        for tree, values in zip(self.trees, self.values, strict=True):
            found += values[tree.leaves(codes)]
        return np.asarray(found.T / len(self.trees))
