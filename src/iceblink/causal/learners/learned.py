"""What a learner has learnt: the effect on any row, on average, and how it varies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import pyarrow as pa

from iceblink.causal.clipping import ROWS_CLIPPED
from iceblink.causal.estimates import Estimates
from iceblink.causal.learners.setting import Setting
from iceblink.causal.matrix import Matrix, Order
from iceblink.causal.moments import Floats
from iceblink.causal.passes import BLOCK_ROWS, moments
from iceblink.causal.provenance import UNKNOWN, Provenance
from iceblink.causal.regression.design import with_expressions
from iceblink.causal.regression.sandwich import squares_by_cluster, told_of_clusters
from iceblink.causal.result import Result
from iceblink.causal.sheet import Sheet
from iceblink.errors import ColumnNotFound, DuplicateColumn, PlanError

if TYPE_CHECKING:
    from iceblink.dataset import Dataset


class Rule(Protocol):
    """Says the effect on each row; it pickles."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns of the table that it looks at."""

    def effects(self, batch: pa.RecordBatch) -> Floats:
        """Return the effect (K, n) of each arm but the control; NaN where a feature is missing."""

    def errors(self, batch: pa.RecordBatch) -> Floats | None:
        """Return their standard errors (K, n), or None if there are none."""


class AverageScores(Protocol):
    """Numbers whose mean over rows is the average effect, and whose variance that of its estimate; it pickles."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns of the table that it looks at."""

    def of(self, batch: pa.RecordBatch) -> tuple[Floats, Floats]:
        """Return the score (K, n) of each arm but the control, and 1 (n,) where a chance was clipped, else 0."""


