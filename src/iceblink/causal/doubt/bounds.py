"""How strong an unobserved confounder has to be to explain an effect away."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa

from iceblink.causal.moments import Floats
from iceblink.causal.plots.contours import contours
from iceblink.causal.provenance import Provenance
from iceblink.causal.result import Result
from iceblink.causal.sheet import Sheet
from iceblink.causal.whole import check_whole
from iceblink.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes


ROBUSTNESS, ROBUSTNESS_95, PARTIAL_R2 = "robustness value", "robustness value, 95 % interval", "partial R²"
PARTS = (ROBUSTNESS, ROBUSTNESS_95, PARTIAL_R2)
MEANT = "a confounder that explains the robustness value of both residuals brings the effect to 0"
WIDE = 0.4
"""So strong confounders are drawn, at least."""


@dataclass(frozen=True)
class Bounds:
    """Between what values an effect lies if there is a confounder of some strength.

    Parameters
    ----------
    r2_treatment, r2_outcome : float
        Which part of what is left of the treatment, and of the outcome, it explains: partial R².
    lower, upper : float
    lower_error, upper_error : float
        Their standard errors.
    interval : (float, float)
        The ends of the confidence interval.
    """

    r2_treatment: float
    r2_outcome: float
    lower: float
    upper: float
    lower_error: float
    upper_error: float
    interval: tuple[float, float]

    def __repr__(self) -> str:
        low, high = self.interval
        return (
            f"a confounder of {self.r2_treatment:.2%} of the treatment and {self.r2_outcome:.2%} of the outcome: "
            f"{self.lower:.6g} to {self.upper:.6g}, interval {low:.6g} to {high:.6g}"
        )


class Sensitivity(Result):
    """What is known of an effect, if there may be an unobserved confounder."""

    keys: ClassVar[tuple[str, ...]] = ("name",)

    title: str
    treatment: str
    provenance: Provenance

    @property
    @abstractmethod
    def known(self) -> Mapping[str, float]:
        """What is told of it: the effect, its error, and how strong a confounder has to be."""

    @abstractmethod
    def bounds(self, r2_treatment: float, r2_outcome: float) -> Bounds:
        """Return between what values the effect lies."""

    @abstractmethod
    def robustness_value(self, null: float = 0.0, level: float | None = None) -> float:
        """Return how much a confounder has to explain, of treatment and outcome alike, to bring the effect to `null`.

        With a level, to bring the end of the confidence interval there.
        """

    @abstractmethod
    def benchmark(self, *columns: str) -> Any:
        """Return how strong a confounder is that is as strong as some observed ones."""

    @abstractmethod
    def contour(self, most_treatment: float = WIDE, most_outcome: float = WIDE) -> pa.Table:
        """Return a tidy table of the bound that is nearer to 0 for a grid of strengths."""

    def to_arrow(self) -> pa.Table:
        """Return a row for each thing that is known: name and value."""
        return pa.table({"name": list(self.known), "value": list(self.known.values())})

    def sheet(self) -> Sheet:
        """Return what `summary` and notebooks show; what a confounder explains, in per cent."""
        lines = [[name, f"{value:.2%}" if name in PARTS else f"{value:.6g}"] for name, value in self.known.items()]
        return Sheet((self.title,), ("", self.treatment), lines, (MEANT, *self.provenance.lines))

    def plot(self, ax: Axes | None = None, *, benchmarks: Sequence[str] = ()) -> Axes:
        """Draw lines of equal effects over the strength of a confounder: `contour`.

        Parameters
        ----------
        ax : Axes, optional
            Of matplotlib. Default: those of a new figure.
        benchmarks : sequence of str
            Observed columns, each of which is a mark: a confounder as strong as it is.

        Raises
        ------
        ColumnNotFound
        ConfigError
            matplotlib is not installed.
        """
        marks = [
            {"name": name, "r2_treatment": found.r2_treatment, "r2_outcome": found.r2_outcome}
            for name in benchmarks
            for found in [self.benchmark(name)]
        ]
        far = {
            side: min(max([WIDE, *(1.1 * mark[f"r2_{side}"] for mark in marks)]), 0.99)
            for side in ("treatment", "outcome")
        }
        return contours(
            self.contour(far["treatment"], far["outcome"]), marks=pa.Table.from_pylist(marks) if marks else None, ax=ax
        )


def check_strength(where: str, **strengths: float) -> None:
    """Raise ConfigError unless each is a part, of at least nothing and less than all."""
    for name, value in strengths.items():
        if not 0 <= value < 1:
            raise ConfigError(f"{name} is {value}", where, "a part from 0 to less than 1, as 0.03")


def check_level(level: float, where: str) -> None:
    """Raise ConfigError unless a level is a probability."""
    if not 0 < level < 1:
        raise ConfigError(f"level is {level}", where, "a probability between 0 and 1, as 0.95")


def grid(most: float, points: int, where: str) -> Floats:
    """Return strengths (points,) from 0 to the largest."""
    check_strength(where, most=most)
    check_whole(where, points=points)
    if points < 2:
        raise ConfigError(f"points is {points}", where, "two or more a side")
    return np.linspace(0.0, most, points)


def contour_table(estimate: float, bounds: Iterator[Bounds]) -> pa.Table:
    """Return a row for each strength: r2_treatment, r2_outcome, estimate (the bound nearer to 0), limit (its end)."""
    side = 0 if estimate > 0 else 1
    rows = [
        {
            "r2_treatment": one.r2_treatment,
            "r2_outcome": one.r2_outcome,
            "estimate": one.upper if side else one.lower,
            "limit": one.interval[side],
        }
        for one in bounds
    ]
    return pa.Table.from_pylist(rows)
