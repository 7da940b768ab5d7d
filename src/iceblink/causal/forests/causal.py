"""Honest causal forests: effects of a treatment that differ by features, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pyarrow as pa

from iceblink.causal.constant import check_columns_vary
from iceblink.causal.estimates import Estimates
from iceblink.causal.forests.asking import Tried, check_names, check_roles, check_shape, scored, tried_of
from iceblink.causal.forests.average import Scores, average
from iceblink.causal.forests.bins import Bins, binned, check_features
from iceblink.causal.forests.drawing import LittleBags
from iceblink.causal.forests.growth import Shape, filled, grown
from iceblink.causal.forests.heterogeneity import CRITERIA, Criterion, Heterogeneity, variation
from iceblink.causal.forests.little_bags import LocalEffects
from iceblink.causal.forests.residuals import Given, Residuals, explained, linear
from iceblink.causal.forests.rows import Binner, binned_rows
from iceblink.causal.forests.trees import Tree, importance, importance_sheet
from iceblink.causal.judging.columns import keys_of
from iceblink.causal.matrix import Matrix, Number
from iceblink.causal.moments import Floats
from iceblink.causal.passes import Folds, Missing, moments
from iceblink.causal.provenance import UNKNOWN, Provenance
from iceblink.causal.regression.design import complete
from iceblink.causal.result import Result
from iceblink.causal.sheet import Sheet
from iceblink.causal.whole import check_whole_fields
from iceblink.errors import ColumnNotFound, ConfigError, PlanError, nearest

if TYPE_CHECKING:
    from iceblink.dataset import Dataset

LEAST_BINS = 32
"""That there is room for at least, of a number in a node: of what lies between its own cuts, not of the whole."""


@dataclass(frozen=True)
class CausalForest:
    """A forest of honest trees for the effect of a treatment, of two arms or by degrees, given features [1]_.

    With y = θ(x) t + g(x, w) + u, the effect θ(x) of a row is the slope of outcomes on treatments, both less what
    features and confounders say of them, among the rows that share its leaves. Trees choose splits by half of their
    rows and take their values from the other half, so that errors are about normal; they do not know by how much
    effects differ inside of a leaf. Which rows a tree sees is decided by the unit's key; trees grow level by level, all
    in one pass for each level.

    Parameters
    ----------
    outcome, treatment : str
        Columns of numbers, or of false and true.
    features : sequence of str
        Columns by which effects may differ, of numbers or of categories: texts, true and false.
    key : str or sequence of str
        The columns of the unit, which decide in which folds and trees it is.
    confounders : sequence of str
        Columns of numbers that explain outcome and treatment too, but not how effects differ.
    residuals : (str, str), optional
        Columns with what is left of outcome and treatment by another model, cross-fitted, to be taken as they are.
        Default: cross-fitted linear models of features and confounders.
    trees : int
        A multiple of `bag`.
    depth : int
        How many splits a row meets in a tree, at most.
    criterion : {"mse", "het"}
        What a split is worth: how much better two regressions of residuals fit than one, which finds what the models
        of outcome and treatment missed too, or the squared difference of effects [1]_.
    min_leaf : int
        Rows of a leaf, at least, of those that choose splits; a leaf with fewer rows to fill it has the values of the
        node above.
    balance : float
        The part of its parent's rows, and of the variation of its treatments, that a node has at least.
    sample : float
        The part of all rows that a tree sees, at most 0.5.
    bag : int
        How many trees are drawn of the same half of the rows.
    max_features : int, "sqrt" or None
        How many features, drawn anew, are tried in each node; None: all.
    bins : int
        Of a feature of numbers, at most 4,096; where they are too many for the nodes of a tree, a node joins neighbours
        among those that its rows may be in.
    folds : int
    missing : {"raise", "drop"}
        What to do about rows that lack a value. With `residuals`, features may be missing: that is a value of its own.
    seed : int

    Raises
    ------
    ConfigError

    References
    ----------
    .. [1] Athey, Tibshirani, Wager: Generalized random forests, Annals of Statistics 2019, section 6.
    """

    outcome: str
    treatment: str
    features: Sequence[str]
    key: str | Sequence[str]
    confounders: Sequence[str] = ()
    residuals: tuple[str, str] | None = None
    trees: int = 100
    depth: int = 8
    criterion: Criterion = "mse"
    min_leaf: int = 5
    balance: float = 0.05
    sample: float = 0.45
    bag: int = 4
    max_features: Tried = None
    bins: int = 4_096
    folds: int = 5
    missing: Missing = "raise"
    seed: int = 0

    def __post_init__(self) -> None:
        check_whole_fields(self, "CausalForest")
        check_names(self.features, "features", "CausalForest")
        check_names(self.confounders, "confounders", "CausalForest")
        check_shape(self.trees, self.depth, self.min_leaf, self.max_features, self.missing, "CausalForest")
        if self.criterion not in CRITERIA:
            raise ConfigError(
                f"no criterion {self.criterion!r}", "CausalForest", nearest(self.criterion, CRITERIA, "criteria")
            )
        if self.bag < 2 or self.trees % self.bag or self.trees < 2 * self.bag:
            raise ConfigError(
                f"{self.trees} trees are not bags of {self.bag}",
                "CausalForest",
                "bag is two or more, and trees a multiple of it, two bags at least",
            )
        if not 0 < self.sample <= 0.5:
            raise ConfigError(f"sample is {self.sample}", "CausalForest", "a part of the rows, at most half")
        if not 0 <= self.balance < 0.5:
            raise ConfigError(f"balance is {self.balance}", "CausalForest", "from 0 to less than 0.5")
        if self.folds < 2:
            raise ConfigError(
                f"folds is {self.folds}", "CausalForest", "two or more: a model is judged by rows it has not seen"
            )
        if self.residuals is not None and self.confounders:
            raise ConfigError(
                "residuals have confounders already", "CausalForest", "leave the confounders out, or the residuals"
            )

    def fit(self, data: Dataset) -> GrownForest:
        """Grow it. Eager: three passes, one for each level, and one for the leaves.

        Binned rows of less than 256 MiB are kept in memory between passes. Trees whose histograms have no room in a
        pass take turns, so that a level may need several.

        Raises
        ------
        ColumnNotFound, TypeMismatch, QueryError
        PlanError
            A column has two roles, nothing of the treatment is left, no feature varies, or there are too few rows.
        """
        title = f"CausalForest of {self.outcome} by {self.treatment}"
        keys = keys_of(self.key, data, title)
        roles = (self.outcome, self.treatment)
        left = self.residuals or roles
        check_roles(data, roles, self.features, title, confounders=self.confounders, residuals=self.residuals or ())
        check_features(data.schema, self.features, self.bins, title)
        for name in (*left, *self.confounders):
            Number(name).check(data.schema, title)
        present: tuple[str, ...] = ()
        if self.missing == "drop":
            present = left if self.residuals else (*roles, *self.features, *self.confounders)
            data = complete(data, present)
        rows = data.count()
        if rows < 8 * self.min_leaf:
            raise PlanError(f"{rows:,} rows are too few", title, "a leaf of min_leaf rows is not filled by these")
        hints = ("there is nothing to explain", "an effect compares different treatments")
        check_columns_vary(data, dict(zip(left, hints, strict=True)), title)
        if rows < self.folds:
            raise PlanError(f"{rows:,} rows cannot be in {self.folds} folds", title, "fewer folds: 5 are usual")
        bins = binned(data, self.features, keys, rows, self.bins, self.seed, title)
        residuals = self._residuals(data, bins, left, keys, title)
        binner = Binner(bins, keys, residuals, self.seed)
        seen = binned_rows(data, binner, rows)
        rule = Heterogeneity(self.min_leaf, self.balance, self.criterion)
        drawing = LittleBags(self.sample, self.bag, self.seed)
        shape = Shape(self.trees, self.depth, tried_of(self.max_features, len(bins.features)), LEAST_BINS, self.seed)
        trees = grown(seen, bins, rule, drawing, shape)
        sums = filled(seen, trees, rule, drawing, len(bins.features))
        if not all(one[0, 0] >= self.min_leaf and variation(one[0]) > 0 for one in sums):
            raise PlanError("a tree has no rows that differ in treatment", title, "rows are too few for honest trees")
        origin = Provenance.of(data, folds=None if self.residuals else self.folds, seed=self.seed)
        grown_from = (title, self.treatment, binner, residuals, drawing, tuple(trees), tuple(sums), self.min_leaf)
        return GrownForest(*grown_from, present, origin)

    def _residuals(
        self, data: Dataset, bins: Bins, left: tuple[str, str], keys: tuple[str, ...], title: str
    ) -> Residuals:
        """Return what gives residuals. Eager: one pass, which also sees that no value is missing."""
        if self.residuals is None:
            matrix = explained(left, bins, self.confounders)
            return linear(data, matrix, Folds(keys, self.folds, self.seed), title)
        matrix = Matrix((Number(left[0]), Number(left[1])))
        found = moments(data, matrix, where=title)
        if not found.total.products[0, 1, 1] > 0:
            raise PlanError(f"{left[1]} is the same in every row", title, "nothing is left to learn from")
        return Given(matrix)


@dataclass(frozen=True, eq=False, repr=False)
class GrownForest(Result):
    """A grown causal forest.

    Parameters
    ----------
    title, treatment : str
    binner : Binner
    residuals : Residuals
    drawing : LittleBags
        Which rows each tree saw.
    trees : tuple of Tree
    sums : tuple of float64 array (m, 5)
        Over the rows that fill each node of each tree: rows, w, w², y, w y of the residuals.
    min_leaf : int
    present : tuple of str
        Rows that lack a value of these were left out.
    provenance : Provenance
    """

    keys: ClassVar[tuple[str, ...]] = ("feature",)

    title: str
    treatment: str
    binner: Binner
    residuals: Residuals
    drawing: LittleBags
    trees: tuple[Tree, ...]
    sums: tuple[Floats, ...]
    min_leaf: int
    present: tuple[str, ...] = ()
    provenance: Provenance = UNKNOWN

    @property
    def bins(self) -> Bins:
        return self.binner.bins

    def effect(self, data: Dataset, column: str = "effect", error: str | None = None) -> Dataset:
        """Return the rows with the effect of one more of the treatment, given their features. Lazy.

        Parameters
        ----------
        data : Dataset
            Has the features; outcome, treatment and confounders are not needed.
        column : str
            What is added.
        error : str, optional
            A second column, of standard errors: the effect plus and minus 1.96 of them is a 95 % interval, for each
            row alone, of what forests of such rows say on average. That is the effect only where it changes little in
            a leaf: near a step intervals hold it less often.

        Raises
        ------
        ColumnNotFound, TypeMismatch, DuplicateColumn
        """
        names = [column, *([error] if error is not None else [])]
        return scored(data, self.bins, self._effects(error is not None), names, self.title)

    def ate(self, data: Dataset) -> Estimates:
        """Return the average effect of a treatment of two arms, by doubly robust scores. Eager: one pass.

        Parameters
        ----------
        data : Dataset
            The rows that the forest was grown from: each is scored by trees that have not seen it. Those that were
            left out, as they lack a value, are left out again.

        Raises
        ------
        ColumnNotFound, TypeMismatch
        QueryError
            A value is missing.
        PlanError
            There is one unit, the treatment is not of 0 and 1, chances of it are near 0 or 1, or some rows are in every
            tree.
        """
        title = f"{self.title}: ATE"
        self.bins.check(data.schema, title)
        scores = Scores(self.binner, self.residuals, self.treatment, self._effects(False), self.drawing)
        for name in scores.inputs:
            if name not in data.columns:
                raise ColumnNotFound.of(name, data.columns, title)
        if self.present:
            data = complete(data, (*self.present, self.treatment))
        own = self.provenance
        return average(data, scores, title, Provenance.of(data, folds=own.folds, seed=own.seed))

    def importance(self) -> pa.Table:
        """Return what splits by each feature were worth, as parts of the whole: feature, importance."""
        return importance(self.bins, self.trees, [one[:, 0] for one in self.sums])

    def to_arrow(self) -> pa.Table:
        """Return `importance`."""
        return self.importance()

    def sheet(self) -> Sheet:
        """Return what `summary` and notebooks show: how large it is, and what its features are worth."""
        leaves = sum(int((tree.feature < 0).sum()) for tree in self.trees)
        size = f"{len(self.trees)} trees in bags of {self.drawing.bag}, {leaves:,} leaves"
        return importance_sheet(f"{self.title}: {size}", self.importance(), self.provenance)

    def _effects(self, errors: bool) -> LocalEffects:
        return LocalEffects(self.bins, self.trees, self._means, self.drawing.bag, errors)

    @property
    def _means(self) -> tuple[Floats, ...]:
        """Of w, w², y, w y in each node (m, 4); a node that too few rows fill has those of the node above."""
        found = []
        for tree, sums in zip(self.trees, self.sums, strict=True):
            means = sums[:, 1:] / np.maximum(sums[:, :1], 1.0)
            found.append(tree.inherited(means, (sums[:, 0] >= self.min_leaf) & (variation(sums) > 0)))
        return tuple(found)
