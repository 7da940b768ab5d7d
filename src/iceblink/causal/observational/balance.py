"""How alike the arms of a study are: standardised differences of means, and ratios of variances."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa

from iceblink.causal.moments import Floats, Moments
from iceblink.causal.observational.study import Study
from iceblink.causal.plots.balance import love
from iceblink.causal.provenance import Provenance
from iceblink.causal.result import Result
from iceblink.causal.sheet import Sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CONVENTIONS = ("differences in √((s₁² + s₀²) / 2) before weighting", "variances with divisor n - 1")
WELL = 0.1
"""A standardised difference below this is taken to be balanced."""


@dataclass(frozen=True, eq=False, repr=False)
class Balance(Result):
    """The confounders of each arm beside those of the control, before and after weighting [1]_.

    A standardised difference is that of the means in standard deviations, √((s₁² + s₀²) / 2) of the arms before
    weighting, whatever the weights, so that both columns have one unit. Variances have the divisor n - 1; with weights
    Σw (n - 1) / n.

    Parameters
    ----------
    title : str
    columns : tuple of str
        Of the k confounders.
    control : str
    arms : tuple of str
        The other m arms.
    means, control_means : float64 arrays (m, k) and (k,)
        Before weighting.
    differences, ratios : float64 arrays (m, k)
        Standardised differences and ratios of variances, before.
    weighted_differences, weighted_ratios : float64 arrays (m, k) or None
        And after.
    rows : int
    provenance : Provenance

    References
    ----------
    .. [1] Austin: Balance diagnostics for comparing the distribution of baseline covariates between treatment groups
       in propensity-score matched samples, Statistics in Medicine 2009, section 3.1.
    """

    keys: ClassVar[tuple[str, ...]] = ("arm", "column")

    title: str
    columns: tuple[str, ...]
    control: str
    arms: tuple[str, ...]
    means: Floats
    control_means: Floats
    differences: Floats
    ratios: Floats
    weighted_differences: Floats | None
    weighted_ratios: Floats | None
    rows: int
    provenance: Provenance

    @classmethod
    def of(cls, study: Study, title: str, after: Moments | None = None) -> Balance:
        """Compare arms by their moments, and by those of the same columns with weights."""
        columns = np.array(study.confounders) + 1
        before = study.found
        units = _variances(before, columns)
        units = np.sqrt((units[1:] + units[:1]) / 2)
        later = (None, None) if after is None else (_apart(after, columns, units), _ratios(after, columns))
        return cls(
            title=f"{title}: balance",
            columns=tuple(study.names[place] for place in study.confounders),
            control=study.arms.names[0],
            arms=study.arms.names[1:],
            means=before.means[1:, columns],
            control_means=before.means[0, columns],
            differences=_apart(before, columns, units),
            ratios=_ratios(before, columns),
            weighted_differences=later[0],
            weighted_ratios=later[1],
            rows=study.rows,
            provenance=replace(study.provenance, conventions=CONVENTIONS),
        )

    @property
    def worst(self) -> float:
        """The largest standardised difference: after weighting if there is one, else before."""
        found = self.differences if self.weighted_differences is None else self.weighted_differences
        return float(np.abs(found).max(initial=0.0))

    def to_arrow(self) -> pa.Table:
        """Return a row for each arm and confounder.

        Its columns: arm, column, mean, control_mean, difference, variance_ratio, and with weights weighted_difference
        and weighted_variance_ratio.
        """
        table = {
            "arm": np.repeat(self.arms, len(self.columns)).tolist(),
            "column": list(self.columns) * len(self.arms),
            "mean": self.means.ravel(),
            "control_mean": np.tile(self.control_means, len(self.arms)),
            "difference": self.differences.ravel(),
            "variance_ratio": self.ratios.ravel(),
        }
        if self.weighted_differences is not None and self.weighted_ratios is not None:
            table["weighted_difference"] = self.weighted_differences.ravel()
            table["weighted_variance_ratio"] = self.weighted_ratios.ravel()
        return pa.table(table)

    def sheet(self) -> Sheet:
        """Return what `summary` and notebooks show; a star marks a difference of 0.1 or more."""
        head = ["", "mean", f"of {self.control}", "difference", "variances"]
        late = self.weighted_differences is not None
        head += ["weighted difference", "variances"] if late else []
        lines = []
        for row in self.to_arrow().to_pylist():
            name = row["column"] if len(self.arms) == 1 else f"{row['arm']}: {row['column']}"
            line = [name, f"{row['mean']:.4g}", f"{row['control_mean']:.4g}"]
            line += [_starred(row["difference"]), f"{row['variance_ratio']:.3f}"]
            if late:
                line += [_starred(row["weighted_difference"]), f"{row['weighted_variance_ratio']:.3f}"]
            lines.append(line)
        foot = f"rows {self.rows:,}, largest difference {self.worst:.3f}"
        return Sheet((self.title,), head, lines, (foot, *self.provenance.lines))

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw a love plot: absolute differences before and after weighting, into `ax` or a new figure.

        Raises
        ------
        ConfigError
            matplotlib is not installed.
        """
        return love(self.to_arrow(), threshold=WELL, ax=ax)


def _starred(difference: float) -> str:
    return f"{difference:.3f}{'*' if abs(difference) >= WELL else ' '}"


def _variances(found: Moments, columns: Any) -> Floats:
    """Return the variances (J, k) of columns by arm."""
    squares = found.products[:, columns, columns]
    return np.asarray(squares / found.weights[:, np.newaxis] * (found.rows / (found.rows - 1))[:, np.newaxis])


def _apart(found: Moments, columns: Any, units: Floats) -> Floats:
    """Return the differences of means from the control's (J - 1, k), in units; of what does not vary 0 or infinite."""
    apart = found.means[1:, columns] - found.means[:1, columns]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(apart == 0, 0.0, apart / units)


def _ratios(found: Moments, columns: Any) -> Floats:
    variances = _variances(found, columns)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(variances[1:] / variances[0])
