"""How strong an unobserved confounder has to be to explain an effect away: of whichever estimator is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

from iceblink.causal.dml.partially_linear import LinearPLR
from iceblink.causal.doubt.regression_sensitivity import RegressionSensitivity, regression_sensitivity
from iceblink.causal.doubt.score_sensitivity import ScoreSensitivity, score_sensitivity
from iceblink.causal.regression.ols import OLS
from iceblink.errors import ConfigError, TypeMismatch

if TYPE_CHECKING:
    from iceblink.causal.passes import Grouping
    from iceblink.dataset import Dataset


@overload
def sensitivity(estimator: OLS, data: Dataset, treatment: str | None = ...) -> RegressionSensitivity: ...


@overload
def sensitivity(estimator: LinearPLR, data: Dataset, *, grouping: Grouping | None = ...) -> ScoreSensitivity: ...


def sensitivity(
    estimator: OLS | LinearPLR, data: Dataset, treatment: str | None = None, *, grouping: Grouping | None = None
) -> RegressionSensitivity | ScoreSensitivity:
    """Ask how an effect stands if there is a confounder that nobody measured.

    Eager. Of `OLS` a `RegressionSensitivity` [1]_, one scan: ``sensitivity(OLS(...), data, treatment)``; of `LinearPLR`
    a `ScoreSensitivity` [2]_, two scans: ``sensitivity(LinearPLR(...), data)``. Both have ``bounds``,
    ``robustness_value``, ``benchmark`` and ``contour``, and say the strength of a confounder by partial R².

    Parameters
    ----------
    estimator : OLS or LinearPLR
    data : Dataset
    treatment : str
        Of `OLS`: the regressor whose coefficient is the effect.
    grouping : Grouping, optional
        Of `LinearPLR`: folds of another kind.

    Raises
    ------
    TypeMismatch
        It is another estimator.
    ConfigError
        The treatment of an `OLS` is not said, or something is that the estimator does not take.
    ColumnNotFound, PlanError, QueryError

    References
    ----------
    .. [1] Cinelli, Hazlett: Making sense of sensitivity: extending omitted variable bias, JRSS B 2020.
    .. [2] Chernozhukov, Cinelli, Newey, Sharma, Syrgkanis: Long story short: omitted variable bias in causal machine
       learning, NBER working paper 30302, 2022.
    """
    if isinstance(estimator, OLS):
        if grouping is not None:
            raise ConfigError("least squares have no folds", "sensitivity", "leave grouping out")
        return regression_sensitivity(estimator, data, treatment)
    if isinstance(estimator, LinearPLR):
        if treatment not in (None, estimator.treatment):
            raise ConfigError(
                f"the treatment of the estimator is {estimator.treatment!r}, not {treatment!r}",
                "sensitivity",
                "leave it out, or name it in LinearPLR",
            )
        return score_sensitivity(estimator, data, grouping)
    raise TypeMismatch(
        f"sensitivity of {type(estimator).__name__} is not known",
        "sensitivity",
        "it is of OLS and LinearPLR; for ratios of risks there is e_value",
    )