@dataclass(frozen=True, eq=False, repr=False)
class LearnedEffects(Result):
    """Effects of each arm against the control, by a row's features.

    Parameters
    ----------
    title : str
        Which learner it was, of what.
    setting : Setting
        The rows that it learnt from.
    rule : Rule
    scores : AverageScores, optional
        By which the average effect has a standard error.
    linear : mapping of str to Estimates
        The coefficients of each arm's effect, where it is linear.
    dropped : tuple of str
        Features that some model does not use, since they follow from others.
    facts : dict
        What else is known: whether folds were given.
    provenance : Provenance
    clusters : tuple of str
        Columns by which rows belong together.
    """

    keys: ClassVar[tuple[str, ...]] = ("arm", "name")

    title: str
    setting: Setting
    rule: Rule
    scores: AverageScores | None = None
    linear: Mapping[str, Estimates] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    provenance: Provenance = UNKNOWN
    clusters: tuple[str, ...] = ()

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms that have an effect, each but the control."""
        return self.setting.arms.names[1:]

    @property
    def control(self) -> str:
        """The arm that they are compared with."""
        return self.setting.arms.names[0]

    def effect(self, data: Dataset, column: str = "effect", error: str | None = None) -> Dataset:
        """Return rows with the effect on each of them. Lazy.

        Parameters
        ----------
        data : Dataset
            Any rows with the features' columns, in which a value may be missing: the effect is then null.
        column : str
            What the column of effects is called, float64, in the unit of the outcome. Of more than two arms each but
            the control has one, ``effect[arm]``.
        error : str, optional
            Also add the standard error of the effect that the features' values have, under this name: only of R and DR
            learners whose `effect_model` is `Linear` without a penalty.

        Returns
        -------
        Dataset
            Its own columns, then the new ones.

        Raises
        ------
        ColumnNotFound, TypeMismatch, SqlError, DuplicateColumn
        PlanError
            The effects have no standard errors.
        """
        if error is not None and not self.linear:
            raise PlanError(
                "its effects have no standard errors", self.title, "those of RLearner and DRLearner with Linear() do"
            )
        where = f"effects of {self.title}"
        made = with_expressions(data, self.setting.terms, where)
        for name in self.rule.inputs:
            if name not in made.columns:
                raise ColumnNotFound.of(name, data.columns, where)
        for term in self.setting.features.terms:
            term.check(made.schema, where)
        names = [name for one in (column, error) if one is not None for name in self._named(one)]
        for at, name in enumerate(names):
            if name in (*made.columns, *names[:at]):
                raise DuplicateColumn(f"there is a column {name!r} already", self.title, "effect(data, column=...)")
        wide = pa.schema([*made.schema, *(pa.field(name, pa.float64()) for name in names)])
        scored = made.map_batches(_Beside(self.rule, error is not None, wide), schema=wide, batch_size=BLOCK_ROWS)
        return scored.select(*data.columns, *names)

    def ate(self) -> Estimates:
        """Return the average effect over the rows that it learnt from, ``ATE`` or ``ATE[arm]``.

        Eager: one pass, with clusters two, once.

        Standard errors are those of the scores' influence function, of `RLearner` and `DRLearner`; other learners
        average what models say of the rows that these were fitted to, which has none: they are NaN.

        Raises
        ------
        QueryError
            A value is missing.
        """
        return self._average

    def coefficients(self, arm: object = None) -> Estimates:
        """Return the linear model of an arm's effect: of features as they are, errors HC1, or CR1 by clusters.

        Parameters
        ----------
        arm : value of the treatment, optional
            Needed where there are several.

        Raises
        ------
        PlanError
            There is no such arm, or its effect is not linear.
        """
        if not self.linear:
            raise PlanError(
                "its effects are no linear model with errors",
                self.title,
                "those of RLearner and DRLearner with Linear()",
            )
        if arm is None and len(self.arms) > 1:
            raise PlanError("there are several arms", self.title, f"name one of {', '.join(self.arms)}")
        name = self.arms[0] if arm is None else str(arm)
        if name not in self.arms:
            raise PlanError(f"no effect of {arm!r}", self.title, f"there is that of {', '.join(self.arms)}")
        return self.linear[name]

    def to_arrow(self, level: float = 0.95) -> pa.Table:
        """Return the average effect of each arm, and its coefficients where it is linear, a row for each.

        Columns are arm, name, and those of `Estimates.to_arrow`. Eager: a pass, unless `ate` was asked for before.
        """
        parts = []
        for at, arm in enumerate(self.arms):
            tables = [self.ate().to_arrow(level).slice(at, 1)]
            tables += [self.linear[arm].to_arrow(level)] if arm in self.linear else []
            whole = pa.concat_tables(tables)
            parts.append(whole.add_column(0, "arm", pa.repeat(pa.scalar(arm), whole.num_rows)))
        return pa.concat_tables(parts)

    def sheet(self, level: float = 0.95) -> Sheet:
        """Return what `summary` and notebooks show: the average effect, and how it depends on features if linearly.

        Eager: a pass, unless `ate` was asked for before.
        """
        average = self.ate().sheet(level)
        lines = []
        for arm, name, cells in zip(self.arms, self.ate().names, self.ate().cells(level), strict=True):
            lines.append([name, *cells])
            if linear := self.linear.get(arm):
                lines += [[f"  {name}", *cells] for name, cells in zip(linear.names, linear.cells(level), strict=True)]
        below = [f"errors of coefficients {next(iter(self.linear.values())).convention}"] if self.linear else []
        return Sheet(average.above, average.head, lines, (*average.below[:1], *below, *average.below[1:]))

    def __repr__(self) -> str:  # reads nothing, as a summary may
        return f"{self.title}: effects of {', '.join(self.arms)} against {self.control}"

    @cached_property
    def _average(self) -> Estimates:
        names = self._named("ATE")
        term = _Averaged((*names, "clipped"), self.rule, self.scores)
        columns = dict.fromkeys(term.inputs)
        found = moments(self.setting.data.select(*columns), Matrix((term,)), where=self.title)
        rows, effects = int(found.rows[0]), len(names)
        facts, freedom = dict(self.facts), np.inf
        if self.scores is None:
            covariance, convention = np.full((effects, effects), np.nan), "none, models saw these rows"
        else:
            covariance = found.products[0, :effects, :effects] / rows**2
            convention = "influence function of AIPW"
            if self.clusters:
                scored = _Centred(self.scores, found.means[0, :effects])
                chosen = self.setting.data.select(*dict.fromkeys((*columns, *self.clusters)))
                meat, count = squares_by_cluster(chosen, scored, self.clusters)
                covariance, freedom = meat / rows**2 * (count / (count - 1)), count - 1
                convention += f", {told_of_clusters(self.clusters, count)}"
            facts[ROWS_CLIPPED] = round(found.means[0, effects] * rows)
        return Estimates(
            title=self.title,
            names=names,
            values=found.means[0, :effects],
            covariance=covariance,
            convention=convention,
            rows=rows,
            freedom=freedom,
            dropped=self.dropped,
            facts=facts,
            provenance=self.provenance,
        )

    def _named(self, name: str) -> tuple[str, ...]:
        return (name,) if len(self.arms) == 1 else tuple(f"{name}[{arm}]" for arm in self.arms)


@dataclass(frozen=True, eq=False)
class _Beside:
    """The function that a worker calls: rows get their effects, and errors."""

    rule: Rule
    errors: bool
    schema: pa.Schema

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        found = [self.rule.effects(batch)]
        if self.errors and (errors := self.rule.errors(batch)) is not None:
            found.append(errors)
        added = [pa.array(values, pa.float64(), from_pandas=True) for values in np.concatenate(found)]
        return pa.RecordBatch.from_arrays([*batch.columns, *added], schema=self.schema)


@dataclass(frozen=True, eq=False)
class _Centred:
    """Scores (K, n) less their means, to be added up by cluster."""

    scores: AverageScores
    means: Floats

    @property
    def width(self) -> int:
        return len(self.means)

    def __call__(self, batch: pa.RecordBatch) -> Floats:
        found, _ = self.scores.of(batch)
        return found - self.means[:, np.newaxis]


@dataclass(frozen=True, eq=False)
class _Averaged:
    """Columns of a matrix that are scores, or effects where there are none, and whether a chance was clipped."""

    names: tuple[str, ...]
    rule: Rule
    scores: AverageScores | None

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.rule.inputs if self.scores is None else self.scores.inputs

    def check(self, schema: pa.Schema, where: str) -> None:
        """The learner has checked the columns."""

    def fill(self, batch: pa.RecordBatch, order: Order | None, out: Floats) -> None:
        effects, clipped = (self.rule.effects(batch), 0.0) if self.scores is None else self.scores.of(batch)
        out[:-1], out[-1] = effects, clipped
        if order is not None:
            out[:] = out[:, order]
