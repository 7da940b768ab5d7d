"""Estimated coefficients with their covariance: tests, intervals, a table to read and one to compute with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa

from iceblink.causal.distributions import t_above, t_quantile
from iceblink.causal.moments import Floats
from iceblink.causal.plots.intervals import intervals
from iceblink.causal.provenance import UNKNOWN, Provenance
from iceblink.causal.result import Result, indexed
from iceblink.causal.sheet import Sheet, cell, p_cell
from iceblink.errors import ColumnNotFound
from iceblink.interop import to_polars

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INTERCEPT = "(Intercept)"
ROUNDING = 1e-12
"""A variance that is below 0 by less than this, in parts of what it was made of, is 0."""


@dataclass(frozen=True, eq=False, repr=False)
class Estimates(Result):
    """Coefficients, and what is known of their errors.

    Parameters
    ----------
    title : str
        What was fitted.
    names : tuple of str
    values : float64 array (k,)
    covariance : float64 array (k, k)
    convention : str
        How the covariance was estimated, by the name of the field: ``HC1``.
    rows : int
    freedom : float
        Degrees of freedom of Student's t; infinite for the normal distribution.
    dropped : tuple of str
        Columns that depend on those before them, and have no coefficient.
    facts : dict
        What else is known: R², what a test of the model says.
    provenance : Provenance
        Where they come from; the convention of the errors is added to its conventions.
    """

    keys: ClassVar[tuple[str, ...]] = ("name",)

    title: str
    names: tuple[str, ...]
    values: Floats
    covariance: Floats
    convention: str
    rows: int
    freedom: float = np.inf
    dropped: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    provenance: Provenance = UNKNOWN

    def __post_init__(self) -> None:
        said = self.provenance.conventions
        if self.convention not in said:
            whole = replace(self.provenance, conventions=(self.convention, *said))
            object.__setattr__(self, "provenance", whole)

    @property
    def errors(self) -> Floats:
        """Standard errors (k,): 0 where rounding alone is left of a variance, as of an outcome that has no noise."""
        variances = np.diag(self.covariance)
        made_of = np.maximum(self.values**2, variances.max(initial=0.0))
        rounded = (variances < 0) & (variances > -ROUNDING * made_of)
        return np.sqrt(np.where(rounded, 0.0, variances))

    @property
    def statistics(self) -> Floats:
        """Each coefficient in its standard errors (k,): infinite of one without error, NaN of a 0 without error."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(self.values / self.errors)

    @property
    def p_values(self) -> Floats:
        """Two-sided, of being 0 (k,)."""
        return np.asarray(2 * t_above(np.abs(self.statistics), self.freedom))

    def interval(self, level: float = 0.95) -> Floats:
        """Return the bounds (k, 2) of the interval of each coefficient that covers it with a probability."""
        reach = t_quantile((1 + level) / 2, self.freedom) * self.errors
        return np.column_stack([self.values - reach, self.values + reach])

    def __getitem__(self, name: str) -> float:
        """Return one coefficient. Raises ColumnNotFound."""
        return float(self.values[self._at(name)])

    def error(self, name: str) -> float:
        """Return the standard error of one. Raises ColumnNotFound."""
        return float(self.errors[self._at(name)])

    def to_arrow(self, level: float = 0.95) -> pa.Table:
        """Return a row for each coefficient: name, estimate, std_error, statistic, p_value, lower, upper."""
        bounds = self.interval(level)
        return pa.table(
            {
                "name": list(self.names),
                "estimate": self.values,
                "std_error": self.errors,
                "statistic": self.statistics,
                "p_value": self.p_values,
                "lower": bounds[:, 0],
                "upper": bounds[:, 1],
            }
        )

    def to_pandas(self, level: float = 0.95) -> Any:
        """Return `to_arrow` as a pandas frame, by name. Raises ConfigError without pandas."""
        return indexed(self.to_arrow(level), self.keys)

    def to_polars(self, level: float = 0.95) -> Any:
        """Return `to_arrow` as a polars frame. Raises ConfigError without polars."""
        return to_polars(self.to_arrow(level))

    def sheet(self, level: float = 0.95) -> Sheet:
        """Return what `summary` and notebooks show."""
        facts = {"rows": self.rows, "errors": self.convention, **self.facts}
        foot = ", ".join(f"{name} {_fact(value)}" for name, value in facts.items())
        left = [f"left out, for they follow from others: {', '.join(self.dropped)}"] if self.dropped else []
        return Sheet(
            above=(self.title,),
            head=("", *self.head(level)),
            lines=[[name, *cells] for name, cells in zip(self.names, self.cells(level), strict=True)],
            below=(foot, *self.provenance.lines, *left),
        )

    @staticmethod
    def head(level: float) -> tuple[str, ...]:
        """Return what the numbers are that summaries say of a coefficient."""
        return "estimate", "std. error", "t", "p", *(f"{part:.1%}" for part in _tails(level))

    def cells(self, level: float = 0.95) -> list[list[str]]:
        """Return these numbers of each, as they are shown."""
        numbers = zip(self.values, self.errors, self.statistics, self.p_values, self.interval(level), strict=True)
        return [
            [cell(value), cell(error), cell(t, ".2f"), p_cell(p), cell(low), cell(high)]
            for value, error, t, p, (low, high) in numbers
        ]

    def summary(self, level: float = 0.95) -> str:
        """Return a table to read."""
        return self.sheet(level).text()

    def plot(self, ax: Axes | None = None, *, names: Sequence[str] | None = None, level: float = 0.95) -> Axes:
        """Draw estimates and their intervals, a row for each.

        Parameters
        ----------
        ax : Axes, optional
            Of matplotlib. Default: those of a new figure.
        names : sequence of str, optional
            Which, in this order. Default: all but the intercept.
        level : float
            Of the intervals.

        Raises
        ------
        ColumnNotFound
        ConfigError
            matplotlib is not installed.
        """
        chosen = [name for name in self.names if name != INTERCEPT] if names is None else list(names)
        table = self.to_arrow(level).take([self._at(name) for name in chosen])
        return intervals(table, xlabel=f"estimate, {100 * level:.4g} % interval", ax=ax)

    def _at(self, name: str) -> int:
        if name in self.dropped:
            raise ColumnNotFound(
                f"{name!r} has no coefficient", self.title, "it does not vary, or follows from the columns before it"
            )
        if name not in self.names:
            raise ColumnNotFound.of(name, list(self.names), self.title)
        return self.names.index(name)


def _tails(level: float) -> tuple[float, float]:
    """Return which parts of a distribution are below the bounds of an interval."""
    return (1 - level) / 2, (1 + level) / 2


def _fact(value: Any) -> str:
    form = ".6g" if isinstance(value, float) else "," if isinstance(value, int) else ""
    return f"{value:{form}}"
