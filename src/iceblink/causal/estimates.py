"""Estimated coefficients with their covariance: tests, intervals, a table to read and one to compute with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from iceblink.causal.late import stats
from iceblink.causal.moments import Floats
from iceblink.errors import ColumnNotFound


@dataclass(frozen=True, eq=False)
class Estimates:
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
        What else is known: R², the snapshot, seeds.
    """

    title: str
    names: tuple[str, ...]
    values: Floats
    covariance: Floats
    convention: str
    rows: int
    freedom: float = np.inf
    dropped: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def errors(self) -> Floats:
        """Standard errors (k,)."""
        return np.sqrt(np.diag(self.covariance))

    @property
    def statistics(self) -> Floats:
        """Each coefficient in its standard errors (k,)."""
        return self.values / self.errors

    @property
    def p_values(self) -> Floats:
        """Two-sided, of being 0 (k,)."""
        return np.asarray(2 * stats.t.sf(np.abs(self.statistics), self.freedom))

    def interval(self, level: float = 0.95) -> Floats:
        """Return the bounds (k, 2) of the interval of each coefficient that covers it with a probability."""
        reach = stats.t.ppf((1 + level) / 2, self.freedom) * self.errors
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
        """Return `to_arrow` as a pandas frame, by name."""
        return self.to_arrow(level).to_pandas().set_index("name")

    def summary(self, level: float = 0.95) -> str:
        """Return a table to read."""
        head = ["", "estimate", "std. error", "t", "p", *(f"{part:.1%}" for part in ((1 - level) / 2, (1 + level) / 2))]
        bounds = self.interval(level)
        lines = [
            [name, *(f"{number:.6g}" for number in (value, error)), f"{t:.2f}", f"{p:.3g}", f"{low:.6g}", f"{high:.6g}"]
            for name, value, error, t, p, (low, high) in zip(
                self.names, self.values, self.errors, self.statistics, self.p_values, bounds, strict=True
            )
        ]
        widths = [max(len(row[at]) for row in [head, *lines]) for at in range(len(head))]
        shown = [
            "  ".join(
                cell.ljust(width) if at == 0 else cell.rjust(width)
                for at, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in [head, *lines]
        ]
        facts = {"rows": f"{self.rows:,}", "errors": self.convention, **self.facts}
        foot = ", ".join(
            f"{name} {value:.6g}" if isinstance(value, float) else f"{name} {value}" for name, value in facts.items()
        )
        left = [f"left out, for they follow from others: {', '.join(self.dropped)}"] if self.dropped else []
        return "\n".join([self.title, *(line.rstrip() for line in shown), foot, *left])

    __repr__ = summary

    def _at(self, name: str) -> int:
        if name not in self.names:
            raise ColumnNotFound.of(name, list(self.names), self.title)
        return self.names.index(name)
