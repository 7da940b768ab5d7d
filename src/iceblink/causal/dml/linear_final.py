"""Effects that are linear in modifiers: what a treatment does to whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa

from iceblink.causal.blas import one_thread
from iceblink.causal.dml.crossfit import Asked, CrossFit, Prepared, terms_of
from iceblink.causal.dml.partialling_out import LITTLE
from iceblink.causal.dml.repeats import Groupings, combined
from iceblink.causal.estimates import Estimates
from iceblink.causal.formula import Terms
from iceblink.causal.matrix import Matrix
from iceblink.causal.models.fitted import Fitted, Model, fit_all, predictions
from iceblink.causal.models.linear import Linear
from iceblink.causal.models.logistic import Logistic
from iceblink.causal.models.target import Column, Target, Values
from iceblink.causal.moments import SCHEMA, Floats, Moments
from iceblink.causal.observational.study import InArms, arms_of, membership
from iceblink.causal.passes import BLOCK_ROWS, moments, summed
from iceblink.causal.regression.design import with_expressions
from iceblink.causal.regression.fit import fitted
from iceblink.causal.regression.sandwich import squares_by_cluster
from iceblink.causal.sums import Sums
from iceblink.causal.tree import merged
from iceblink.errors import ConfigError, DuplicateColumn, PlanError, QueryError

if TYPE_CHECKING:
    from iceblink.dataset import Dataset

INTERCEPT = "(Intercept)"


@dataclass(frozen=True, eq=False, repr=False)
class LinearEffects(Estimates):
    """Coefficients of effects, and with them the effect on each row: θ(x) = β₀ + x'β.

    Parameters
    ----------
    modifiers : Terms
    matrix : Matrix
        Of the modifiers.
    arms : tuple of str
        The arms that have an effect, each but the control; of a treatment by degrees its own name, and the effect is
        that of a degree.
    kept : int array (k,)
        Which coefficients there are, among ones and modifiers of the first arm, then of the next.
    """

    modifiers: Terms = ()
    matrix: Matrix = field(default_factory=lambda: Matrix(()))
    arms: tuple[str, ...] = ()
    kept: tuple[int, ...] = ()

    def effect(self, data: Dataset, column: str = "effect", error: str | None = None) -> Dataset:
        """Return rows with the effect on each of them. Lazy.

        Parameters
        ----------
        data : Dataset
            Any rows with the modifiers' columns, in which a value may be missing: the effect is then null.
        column : str
            What the column of effects is called, float64. Where the treatment has several arms besides the control,
            each has one: ``effect[arm]``.
        error : str, optional
            Also add their standard errors, under this name in the same way.

        Returns
        -------
        Dataset
            Its own columns, then the new ones.

        Raises
        ------
        ColumnNotFound, TypeMismatch
        DuplicateColumn
            There is a column of such a name already.
        """
        added = tuple(name for one in (column, error) if one is not None for name in self._named(one))
        for at, name in enumerate(added):
            if name in (*data.columns, *added[:at]):
                raise DuplicateColumn(f"there is a column {name!r} already", self.title, "effect(data, column=...)")
        design = with_expressions(data, self.modifiers, self.title)
        for term in self.matrix.terms:
            term.check(design.schema, self.title)
        schema = pa.schema([*design.schema, *(pa.field(name, pa.float64()) for name in added)])
        scorer = _Effect(self.matrix, *self._by_arm(), error is not None, schema)
        return design.map_batches(scorer, schema=schema, batch_size=BLOCK_ROWS).select(*data.columns, *added)

    def average(self, data: Dataset) -> Estimates:
        """Return the average effect on the rows of a dataset, ``ATE`` or ``ATE[arm]``. Eager: one pass.

        The rows are taken as given: errors are those of the coefficients.

        Raises
        ------
        ColumnNotFound, TypeMismatch, QueryError
        PlanError
            There are no rows.
        """
        values, covariance = self._by_arm()
        at, rows = np.ones(1), 0
        if self.matrix.terms:
            found = moments(with_expressions(data, self.modifiers, self.title), self.matrix, where=self.title)
            if not len(found.rows):
                raise PlanError("there are no rows", self.title, "look at the filters")
            at, rows = np.concatenate([at, found.means[0]]), int(found.rows[0])
        else:
            rows = data.count()
        return Estimates(
            f"average of {self.title}",
            self._named("ATE"),
            values @ at,
            np.einsum("apbq,p,q->ab", covariance, at, at),
            self.convention,
            rows,
            self.freedom,
            facts=self.facts,
            provenance=self.provenance,
        )

    def _named(self, name: str) -> tuple[str, ...]:
        return (name,) if len(self.arms) == 1 else tuple(f"{name}[{arm}]" for arm in self.arms)

    def _by_arm(self) -> tuple[Floats, Floats]:
        """Return the coefficients (J, 1 + p) of each arm's ones and modifiers, and their covariance, of four axes.

        A coefficient that was left out is 0, without error.
        """
        arms, width, kept = len(self.arms), 1 + len(self.matrix.names), list(self.kept)
        values, covariance = np.zeros(arms * width), np.zeros((arms * width,) * 2)
        values[kept], covariance[np.ix_(kept, kept)] = self.values, self.covariance
        return values.reshape(arms, width), covariance.reshape(arms, width, arms, width)


@dataclass(frozen=True, eq=False)
class _Effect:
    """Adds the effects of all arms, then their errors if wanted."""

    matrix: Matrix
    values: Floats
    covariance: Floats
    errors: bool
    schema: pa.Schema

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        with one_thread():
            columns = beside_ones(self.matrix, batch)
            added = list(self.values @ columns)
            if self.errors:
                squares = (self.covariance[at, :, at] for at in range(len(self.values)))
                added += [np.sqrt(np.einsum("kn,kn->n", columns, square @ columns)) for square in squares]
        arrays = (pa.array(values, pa.float64(), from_pandas=True) for values in added)
        return pa.RecordBatch.from_arrays([*batch.columns, *arrays], schema=self.schema)


@dataclass(frozen=True)
class LinearDML(CrossFit):
    """The effect of a treatment as a linear function of modifiers, by double machine learning [1]_, [2]_.

    With y = θ(x) t + g(x, w) + u, θ(x) = β₀ + x'β, what models of other folds leave of the outcome is regressed on what
    they leave of the treatment, times one and times each modifier, by least squares without another intercept. It is
    EconML's ``LinearDML``, with its standard errors.

    Parameters
    ----------
    outcome, treatment, confounders, key, folds, seed, cluster, missing, repeats
        As of `PLR`; confounders may be empty where there are modifiers.
    modifiers : str or sequence of str
        Terms x, by which the effect may differ; they are confounders too. None of them: a constant effect.
    discrete : bool
        Whether the treatment is one of a few values, each of which has its effect against the control, instead of a
        number by whose degrees the outcome changes.
    control : value of the treatment, optional
        Of a discrete one. Default: the smallest.
    outcome_model : Model
    treatment_model : Model, optional
        Default: ``Linear()``, or ``Logistic()`` of a discrete treatment, multinomial where it has more than two arms.
    errors : {"HC1", "HC0"}
        HC0: the sandwich. HC1: with the factor n / (n - k), EconML's default. With clusters these are CR1, with the
        factors G / (G - 1) and (n - 1) / (n - k) and t of G - 1 degrees of freedom, and CR0.

    Raises
    ------
    ConfigError

    References
    ----------
    .. [1] Chernozhukov et al.: Double/debiased machine learning for treatment and structural parameters, Econometrics
       Journal 2018.
    .. [2] Semenova, Goldman, Chernozhukov, Taddy: Inference on heterogeneous treatment effects in high-dimensional
       dynamic panels under weak dependence, Quantitative Economics 2023.
    """

    modifiers: str | Sequence[str] = field(default=(), kw_only=True)
    discrete: bool = field(default=False, kw_only=True)
    control: object = field(default=None, kw_only=True)
    outcome_model: Model = field(default=Linear(), kw_only=True)
    treatment_model: Model | None = field(default=None, kw_only=True)
    errors: Literal["HC1", "HC0"] = field(default="HC1", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.errors not in ("HC1", "HC0"):
            raise ConfigError(f"errors is {self.errors!r}", "LinearDML", 'it is "HC1" or "HC0"')

    @property
    def _more(self) -> tuple[str | Sequence[str], ...]:
        return (self.modifiers,)

    @property
    def _by_degrees(self) -> bool:
        return not self.discrete

    def fit(self, data: Dataset, *, grouping: Groupings | None = None) -> LinearEffects:
        """Estimate it. Eager: the models' passes, and two more; of a discrete treatment one before.

        Parameters
        ----------
        data : Dataset
        grouping : Grouping or sequence of Grouping, optional
            Folds of another kind; of several repeats a list of one for each.

        Raises
        ------
        ColumnNotFound, TypeMismatch, SqlError, QueryError
        PlanError
            Nothing of the treatment is left, or what the models refuse.
        """
        prepared = self._prepared(data, grouping)
        terms = terms_of(self.modifiers, data.schema.names, self.title)
        matrix = Matrix(self._design(data, terms).matrix.terms[1:] if terms else ())
        asked = self._asked(prepared)
        return combined([self._once(one, terms, matrix, *asked) for one in prepared.repeats()])

    def _once(
        self,
        prepared: Prepared,
        terms: Terms,
        matrix: Matrix,
        treatments: tuple[Values, ...],
        labels: tuple[str, ...],
        asked: Asked,
    ) -> LinearEffects:
        where = self.title
        arms = tuple(f"{self.treatment}[{label}]" for label in labels) if self.discrete else labels
        fits = fit_all(prepared.data, asked, prepared.task)
        stage = _Stage(fits, self.outcome, treatments, matrix, where)
        chosen = prepared.data.select(*stage.inputs)
        effects = tuple(f"{arm}:{name}" for arm in arms for name in (INTERCEPT, *matrix.names))
        names = ("y", *(name.removesuffix(f":{INTERCEPT}") for name in effects), *arms)
        blocks = chosen.map_batches(_Products(stage, names), schema=SCHEMA, batch_size=BLOCK_ROWS)
        found = merged(state for batch in blocks.to_batches() for state in Moments.from_batch(names, batch))
        assert found is not None, f"{where}: models were fitted to no rows"
        self._check_left(found, len(arms), 1 + len(matrix.names))
        regressors = range(1, 1 + len(effects))
        fit = fitted(found, regressors, regressors, False, where)
        kept = tuple(place - 1 for place in fit.regressors)
        meat, factor, convention, freedom = self._meat(prepared, _Scores(stage, kept, fit.values), fit.rows)
        return LinearEffects(
            title=where,
            names=fit.names,
            values=fit.values,
            covariance=factor * fit.bread @ meat @ fit.bread,
            convention=convention,
            rows=fit.rows,
            freedom=freedom,
            dropped=tuple(dict.fromkeys((*fit.dropped, *(name for one in fits for name in one.dropped)))),
            facts=self._facts(prepared),
            provenance=self._provenance(prepared),
            modifiers=terms,
            matrix=matrix,
            arms=labels,
            kept=kept,
        )

    def _asked(self, prepared: Prepared) -> tuple[tuple[Values, ...], tuple[str, ...], Asked]:
        """Return what a treatment is as numbers, the arms that these are of, and the models that are wanted."""
        asked: Asked = [(self.outcome_model, Target(self.outcome))]
        if not self.discrete:
            asked.append((self.treatment_model or Linear(), Target(self.treatment)))
            return (Column(self.treatment),), (self.treatment,), asked
        arms = arms_of(prepared.data, self.treatment, self.control, None, self.title)
        treatments = tuple(InArms(arms, (at,)) for at in range(1, len(arms)))
        asked.append((self.treatment_model or Logistic(), membership(arms)))
        return treatments, arms.names[1:], asked

    def _check_left(self, found: Moments, arms: int, width: int) -> None:
        """Refuse a treatment of which the confounders leave nothing."""
        for at in range(arms):
            place, own = 1 + at * width, len(found.columns) - arms + at
            left = found.products[0, place, place] + found.weights[0] * found.means[0, place] ** 2
            variation, name = found.products[0, own, own], found.columns[own]
            if not variation > 0:
                value = found.means[0, own]
                raise PlanError(f"{name} is {value:g} in every row", self.title, "an effect wants two values")
            if not left > LITTLE * variation:
                raise PlanError(f"the confounders say all of {name}", self.title, "nothing is left to learn from")

    def _meat(self, prepared: Prepared, scores: _Scores, rows: int) -> tuple[Floats, float, str, float]:
        """Return squares of scores, a factor of the covariance, its name and degrees of freedom. Eager: one pass."""
        clusters, small = self._clusters, self.errors == "HC1"
        width = len(scores.kept)
        if not clusters:
            factor = rows / (rows - width) if small else 1.0
            meat = summed(prepared.data.select(*scores.stage.inputs), _Squares(scores))["meat"]
            return meat, factor, self.errors, np.inf
        needed = dict.fromkeys((*scores.stage.inputs, *clusters))
        meat, count = squares_by_cluster(prepared.data.select(*needed), scores, clusters)
        factor = count / (count - 1) * (rows - 1) / (rows - width) if small else 1.0
        freedom = count - 1 if small else np.inf
        return meat, factor, f"CR{int(small)}, by {', '.join(clusters)} ({count:,})", freedom


@dataclass(frozen=True, eq=False)
class _Stage:
    """What is regressed in the final stage."""

    fits: tuple[Fitted, ...]
    outcome: str
    treatments: tuple[Values, ...]
    matrix: Matrix
    where: str

    @property
    def inputs(self) -> tuple[str, ...]:
        names = [*self.fits[0].inputs, self.outcome, *self.matrix.inputs]
        return tuple(dict.fromkeys((*names, *(name for one in self.treatments for name in one.inputs))))

    def rows(self, batch: pa.RecordBatch) -> tuple[Floats, Floats, Floats]:
        """Return what is left of the outcome (n,), the regressors (k, n), and the treatments (J, n) themselves.

        Raises
        ------
        QueryError
            A modifier lacks a value: models of trees go on, products cannot.
        """
        said = predictions(self.fits, batch)
        treatments = np.stack([treatment(batch) for treatment in self.treatments])
        columns = beside_ones(self.matrix, batch)
        lacking = (~np.isfinite(columns[1:])).sum(axis=1)
        if lacking.any():
            at = int(np.argmax(lacking))
            raise QueryError(
                f"{self.matrix.names[at]} is missing or infinite in {int(lacking[at]):,} of {batch.num_rows:,} rows",
                self.where,
                'filter the rows, fill them by mutate, or say missing="drop"',
            )
        expected = said[-len(treatments) :]  # of several arms there is the chance of the control too
        left = (treatments - expected)[:, np.newaxis] * columns[np.newaxis]
        return Column(self.outcome)(batch) - said[0], left.reshape(-1, batch.num_rows), treatments


@dataclass(frozen=True)
class _Products:
    """The function that a worker calls: a block of rows becomes moments of the final stage."""

    stage: _Stage
    names: tuple[str, ...]

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        outcome, regressors, treatments = self.stage.rows(batch)
        return Moments.of(self.names, np.concatenate([outcome[np.newaxis], regressors, treatments])).to_batch()


@dataclass(frozen=True)
class _Scores:
    """The scores of rows, residuals times regressors, of those that have a coefficient."""

    stage: _Stage
    kept: tuple[int, ...]
    coefficients: Floats

    @property
    def width(self) -> int:
        return len(self.kept)

    def __call__(self, batch: pa.RecordBatch) -> Floats:
        outcome, regressors, _ = self.stage.rows(batch)
        used = regressors[list(self.kept)]
        return np.asarray((outcome - self.coefficients @ used) * used)


@dataclass(frozen=True)
class _Squares:
    """The function that a worker calls: a block of rows becomes squares of scores."""

    scores: _Scores

    def __call__(self, batch: pa.RecordBatch) -> Sums:
        with one_thread():
            scores = self.scores(batch)
            return Sums({"meat": scores @ scores.T})


def beside_ones(matrix: Matrix, batch: pa.RecordBatch) -> Floats:
    """Return a one and the columns of a matrix (1 + p, n)."""
    columns = np.ones((1 + len(matrix.names), batch.num_rows))
    if matrix.terms:
        columns[1:] = matrix.filled(batch)
    return columns
