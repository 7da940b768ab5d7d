"""How many rows an experiment needs, what it can find, and with what chance: each from the two others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from iceblink.causal.distributions import normal_above, normal_below, normal_quantile
from iceblink.causal.late import optimize
from iceblink.errors import ConfigError

WHERE = "PowerAnalysis"


@dataclass(frozen=True)
class PowerAnalysis:
    """The two-sided z test of a difference between two arms.

    The squared standard error of the difference after n rows in both arms together is `variance` / n; the chance to
    reject when the difference is δ is Φ(δ/s - z) + Φ(-δ/s - z), z being the quantile of the level.

    Parameters
    ----------
    variance : float
        See above; `of_mean` and `of_conversion` know it, and so does a result (`ABResult.power_analysis`).
    level : float
        1 - the chance to reject when there is no difference.
    """

    variance: float
    level: float = 0.95

    def __post_init__(self) -> None:
        if not self.variance > 0:
            raise ConfigError(f"variance is {self.variance}", WHERE, "a positive number")
        _inside(self.level, "level")

    @classmethod
    def of_mean(cls, std_dev: float, share: float = 0.5, level: float = 0.95) -> Self:
        """Return that of a mean, of equal standard deviation in both arms; `share` of the rows are treated."""
        _inside(share, "share")
        return cls(std_dev**2 / (share * (1 - share)), level)

    @classmethod
    def of_conversion(cls, control: float, treated: float, share: float = 0.5, level: float = 0.95) -> Self:
        """Return that of a conversion, by the rates in both arms."""
        for rate, name in ((control, "control"), (treated, "treated"), (share, "share")):
            _inside(rate, name)
        return cls(control * (1 - control) / (1 - share) + treated * (1 - treated) / share, level)

    def power(self, effect: float, rows: float) -> float:
        """Return the chance to find an effect with this many rows in both arms together."""
        _positive(rows, "rows")
        z = normal_quantile((1 + self.level) / 2)
        apart = abs(effect) / np.sqrt(self.variance / rows)
        return float(normal_above(z - apart) + normal_below(-z - apart))

    def effect(self, rows: float, power: float = 0.8) -> float:
        """Return the smallest effect that is found with a chance of `power` (the MDE)."""
        _positive(rows, "rows")
        return float(self._apart(power) * np.sqrt(self.variance / rows))

    def rows(self, effect: float, power: float = 0.8) -> int:
        """Return how many rows both arms need together, rounded up, to find an effect with a chance of `power`."""
        if not 0 < abs(effect) < np.inf:
            what = f"no number of rows shows an effect of {effect}"
            raise ConfigError(what, WHERE, "name the smallest one that matters")
        return int(np.ceil(self.variance * (self._apart(power) / effect) ** 2))

    def _apart(self, power: float) -> float:
        """Return an effect in its standard errors."""
        _inside(power, "power")
        if power <= 1 - self.level:
            raise ConfigError(f"power is {power}", WHERE, f"more than {1 - self.level:.3g}, which chance alone has")
        z = normal_quantile((1 + self.level) / 2)
        most = z + normal_quantile(power) + 1.0
        return float(
            optimize.brentq(
                lambda apart: normal_above(z - apart) + normal_below(-z - apart) - power, 0, most, xtol=1e-13
            )
        )


def _positive(value: float, name: str) -> None:
    if not 0 < value < np.inf:
        raise ConfigError(f"{name} is {value}", WHERE, "a number above 0")


def _inside(value: float, name: str) -> None:
    if not 0 < value < 1:
        raise ConfigError(f"{name} is {value}", WHERE, "between 0 and 1")
