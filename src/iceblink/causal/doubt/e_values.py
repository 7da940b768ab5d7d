"""E-values: how strongly a confounder has to go together with treatment and outcome, on the scale of risk ratios."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from iceblink.errors import ConfigError

Scale = Literal["risk ratio", "odds ratio", "hazard ratio", "standardized difference"]
SCALES = ("risk ratio", "odds ratio", "hazard ratio", "standardized difference")


@dataclass(frozen=True)
class EValue:
    """What a confounder has to have to explain an estimate away.

    Parameters
    ----------
    estimate : float
        The risk ratio by which it has to go together with the treatment, and with the outcome, at least.
    limit : float or None
        The same for the end of the interval that is nearer to no effect; 1 if the interval has it already.
    """

    estimate: float
    limit: float | None


def e_value(
    estimate: float,
    interval: tuple[float, float] | None = None,
    scale: Scale = "risk ratio",
    rare: bool = False,
    null: float | None = None,
) -> EValue:
    """Return the E-value of an effect [1]_: R + √(R (R - 1)) of a risk ratio R above 1, or of 1 / R of one below.

    Parameters
    ----------
    estimate : float
    interval : (float, float), optional
        Its confidence interval.
    scale : {"risk ratio", "odds ratio", "hazard ratio", "standardized difference"}
        Odds ratios of an outcome that is not rare are taken by their square roots, hazard ratios by
        (1 - 0.5^√h) / (1 - 0.5^√(1/h)), a difference in standard deviations of the outcome as exp(0.91 d).
    rare : bool
        Whether the outcome happens to less than 15 % at the end of follow-up: then both ratios are like risk ratios.
    null : float, optional
        What the effect is to be moved to, on the same scale. Default: no effect.

    Raises
    ------
    ConfigError
        A ratio is not above 0, a number is not finite, the scale is none, or the interval does not hold the estimate.

    References
    ----------
    .. [1] VanderWeele, Ding: Sensitivity analysis in observational research: introducing the E-value, Annals of
       Internal Medicine 2017, and table 2 for other scales.
    """
    if scale not in SCALES:
        raise ConfigError(f"no scale {scale!r}", "e_value", f"one of {', '.join(SCALES)}")
    if not np.isfinite([estimate, 0.0 if null is None else null]).all():
        raise ConfigError(f"estimate is {estimate}, null {null}", "e_value", "both are to be finite")
    if interval is not None and not interval[0] <= estimate <= interval[1]:
        raise ConfigError(f"{estimate} is not between {interval[0]} and {interval[1]}", "e_value", "lower, then upper")
    difference = scale == "standardized difference"
    none = (0.0 if difference else 1.0) if null is None else null
    against = _risk_ratio(none, scale, rare)

    def needed(value: float) -> float:
        ratio = _risk_ratio(value, scale, rare) / against
        ratio = max(ratio, 1 / ratio)
        return float(ratio + np.sqrt(ratio * (ratio - 1)))

    if interval is None:
        return EValue(needed(estimate), None)
    low, high = interval
    limit = 1.0 if low <= none <= high else needed(low if low > none else high)
    return EValue(needed(estimate), limit)


def _risk_ratio(value: float, scale: Scale, rare: bool) -> float:
    if scale == "standardized difference":
        return float(np.exp(0.91 * value))
    if not value > 0:
        raise ConfigError(
            f"a {scale} of {value}", "e_value", "ratios are above 0; take exp of a coefficient of a logit"
        )
    if rare or scale == "risk ratio":
        return value
    if scale == "odds ratio":
        return float(np.sqrt(value))
    return float((1 - 0.5 ** np.sqrt(value)) / (1 - 0.5 ** np.sqrt(1 / value)))
