"""Average effects by weighting, by regression, and by both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from iceblink.causal.observational.choice import Link, choice
from iceblink.causal.observational.effects import Effects, RowWeights, effects_of
from iceblink.causal.observational.outcomes import Outcome, least_squares, weighted_least_squares
from iceblink.causal.observational.pooled import Pooled, pooled
from iceblink.causal.observational.potential import Fit, Form, Potential, Weighing
from iceblink.causal.observational.problem import Problem
from iceblink.causal.observational.stack import stacked_means
from iceblink.causal.observational.study import Study
from iceblink.causal.observational.target import Estimand, Target, check_arms, check_target

MODELLED: tuple[Estimand, ...] = ("ATE", "ATT", "ATC")


@dataclass(frozen=True)
class IPW:
    """Inverse probability weighting: each row counts as one over its chance of the treatment that it had.

    The estimand is a contrast of E[h Y(j)] / E[h], with h = 1 for the ATE, p₁ for the ATT, p₀ for the ATC, and for the
    ATO, of those who could as well have had another treatment, 1 / Σ 1 / p [2]_. Chances are estimated, and the
    standard errors are those of all estimating equations together, as of Stata's ``teffects ipw`` [1]_: no factor for
    small samples.

    Parameters
    ----------
    estimand : {"ATE", "ATT", "ATC", "ATO"}
    link : {"logit", "probit"}
        Of the model of the treatment; with more than two arms a multinomial logit.
    normalized : bool
        Whether weights are divided by their sum (Hájek), or not (Horvitz-Thompson).
    trim : float, optional
        Leave rows out that have a smaller chance than this of any arm. That is another population, and the bound is
        taken as given.
    clip : float, optional
        Take chances below this, or above 1 less this, to be this: nobody is left out and no weight is larger than
        1 / clip, for some bias. DoubleML and statsmodels' `TreatmentEffect` clip at 0.01, Stata does not.

    References
    ----------
    .. [1] Lunceford, Davidian: Stratification and weighting via the propensity score, Statistics in Medicine 2004,
       eqs. 6-8 and section 3.2.
    .. [2] Li, Morgan, Zaslavsky: Balancing covariates via propensity score weighting, JASA 2018.
    """

    estimand: Estimand = "ATE"
    link: Link = "logit"
    normalized: bool = True
    trim: float | None = None
    clip: float | None = None

    def __post_init__(self) -> None:
        check_target(self.estimand, self.trim, "IPW", clip=self.clip)

    def fit(self, problem: Problem) -> Effects:
        """Estimate it. Eager: about four passes, and two for what the problem's estimators share.

        Raises
        ------
        ColumnNotFound, TypeMismatch, QueryError
        PlanError
            There is no overlap, or what `Study.of` refuses.
        """
        form: Form = "hajek" if self.normalized else "horvitz-thompson"
        return _fitted("IPW", problem, Target(self.estimand, self.trim, self.clip), form, self.link)


@dataclass(frozen=True)
class RegressionAdjustment:
    """A linear model of the outcome in each arm, averaged over the rows of the target population (g-formula).

    The mean of arm j is the average of x'β_j over all rows, or over those treated; with `Problem.interactions`, of
    one model of all rows in which only some slopes depend on j. The standard errors are those of all estimating
    equations together, as of Stata's ``teffects ra`` [1]_.

    Parameters
    ----------
    estimand : {"ATE", "ATT", "ATC"}

    References
    ----------
    .. [1] Wooldridge: Econometric Analysis of Cross Section and Panel Data, 2010, section 21.3.2, and 12.4 for errors.
    """

    estimand: Estimand = "ATE"

    def __post_init__(self) -> None:
        check_target(self.estimand, None, "RegressionAdjustment", MODELLED)

    def fit(self, problem: Problem) -> Effects:
        """Estimate it. Eager: one pass, and two for what the problem's estimators share; raises as `IPW.fit` does."""
        return _fitted("RegressionAdjustment", problem, Target(self.estimand), "regression", None)


