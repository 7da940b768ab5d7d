"""Nearest-neighbour matching on the propensity score: rows are sorted by it, and matched inside of long ranges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from iceblink.causal.blas import one_thread
from iceblink.causal.matrix import floats
from iceblink.causal.moments import Floats
from iceblink.causal.observational.adjusting import MODELLED
from iceblink.causal.observational.choice import Choice, Link, choice
from iceblink.causal.observational.effects import Effects
from iceblink.causal.observational.problem import Problem
from iceblink.causal.observational.stack import added
from iceblink.causal.observational.strata import check_plain
from iceblink.causal.observational.study import Reader, Study
from iceblink.causal.observational.target import Estimand, check_target
from iceblink.causal.passes import BLOCK_ROWS
from iceblink.causal.sums import SCHEMA, Sums
from iceblink.causal.tree import merged
from iceblink.errors import ConfigError, PlanError

if TYPE_CHECKING:
    from iceblink.dataset import Dataset

RANGE_ROWS = 262_144
"""Rows among which a row is matched. Only near the ends of a range could a nearer one be in the next range."""
SCORE, ARM, LEFT = "__score", "__arm", "__left"


@dataclass(frozen=True)
class NearestNeighbour:
    """Each row is compared with the row of the other arm whose propensity score is nearest, with replacement [1]_.

    Distances are of the linear score. Rows at the same distance are all taken, and averaged. The rows are sorted by
    score and matched inside of ranges of 262,144: exact for fewer rows, and else but for rows at the ends of a range,
    whose nearest row may be in the next. Rows whose range has nobody to match with are left out, and counted.

    The variance is that of Abadie and Imbens for one match, robust to heteroskedasticity, by the nearest rows of the
    same arm [2]_. It takes the score as known; estimating it makes the true variance of the ATE smaller, and that of
    the ATT smaller or larger [3]_.

    Parameters
    ----------
    estimand : {"ATT", "ATE", "ATC"}
    link : {"logit", "probit"}
    caliper : float, optional
        Rows whose nearest one is farther than this, in linear scores, are left out.

    References
    ----------
    .. [1] Abadie, Imbens: Large sample properties of matching estimators for average treatment effects, Econometrica
       2006, eqs. 3-4.
    .. [2] Abadie, Drukker, Herr, Imbens: Implementing matching estimators for average treatment effects in Stata,
       Stata Journal 2004, section 3.4, the population variance.
    .. [3] Abadie, Imbens: Matching on the estimated propensity score, Econometrica 2016.
    """

    estimand: Estimand = "ATT"
    link: Link = "logit"
    caliper: float | None = None

    def __post_init__(self) -> None:
        check_target(self.estimand, None, "NearestNeighbour", MODELLED)
        if self.caliper is not None and not self.caliper >= 0:
            raise ConfigError(f"caliper is {self.caliper}", "NearestNeighbour", "a distance of linear scores, as 0.2")

    def fit(self, problem: Problem) -> Effects:
        """Estimate it. Eager: about four passes, one of which sorts, and two for what the estimators share.

        Raises
        ------
        ColumnNotFound, TypeMismatch, QueryError
        PlanError
            There is no overlap, no row has a match, or there are more than two arms, weights or clusters.
        """
        title, study = f"NearestNeighbour of {problem}", problem.study
        check_plain(study, title)
        model, dropped = choice(study, self.link, title)
        matching = _Matching(self.estimand, self.caliper)
        pairs = _Pairs(study, model, matching)
        blocks = pairs.sorted(study.needed()).select(SCORE, ARM, LEFT)
        blocks = blocks.map_batches(_Matched(matching), schema=SCHEMA, batch_size=RANGE_ROWS)
        found = merged(state for batch in blocks.to_batches() for state in Sums.from_batch(batch))
        if found is None or not found["rows"] > 0:
            raise PlanError("no row has a match", title, "widen the caliper, or look at the overlap")
        rows, effect = float(found["rows"]), float(found["apart"] / found["rows"])
        spread = float(found["squares"]) - 2 * effect * float(found["apart"]) + effect**2 * rows
        facts: dict[str, Any] = {"link": self.link, "rows matched": int(rows)}
        warnings = []
        if lost := int(found["lost"]):
            facts["rows left out"] = lost
            warnings.append(f"rows without a match: {lost:,}; the effect is that of the others")
        return Effects(
            title=title,
            names=(self.estimand,),
            values=np.array([effect]),
            covariance=np.array([[(spread + float(found["noise"])) / rows**2]]),
            convention="Abadie-Imbens, score as given",
            rows=study.rows,
            dropped=dropped,
            facts=facts,
            provenance=study.provenance,
            warnings=tuple(warnings),
            study=study,
            weighing=pairs,
        )


@dataclass(frozen=True, eq=False)
class _Matching:
    """Matches rows, in one range.

    Parameters
    ----------
    estimand : Estimand
    caliper : float or None
    """

    estimand: Estimand
    caliper: float | None

    @property
    def matched(self) -> tuple[int, ...]:
        """The arms whose rows look for matches."""
        return {"ATT": (1,), "ATC": (0,)}.get(self.estimand, (0, 1))

    def of(self, scores: Floats, arm: NDArray[Any], outcome: Floats) -> tuple[Sums, Floats]:
        """Return the sums of which the effect and its variance are made, and each row's weight (n,)."""
        points, at = np.unique(scores, return_inverse=True)
        arms = [_Donors.of(points, at, arm == number, outcome) for number in (0, 1)]
        rows = apart = squares = lost = noise = 0.0
        used, used_squares = np.zeros((2, len(points))), np.zeros((2, len(points)))
        has = np.zeros((2, len(points)))
        for number in self.matched:
            own, other = arms[number], arms[1 - number]
            found = other.nearest(points, self.caliper)
            whole = (own.counts > 0) & (found.counts > 0)
            has[number] = whole
            count = np.where(whole, own.counts, 0.0)
            sign = 1 if number == 1 else -1
            rows += count.sum()
            lost += own.counts.sum() - count.sum()
            apart += sign * (own.sums - count * found.means)[whole].sum()
            squares += (own.squares - 2 * found.means * own.sums + count * found.means**2)[whole].sum()
            each = np.divide(count, found.counts, out=np.zeros(len(points)), where=whole)
            again = np.divide(each, found.counts, out=np.zeros(len(points)), where=whole)
            used[1 - number] = found.spread(each)
            used_squares[1 - number] = found.spread(again)
        for number in (0, 1):
            factor = used[number] ** 2 - used_squares[number] + 2 * used[number] * has[number]
            noise += float(factor @ arms[number].noise(points))
        sums = {"rows": rows, "apart": apart, "squares": squares, "lost": lost, "noise": noise}
        weights = (has + used)[np.asarray(arm, np.int64), at]
        return Sums({name: np.array(float(value)) for name, value in sums.items()}), weights


