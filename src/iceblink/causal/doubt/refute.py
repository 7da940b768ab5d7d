"""Refuters: an estimator is asked where the answer is known, and doubted if it gives another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa

from iceblink.causal.distributions import chi2_below, t_above
from iceblink.causal.doubt.chance import Added, Chance, Chosen, Redrawn, Resampled, applied, sampled
from iceblink.causal.doubt.one_scan import Change, effects, linear
from iceblink.causal.doubt.subjects import Subject, subject
from iceblink.causal.experiments.multiple import adjusted
from iceblink.causal.formula import parsed
from iceblink.causal.moments import Floats
from iceblink.causal.observational.problem import Problem
from iceblink.causal.provenance import UNKNOWN, Provenance
from iceblink.causal.regression.model import Regression
from iceblink.causal.result import Result
from iceblink.causal.sheet import Sheet, p_cell
from iceblink.causal.whole import check_whole
from iceblink.errors import ConfigError, PlanError, nearest

if TYPE_CHECKING:
    from iceblink.dataset import Dataset

Refuter = Literal["placebo", "random_cause", "subset", "dummy_outcome", "bootstrap"]
DONE: dict[str, str] = {
    "placebo": "a treatment drawn from the treatments of other rows",
    "random_cause": "a confounder of random numbers more",
    "subset": "a part of the units",
    "dummy_outcome": "an outcome drawn from the outcomes of other rows",
    "bootstrap": "units drawn with replacement",
}
SHOULD_BE_ZERO = ("placebo", "dummy_outcome")
NEGLIGIBLE = 0.1
"""A difference of less than this part of the standard error is none."""
CAUSE = "__random_cause"


@dataclass(frozen=True, eq=False)
class Refuted:
    """What one refuter found.

    Parameters
    ----------
    refuter : str
    done : str
        What was changed, in words.
    before, error : float
        The effect and its standard error as estimated.
    expected : float
        What the effect should be on average after the change.
    effects : float64 array (draws,)
        What it was.
    p_value : float
        Of what should be being so, adjusted for all refuters asked (Holm).
    refuted : bool
    """

    refuter: str
    done: str
    before: float
    error: float
    expected: float
    effects: Floats
    p_value: float
    refuted: bool

    @property
    def after(self) -> float:
        """The mean effect of the draws."""
        return float(self.effects.mean())

    @property
    def spread(self) -> float:
        """The standard deviation of the effects of the draws."""
        return float(self.effects.std(ddof=1))

    @property
    def verdict(self) -> str:
        """What follows, in words."""
        if self.refuter == "bootstrap":
            ratio = self.spread / self.error
            return f"refuted: the spread is {ratio:.2f} standard errors" if self.refuted else "the errors fit"
        if self.refuter in SHOULD_BE_ZERO:
            return (
                f"refuted: there should be no effect of a {self.refuter}"
                if self.refuted
                else "no effect, as it should be"
            )
        return (
            f"refuted: it moves by {(self.after - self.before) / self.error:+.2f} standard errors"
            if self.refuted
            else "it stays"
        )


@dataclass(frozen=True, eq=False, repr=False)
class Refutation(Result):
    """What refuters found.

    Parameters
    ----------
    title : str
    found : tuple of Refuted
    draws : int
        Of each.
    level : float
    provenance : Provenance
        With the seed of all chance.
    """

    keys: ClassVar[tuple[str, ...]] = ("refuter",)

    title: str
    found: tuple[Refuted, ...]
    draws: int
    level: float
    provenance: Provenance = UNKNOWN

    def __getitem__(self, refuter: str) -> Refuted:
        """Return what one refuter found. Raises ConfigError if it was not asked."""
        for one in self.found:
            if one.refuter == refuter:
                return one
        raise ConfigError(f"no refuter {refuter!r} was asked", self.title, nearest(refuter, DONE, "refuters"))

    @property
    def refuted(self) -> tuple[str, ...]:
        """The refuters that found something wrong."""
        return tuple(one.refuter for one in self.found if one.refuted)

    def to_arrow(self) -> pa.Table:
        """Return a row for each: refuter, done, before, expected, after, spread, p_value, refuted, verdict."""
        names = ("refuter", "done", "before", "expected", "after", "spread", "p_value", "refuted", "verdict")
        return pa.table({name: [getattr(one, name) for one in self.found] for name in names})

    def effects(self) -> pa.Table:
        """Return a row for each draw, to be drawn: refuter, draw, effect."""
        rows = [(one.refuter, at, float(value)) for one in self.found for at, value in enumerate(one.effects)]
        return pa.table(dict(zip(("refuter", "draw", "effect"), zip(*rows, strict=True), strict=True)))

    def sheet(self) -> Sheet:
        """Return what `summary` and notebooks show."""
        lines = [
            [
                one.refuter,
                one.verdict,
                f"{one.expected:.5g}",
                f"{one.after:.5g}",
                f"{one.spread:.3g}",
                p_cell(one.p_value),
            ]
            for one in self.found
        ]
        first = self.found[0]
        return Sheet(
            above=(self.title,),
            head=("", "verdict", "expected", "after", "spread", "p, of all"),
            lines=lines,
            below=(
                f"effect {first.before:.6g}, standard error {first.error:.6g}, draws {self.draws}",
                *self.provenance.lines,
            ),
            words=2,
        )


def refute(
    estimator: Any,
    data: Dataset | Problem,
    refuters: Sequence[Refuter] = ("placebo", "random_cause", "subset", "dummy_outcome"),
    *,
    treatment: str | None = None,
    key: str | Sequence[str] | None = None,
    draws: int = 10,
    share: float = 0.8,
    seed: int = 0,
    level: float = 0.05,
) -> Refutation:
    """Ask an estimator where the answer is known.

    What a refuter does not find wrong may be wrong all the same: none of them sees an unobserved confounder, of which
    `sensitivity` speaks.

    - ``placebo``: the treatment is drawn anew from the treatments of 10,000 rows; the effect should be 0.
    - ``dummy_outcome``: the outcome is; the effect should be 0.
    - ``random_cause``: a confounder of random numbers is added; the effect should stay.
    - ``subset``: only a share of the units is taken; the effect should stay.
    - ``bootstrap``: units are drawn with replacement (Poisson); the effects should spread as the standard error says.

    Chance is a hash of the unit's key: rows of a unit share it, and files, workers and order do not matter. Each is
    done some times. By Student's t of the draws their mean is compared with what it should be, the spread of a
    bootstrap by χ²; p is adjusted for all refuters (Holm). A difference of less than a tenth of the standard error, or
    of the spread from it, is none.

    Eager. Of `OLS`, whose treatment stands alone, and `LinearPLR` all refuters are one scan more than the estimate,
    and up to two of few columns; any other estimator is run again for each draw, on rows that are changed lazily.

    Parameters
    ----------
    estimator : object
        A regression by formula; an estimator with `outcome`, `treatment` and `confounders`, as `LinearPLR`; one of
        those that take a `Problem`, as `AIPW`.
    data : Dataset or Problem
    refuters : sequence of str
    treatment : str, optional
        Of a regression: which regressor it is. Others have named theirs.
    key : str or sequence of str, optional
        The columns of the unit. Default: the estimator's.
    draws : int
        Of each, 2 or more.
    share : float
        Of the units that are in a subset.
    seed : int
    level : float
        The chance that an estimator without fault is refuted.

    Raises
    ------
    ColumnNotFound, TypeMismatch, QueryError
    ConfigError
    PlanError
        A placebo is asked of an estimator by instruments, which would have none.
    """
    asked = tuple(dict.fromkeys((refuters,) if isinstance(refuters, str) else refuters))
    for name in asked:
        if name not in DONE:
            raise ConfigError(f"no refuter {name!r}", "refute", nearest(name, DONE, "refuters"))
    check_whole("refute", draws=draws, seed=seed)
    if not asked or draws < 2 or not 0 < share < 1 or not 0 < level < 1:
        raise ConfigError(
            f"refuters are {list(asked)}, draws {draws}, share {share}, level {level}",
            "refute",
            "one refuter or more, two draws or more, share and level between 0 and 1",
        )
    if "placebo" in asked and _instrumented(estimator):
        raise PlanError("a placebo has no instrument", "refute", "leave it out, or regress on the instrument by OLS")
    doubted = subject(estimator, data, treatment, key)
    before, error = doubted.estimated(doubted.data)
    changes = [change for name in asked for change in _changes(doubted, name, draws, share, seed)]
    after = np.array(_after(doubted, changes)).reshape(len(asked), draws)
    found = [
        Refuted(name, DONE[name], before, error, 0.0 if name in SHOULD_BE_ZERO else before, mine, np.nan, False)
        for name, mine in zip(asked, after, strict=True)
    ]
    p_values = adjusted(np.array([_p_value(one) for one in found]), "holm")
    judged = (
        replace(one, p_value=float(p), refuted=bool(p < level and _far(one)))
        for one, p in zip(found, p_values, strict=True)
    )
    origin = Provenance.of(doubted.data, seed=seed)
    return Refutation(f"refuters of {type(estimator).__name__}", tuple(judged), draws, level, origin)


def _instrumented(estimator: Any) -> bool:
    if isinstance(estimator, Regression):
        return bool(parsed(estimator.formula).instruments)
    return getattr(estimator, "instrument", None) is not None


def _changes(doubted: Subject, refuter: str, draws: int, share: float, seed: int) -> list[Change]:
    chances = [Chance(doubted.keys, seed, refuter, draw) for draw in range(draws)]
    if refuter in SHOULD_BE_ZERO:
        column = doubted.treatment if refuter == "placebo" else doubted.outcome
        sample = sampled(doubted.data, column, doubted.keys, seed)
        return [Redrawn(column, sample, chance) for chance in chances]
    if refuter == "random_cause":
        return [Added(CAUSE, chance) for chance in chances]
    if refuter == "subset":
        return [Chosen(share, chance) for chance in chances]
    return [Resampled(chance) for chance in chances]


def _after(doubted: Subject, changes: Sequence[Change]) -> list[float]:
    if (estimator := linear(doubted)) is not None:
        return effects(doubted, estimator, changes)
    return [
        doubted.estimated(applied(doubted.data, change), [CAUSE] if isinstance(change, Added) else [])[0]
        for change in changes
    ]


def _p_value(found: Refuted) -> float:
    """Return how likely draws are that are as far from what they should be."""
    freedom = len(found.effects) - 1
    if found.refuter == "bootstrap":
        below = chi2_below(freedom * (found.spread / found.error) ** 2, freedom)
        return float(2 * min(below, 1 - below))
    apart = found.after - found.expected
    if not found.spread > 0:
        return 1.0 if apart == 0 else 0.0
    return float(2 * t_above(abs(apart) / found.spread * np.sqrt(freedom + 1), freedom))


def _far(found: Refuted) -> bool:
    apart = found.spread - found.error if found.refuter == "bootstrap" else found.after - found.expected
    return bool(abs(apart) > NEGLIGIBLE * found.error)
