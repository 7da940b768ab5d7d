"""An estimator with what it is given, as refuters see it: they change its rows, and add a confounder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any

from iceblink.causal.estimates import Estimates
from iceblink.causal.formula import parsed
from iceblink.causal.observational.problem import Problem
from iceblink.causal.regression.design import quoted
from iceblink.causal.regression.model import Regression
from iceblink.errors import ColumnNotFound, ConfigError, PlanError, TypeMismatch

if TYPE_CHECKING:
    from iceblink.dataset import Dataset

OUTCOME = "__outcome"
REFUTABLE = (
    "OLS and other regressions, LinearPLR, PLR, IRM or LinearDML with a dataset; AIPW and its like with a Problem"
)
"""Those that say one effect, with a standard error."""


@dataclass(frozen=True, eq=False)
class Subject:
    """What is doubted.

    Parameters
    ----------
    estimator : object
        With its formula about a column, if it has one.
    data : Dataset
    outcome, treatment : str
        Columns of it.
    effect : str or None
        What the effect is called among the estimates; None for the first.
    keys : tuple of str
        Of the unit.
    fit : callable
        Estimates on a dataset, with more columns as confounders.
    """

    estimator: Any
    data: Dataset
    outcome: str
    treatment: str
    effect: str | None
    keys: tuple[str, ...]
    fit: Callable[[Dataset, Sequence[str]], Any]

    def estimated(self, data: Dataset, confounders: Sequence[str] = ()) -> tuple[float, float]:
        """Return the effect, and its standard error. Eager.

        Raises
        ------
        TypeMismatch
            The estimator gives no `Estimates`.
        """
        found = self.fit(data, confounders)
        if not isinstance(found, Estimates):
            raise TypeMismatch(f"{type(self.estimator).__name__} gives no estimates", "refute", REFUTABLE)
        name = found.names[0] if self.effect is None else self.effect
        return found[name], found.error(name)


def subject(estimator: Any, data: Dataset | Problem, treatment: str | None, key: str | Sequence[str] | None) -> Subject:
    """Bring an estimator and what it is given together.

    Raises
    ------
    ColumnNotFound
    ConfigError
        The key of the unit or the treatment is not said, or the estimator has another treatment.
    PlanError
        The outcome of a problem is an expression.
    TypeMismatch
        It is none of the estimators that are known here.
    """
    key = getattr(estimator, "key", None) if key is None else key
    if key is None:
        raise ConfigError("chance needs the key of a unit", "refute", 'refute(..., key="user_id")')
    keys = (key,) if isinstance(key, str) else tuple(key)
    if isinstance(data, Problem):
        found = _of_problem(estimator, data, keys)
    elif isinstance(estimator, Regression):
        found = _of_formula(estimator, data, treatment, keys)
    elif is_dataclass(estimator) and {"outcome", "treatment", "confounders"} <= {one.name for one in fields(estimator)}:
        found = _of_roles(estimator, data, keys)
    else:
        raise TypeMismatch(
            f"{type(estimator).__name__} cannot be refuted with {type(data).__name__}", "refute", REFUTABLE
        )
    if treatment is not None and treatment != found.treatment:
        raise ConfigError(f"the treatment is {found.treatment!r}, not {treatment!r}", "refute", "leave it out")
    for name in (*keys, found.treatment, found.outcome):
        if name not in found.data.schema.names:
            raise ColumnNotFound.of(name, found.data.schema.names, "refute")
    return found


def _of_problem(estimator: Any, problem: Problem, keys: tuple[str, ...]) -> Subject:
    if problem.outcome not in problem.data.schema.names:
        raise PlanError(f"the outcome {problem.outcome!r} is an expression", "refute", "make it a column by mutate")

    def fit(data: Dataset, more: Sequence[str]) -> Any:
        sides = ("confounders", "treatment_model", "outcome_model")
        wider: dict[str, Any] = {
            side: _wider(given, more) for side in sides if (given := getattr(problem, side)) is not None
        }
        return estimator.fit(replace(problem, data=data, **wider))

    return Subject(estimator, problem.data, problem.outcome, problem.treatment, None, keys, fit)


def _of_formula(estimator: Regression, data: Dataset, treatment: str | None, keys: tuple[str, ...]) -> Subject:
    formula = parsed(estimator.formula)
    if treatment is None:
        raise ConfigError("which regressor is the treatment?", f"refute {estimator.formula}", 'treatment="coupon"')
    outcome = formula.outcome
    if not outcome.is_column:  # a column of its own, which can be drawn anew
        data = data.sql(f"SELECT *, {outcome.text} AS {quoted(OUTCOME)} FROM this")
        estimator = replace(estimator, formula=f"{OUTCOME} ~{estimator.formula.partition('~')[2]}")
    named = outcome.text if outcome.is_column else OUTCOME

    def fit(changed: Dataset, more: Sequence[str]) -> Any:
        added = "".join(f" {name} +" for name in more)
        return replace(estimator, formula=estimator.formula.replace("~", f"~{added}", 1)).fit(changed)  # type: ignore[attr-defined]

    return Subject(estimator, data, named, treatment, treatment, keys, fit)


def _of_roles(estimator: Any, data: Dataset, keys: tuple[str, ...]) -> Subject:
    def fit(changed: Dataset, more: Sequence[str]) -> Any:
        return replace(estimator, confounders=_wider(estimator.confounders, more)).fit(changed)

    return Subject(estimator, data, estimator.outcome, estimator.treatment, None, keys, fit)


def _wider(confounders: str | Sequence[str], more: Sequence[str]) -> str | list[str]:
    if isinstance(confounders, str):
        return " + ".join([confounders, *more])
    return [*confounders, *more]