@dataclass(frozen=True, eq=False)
class _Found:
    """The nearest donors of each of `n` points: those of a point on the left, on the right, or of both.

    Parameters
    ----------
    counts, means : float64 arrays (n,)
        How many rows they are, and their mean outcome.
    sides : tuple of (int array, bool array)
        Of each side which point, and whether it is taken.
    """

    counts: Floats
    means: Floats
    sides: tuple[tuple[NDArray[np.intp], NDArray[np.bool_]], ...]

    def spread(self, amounts: Floats) -> Floats:
        """Return how much comes to each row of a donor point (n,) if a point gives an amount to each of its donors."""
        found = np.zeros(len(amounts))
        for points, taken in self.sides:
            found += added(points[taken], amounts[taken], len(amounts))
        return found


@dataclass(frozen=True, eq=False)
class _Donors:
    """Rows of an arm at each point of the score: counts, sums of outcomes and of their squares, all (n,)."""

    counts: Floats
    sums: Floats
    squares: Floats

    @classmethod
    def of(cls, points: Floats, at: NDArray[np.intp], mine: NDArray[np.bool_], outcome: Floats) -> _Donors:
        at, outcome = at[mine], outcome[mine]
        parts = (added(at, values, len(points)) for values in (np.ones(len(at)), outcome, outcome**2))
        return cls(*parts)

    def nearest(self, points: Floats, caliper: float | None = None, others: bool = False) -> _Found:
        """Return the donors nearest to each point; with `others` never those at the point itself."""
        at = np.flatnonzero(self.counts)
        if not len(at):
            nobody = np.zeros(len(points), np.intp), np.zeros(len(points), bool)
            return _Found(np.zeros(len(points)), np.zeros(len(points)), (nobody, nobody))
        after = np.searchsorted(points[at], points, side="right" if others else "left")
        before = np.searchsorted(points[at], points, side="left") - 1
        far = [np.full(len(points), np.inf) for _ in range(2)]
        places = [np.clip(side, 0, len(at) - 1) for side in (before, after)]
        for distance, side, place in zip(far, (before, after), places, strict=True):
            there = (side >= 0) & (side < len(at))
            distance[there] = np.abs(points[at[place[there]]] - points[there])
        least = np.minimum(*far)
        reached = np.isfinite(least) if caliper is None else least <= caliper
        sides = tuple((at[place], reached & (distance == least)) for place, distance in zip(places, far, strict=True))
        counts = sum((np.where(taken, self.counts[place], 0.0) for place, taken in sides), np.zeros(len(points)))
        sums = sum((np.where(taken, self.sums[place], 0.0) for place, taken in sides), np.zeros(len(points)))
        means = np.divide(sums, counts, out=np.zeros(len(points)), where=counts > 0)
        return _Found(counts, means, sides)

    def noise(self, points: Floats) -> Floats:
        """Return the sum over the rows of each point (n,) of their variances given the score.

        Of a row with J nearest rows of its own arm it is J / (J + 1) times the squared distance from their mean.
        """
        found = self.nearest(points, others=True)
        single = self.counts == 1
        alone = found.counts / (found.counts + 1) * (self.sums - found.means) ** 2
        several = np.maximum(self.counts, 2)
        together = several / (several - 1) * (self.squares - self.sums**2 / several)
        return np.where(single, alone, np.where(self.counts > 1, together, 0.0))