@dataclass(frozen=True)
class AIPW:
    """Augmented inverse probability weighting: right if either of its two models is (doubly robust) [1]_.

    Parameters
    ----------
    estimand : {"ATE", "ATT", "ATC"}
    link : {"logit", "probit"}
    trim, clip : float, optional
        As of `IPW`.
    weighted : bool
        Whether the models of the outcome are fitted with weights (1 / p) (1 / p - 1), which makes the variance least
        when the model of the treatment is right [2]_; else by ordinary least squares.

    References
    ----------
    .. [1] Robins, Rotnitzky, Zhao: Estimation of regression coefficients when some regressors are not always observed,
       JASA 1994; Lunceford, Davidian 2004, eq. 9.
    .. [2] Cao, Tsiatis, Davidian: Improving efficiency and robustness of the doubly robust estimator, Biometrika 2009,
       as Stata's ``teffects aipw, wnls``.
    """

    estimand: Estimand = "ATE"
    link: Link = "logit"
    trim: float | None = None
    weighted: bool = False
    clip: float | None = None

    def __post_init__(self) -> None:
        check_target(self.estimand, self.trim, "AIPW", MODELLED, self.clip)

    def fit(self, problem: Problem) -> Effects:
        """Estimate it. Eager: as many passes as `IPW`, and one more if weighted; raises as `IPW.fit` does."""
        target = Target(self.estimand, self.trim, self.clip)
        return _fitted("AIPW", problem, target, "augmented", self.link, "odds" if self.weighted else "equal")


@dataclass(frozen=True)
class IPWRA:
    """Regression adjustment whose models are fitted with inverse probability weights: doubly robust [1]_.

    Parameters
    ----------
    estimand : {"ATE", "ATT", "ATC"}
    link, trim, clip
        As of `IPW`.

    References
    ----------
    .. [1] Wooldridge: Inverse probability weighted estimation for general missing data problems, J. Econometrics 2007.
    """

    estimand: Estimand = "ATE"
    link: Link = "logit"
    trim: float | None = None
    clip: float | None = None

    def __post_init__(self) -> None:
        check_target(self.estimand, self.trim, "IPWRA", MODELLED, self.clip)

    def fit(self, problem: Problem) -> Effects:
        """Estimate it. Eager: a pass more than `IPW`; raises as `IPW.fit` does."""
        return _fitted(
            "IPWRA", problem, Target(self.estimand, self.trim, self.clip), "regression", self.link, "inverse"
        )


def _fitted(name: str, problem: Problem, target: Target, form: Form, link: Link | None, fit: Fit = "equal") -> Effects:
    title, study = f"{name} of {problem}", problem.study
    check_arms(target, study, title)
    model, dropped = (None, ()) if link is None else choice(study, link, title)
    stack = Potential(study.reader, target, form, study.means, model)
    if form in ("regression", "augmented"):
        weigh = None if fit == "equal" or model is None else Weighing(model, target, fit)
        outcomes: tuple[Outcome, ...] | Pooled
        if study.interacted is not None:
            outcomes = pooled(study, weigh, title)
        elif weigh is None:
            outcomes = least_squares(study, title)
        else:
            outcomes = weighted_least_squares(study, weigh, title)
        stack = Potential(study.reader, target, form, study.means, model, outcomes, fit)
        dropped = tuple(dict.fromkeys((*dropped, *_without_slope(study, outcomes))))
    facts: dict[str, Any] = {"link": link} if link else {}
    facts |= {name: bound for name, bound in (("trim", target.trim), ("clip", target.clip)) if bound is not None}
    weighing = None if form == "regression" and fit == "equal" else RowWeights(stack)
    means = stacked_means(study, stack, title)
    return effects_of(title, target.estimand, study, means, facts, dropped, weighing)


def _without_slope(study: Study, outcomes: tuple[Outcome, ...] | Pooled) -> list[str]:
    """Return the columns that the model of some arm's outcome leaves out, since they follow from others there."""
    arms = range(len(study.arms))
    used = [outcomes.places(arm) if isinstance(outcomes, Pooled) else outcomes[arm].places for arm in arms]
    return [study.names[place] for place in study.outcome_model if not all(place in places for places in used)]
