"""A balanced panel by cohort: units by when they were first treated, with means and covariances of their outcomes.

Every estimator of staggered adoption here is linear in the outcomes of a unit, with weights that its cohort decides. So
the means of each cohort give its value, and the covariances within cohorts its errors, clustered by unit: one pass over
the data is for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from iceblink.causal.constant import check_varies
from iceblink.causal.matrix import Matrix, Number, floats
from iceblink.causal.moments import Floats, Integers, Moments
from iceblink.causal.passes import Missing, moments
from iceblink.causal.provenance import UNKNOWN, Provenance
from iceblink.causal.regression.design import quoted
from iceblink.errors import ColumnNotFound, PlanError, TypeMismatch
from iceblink.types import show_type

if TYPE_CHECKING:
    from iceblink.dataset import Dataset

MOST_PERIODS = 500
FIRST = "first treated"
"""The column of a unit's cohort; null where it was never treated."""


@dataclass(frozen=True, eq=False)
class Cohorts:
    """What is known of units that were first treated in the same period, and of those that never were.

    Parameters
    ----------
    title : str
        What was observed of what.
    periods : float64 array (T,)
        Ascending.
    first : float64 array (C,)
        The period in which each cohort was first treated, ascending; infinite, and last, for units never treated.
    units : int64 array (C,)
        How many.
    means : float64 array (C, T)
        Of their outcomes in each period.
    products : float64 array (C, T, T)
        Sums over units of products of deviations from those means.
    left_out : int
        Units that were treated already in the first period.
    provenance : Provenance
    """

    title: str
    periods: Floats
    first: Floats
    units: Integers
    means: Floats
    products: Floats
    left_out: int = 0
    provenance: Provenance = UNKNOWN

    @property
    def treated(self) -> NDArray[np.bool_]:
        """Whether a cohort is treated in a period (C, T)."""
        return np.asarray(self.periods >= self.first[:, np.newaxis])


@dataclass(frozen=True, eq=False)
class Units:
    """Units of a panel as rows, to be read again.

    Parameters
    ----------
    data : Dataset
        A row for each unit: its cohort, its outcomes, its covariates.
    matrix : Matrix
        Outcomes in T periods, then covariates.
    grouping : ByCohort
    found : Moments
        Of the matrix, by cohort.
    clusters : tuple of str
        Columns by which units belong together.
    """

    data: Dataset
    matrix: Matrix
    grouping: ByCohort
    found: Moments
    clusters: tuple[str, ...] = ()


@dataclass(frozen=True)
class Layout:
    """Which columns of a table say what of a panel.

    Parameters
    ----------
    outcome, unit, time, first_treated : str
    covariates, clusters : tuple of str
    """

    outcome: str
    unit: str
    time: str
    first_treated: str
    covariates: tuple[str, ...] = ()
    clusters: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """What is observed of what."""
        return f"{self.outcome} of {self.unit} by {self.time}"

    @property
    def of_units(self) -> tuple[str, ...]:
        """What covariates are called beside a unit's outcomes."""
        return tuple(f"{name} of {self.unit}" for name in self.covariates)

    def check(self, schema: pa.Schema) -> None:
        """Raise ColumnNotFound or TypeMismatch where a column cannot be what it is to be."""
        for name in (self.outcome, self.unit, self.time, self.first_treated, *self.covariates, *self.clusters):
            if name not in schema.names:
                raise ColumnNotFound.of(name, schema.names, self.title)
        for name in (self.outcome, *self.covariates):
            Number(name).check(schema, self.title)
        for name in (self.time, self.first_treated):
            kind = schema.field(name).type
            if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
                raise TypeMismatch(
                    f"column {name!r} is {show_type(kind)}, and periods are whole numbers",
                    self.title,
                    "number them: years, or months as 12 * year + month",
                )


def read(data: Dataset, layout: Layout, missing: Missing) -> tuple[Cohorts, Units]:
    """Read a panel.

    Eager: three passes, of which the last two bring the rows of a unit together. The state is a matrix of all pairs of
    periods, and covariates, for each cohort.

    Raises
    ------
    ColumnNotFound, TypeMismatch
    PlanError
        There are fewer than two periods or more than 500; no unit is treated; a unit has two rows of one period, two
        first treatments, or two values of a covariate.
    QueryError
        A unit lacks the outcome in a period, or a covariate, and `missing` is "raise".
    """
    layout.check(data.schema)
    periods = _periods(data, layout)
    outcomes = [f"{layout.outcome} in {period:.15g}" for period in periods]
    names = [*outcomes, *layout.of_units]
    needed = dict.fromkeys(
        (layout.outcome, layout.unit, layout.time, layout.first_treated, *layout.covariates, *layout.clusters)
    )
    units = data.select(*needed).sql(_pivoted(layout, periods, outcomes))
    first, left_out = _adoption(units, layout, periods)
    conditions = [f"({quoted(FIRST)} IS NULL OR {quoted(FIRST)} > {float(periods[0])!r}::DOUBLE)"]
    if missing == "drop":
        conditions += [f"isfinite({quoted(name)})" for name in names]
        conditions += [f"{quoted(name)} IS NOT NULL" for name in layout.clusters]
    kept = units.sql(f"SELECT * FROM this WHERE {' AND '.join(conditions)}")
    matrix, grouping = Matrix(tuple(map(Number, names))), ByCohort(tuple(map(float, first)))
    found = moments(kept, matrix, grouping=grouping, where=layout.title)
    if not (found.groups < len(first)).any():
        raise PlanError("no treated unit is left", layout.title, "units lack outcomes in some period")
    total = found.total.chosen(outcomes)
    means, weight = total.means[0], float(total.weights[0])
    squares = np.trace(total.products[0]) + weight * ((means - means.mean()) ** 2).sum()
    rows = weight * len(means)
    check_varies(layout.outcome, float(means.mean()), float(squares), rows, layout.title, "nothing changed it")
    every, by_period = np.append(first, np.inf), found.chosen(outcomes)
    cohorts = Cohorts(
        layout.title,
        periods,
        every[found.groups],
        found.rows,
        by_period.means,
        by_period.products,
        left_out,
        Provenance.of(data),
    )
    return cohorts, Units(kept, matrix, grouping, found, layout.clusters)