@dataclass(frozen=True)
class _Matched:
    """Rows in the order of their scores become the sums of their matches."""

    matching: _Matching

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        scores, arm, left = (floats(batch.column(name)) for name in (SCORE, ARM, LEFT))
        return self.matching.of(scores, arm, left)[0].to_batch()


@dataclass(frozen=True)
class _Pairs:
    """Sorts rows by score; also what gives them the weights of their matches."""

    study: Study
    choice: Choice
    matching: _Matching

    def sorted(self, data: Dataset) -> Dataset:
        """Return rows in the order of their scores, with score, arm, and outcome less the mean of all."""
        added = [pa.field(SCORE, pa.float64()), pa.field(ARM, pa.int32()), pa.field(LEFT, pa.float64())]
        reader, mean = self.study.reader, float(self.study.found.total.means[0, 0])
        scored = _Scored(reader, self.choice, mean)
        rows = data.map_batches(scored, schema=pa.schema([*data.schema, *added]), batch_size=BLOCK_ROWS)
        return rows.order_by(SCORE)

    def __call__(self, data: Dataset, name: str) -> Dataset:
        rows = self.sorted(data)
        schema = pa.schema([*data.schema, pa.field(name, pa.float64())])
        return rows.map_batches(_Weighed(self.matching, name), schema=schema, batch_size=RANGE_ROWS)


@dataclass(frozen=True)
class _Scored:
    reader: Reader
    choice: Choice
    mean: float

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        with one_thread():
            rows = self.reader.rows(batch)
            scores = self.choice.scores(rows)[0]
        added = [pa.array(scores), pa.array(rows.arm, pa.int32()), pa.array(rows.outcome - self.mean)]
        return pa.RecordBatch.from_arrays([*batch.columns, *added], names=[*batch.schema.names, SCORE, ARM, LEFT])


@dataclass(frozen=True)
class _Weighed:
    matching: _Matching
    name: str

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        scores, arm, left = (floats(batch.column(name)) for name in (SCORE, ARM, LEFT))
        weights = self.matching.of(scores, arm, left)[1]
        kept = batch.drop_columns([SCORE, ARM, LEFT])
        return pa.RecordBatch.from_arrays([*kept.columns, pa.array(weights)], names=[*kept.schema.names, self.name])