def _periods(data: Dataset, layout: Layout) -> Floats:
    found = floats(data.select(layout.time).distinct().limit(MOST_PERIODS + 2).to_arrow().column(layout.time))
    periods = np.sort(found[np.isfinite(found)].astype(np.float64))
    if not 2 <= len(periods) <= MOST_PERIODS:
        raise PlanError(
            f"{layout.time} has {len(periods):,}{' or more' * (len(periods) > MOST_PERIODS)} periods",
            layout.title,
            f"between 2 and {MOST_PERIODS}; group finer times to days, weeks or years",
        )
    return periods


def _pivoted(layout: Layout, periods: Floats, names: list[str]) -> str:
    """Return the query that makes a row of a unit: its first treatment, checks, and a column for each period."""
    zero = "" if periods[0] <= 0 else " AND first <> 0"
    outcomes = ", ".join(
        f"max(CASE WHEN period = {float(period)!r}::DOUBLE THEN y END) AS {quoted(name)}"
        for period, name in zip(periods, names, strict=True)
    )
    places = range(len(layout.covariates))
    groups = range(len(layout.clusters))
    given = "".join(f", {quoted(layout.covariates[at])}::DOUBLE AS x{at}" for at in places)
    given += "".join(f", {quoted(layout.clusters[at])} AS k{at}" for at in groups)
    kept = "".join([*(f", x{at}" for at in places), *(f", k{at}" for at in groups)])
    covariates = "".join(f", max(x{at}) AS {quoted(layout.of_units[at])}" for at in places)
    covariates += "".join(f", max(k{at}) AS {quoted(layout.clusters[at])}" for at in groups)
    varying = "".join(f" OR min(x{at}) < max(x{at})" for at in places)
    varying += "".join(f" OR min(k{at}) <> max(k{at}) OR count(k{at}) NOT IN (0, count(*))" for at in groups)
    return (
        f"SELECT CASE WHEN min(first) <= {float(periods[-1])!r}::DOUBLE THEN min(first) END AS {quoted(FIRST)}, "
        "CASE WHEN count(first) NOT IN (0, count(*)) OR min(first) < max(first) THEN 1 ELSE 0 END AS changing, "
        f"CASE WHEN false{varying} THEN 1 ELSE 0 END AS varying, "
        "CASE WHEN count(*) > count(DISTINCT period) THEN 1 ELSE 0 END AS twice, "
        f"{outcomes}{covariates} FROM "
        f"(SELECT unit, period, y, CASE WHEN isfinite(first){zero} THEN first END AS first{kept} FROM "
        f"(SELECT {quoted(layout.unit)} AS unit, {quoted(layout.time)}::DOUBLE AS period, "
        f"{quoted(layout.outcome)}::DOUBLE AS y, {quoted(layout.first_treated)}::DOUBLE AS first{given} FROM this)) "
        "GROUP BY unit"
    )


def _adoption(units: Dataset, layout: Layout, periods: Floats) -> tuple[Floats, int]:
    """Return when cohorts were first treated, and how many units were so already at the beginning."""
    found = units.sql(
        f"SELECT {quoted(FIRST)} AS first, count(*) AS units, sum(changing)::BIGINT AS changing, "
        "sum(twice)::BIGINT AS twice, sum(varying)::BIGINT AS varying "
        f"FROM this GROUP BY {quoted(FIRST)} ORDER BY {quoted(FIRST)}"
    ).to_arrow()
    count, changing, twice, varying = (
        np.asarray(found.column(name).to_numpy()).astype(np.int64) for name in ("units", "changing", "twice", "varying")
    )
    if changing.sum():
        raise PlanError(
            f"{changing.sum():,} units have different values of {layout.first_treated}",
            layout.title,
            "it is the period in which a unit was first treated, the same in all its rows; null, or 0, if never",
        )
    if twice.sum():
        raise PlanError(
            f"{twice.sum():,} units have several rows of one period", layout.title, "group them to one, or null periods"
        )
    if varying.sum():
        raise PlanError(
            f"{varying.sum():,} units have different values of {' or '.join((*layout.covariates, *layout.clusters))}",
            layout.title,
            "covariates and clusters are of a unit: take their values before treatment, by SQL",
        )
    first = floats(found.column("first")).astype(np.float64)
    early = first <= periods[0]
    later = first[np.isfinite(first) & ~early]
    if not len(later):
        raise PlanError(
            f"no unit is first treated after {periods[0]:.15g}, the first period",
            layout.title,
            "nothing is to be compared",
        )
    return later, int(count[early].sum())


@dataclass(frozen=True)
class ByCohort:
    """The number of a unit's cohort; that of the never treated is the last."""

    first: tuple[float, ...]

    @property
    def inputs(self) -> tuple[str, ...]:
        return (FIRST,)

    def numbers(self, batch: pa.RecordBatch) -> Integers:
        first = floats(batch.column(FIRST)).astype(np.float64)
        return np.where(np.isnan(first), len(self.first), np.searchsorted(self.first, first)).astype(np.int64)
