"""Independences that a graph implies, held against data by partial correlations: one scan for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pyarrow as pa

from iceblink.causal.distributions import normal_above
from iceblink.causal.experiments.multiple import adjusted
from iceblink.causal.identification.criteria import shown
from iceblink.causal.identification.separators import Names
from iceblink.causal.matrix import Matrix, Number
from iceblink.causal.moments import Floats
from iceblink.causal.passes import Missing, moments
from iceblink.causal.provenance import UNKNOWN, Provenance
from iceblink.causal.result import Result
from iceblink.causal.sheet import Sheet, cell, p_cell
from iceblink.causal.solve import TOLERANCE, solved
from iceblink.errors import ConfigError, PlanError

if TYPE_CHECKING:
    from iceblink.dataset import Dataset


@dataclass(frozen=True)
class Independence:
    """Two columns that are independent given others, if the graph is right."""

    first: str
    second: str
    given: Names

    def __str__(self) -> str:
        return f"{self.first} ⊥ {self.second}" + (f" | {shown(self.given)}" if self.given else "")


@dataclass(frozen=True, eq=False, repr=False)
class Implications(Result):
    """How independences that a graph implies stand against data.

    Parameters
    ----------
    independences : tuple of Independence
    correlations : float64 array (m,)
        Partial ones; NaN where the others say all of a column.
    p_values : float64 array (m,)
        Of each being 0, by Fisher's z; adjusted for all of them by Holm.
    rows : int
    level : float
    provenance : Provenance
    """

    keys: ClassVar[tuple[str, ...]] = ("independence",)
    title: ClassVar[str] = "what the graph implies"

    independences: tuple[Independence, ...]
    correlations: Floats
    p_values: Floats
    rows: int
    level: float
    provenance: Provenance = UNKNOWN

    @property
    def contradicted(self) -> tuple[Independence, ...]:
        """Those that the data speak against."""
        return tuple(one for one, p in zip(self.independences, self.p_values, strict=True) if p < self.level)

    def to_arrow(self) -> pa.Table:
        """Return a row for each.

        Columns are independence (as it is written), first, second, given (list of str), correlation, p_value and
        contradicted.
        """
        return pa.table(
            {
                "independence": [str(one) for one in self.independences],
                "first": [one.first for one in self.independences],
                "second": [one.second for one in self.independences],
                "given": pa.array([sorted(one.given) for one in self.independences], pa.list_(pa.string())),
                "correlation": self.correlations,
                "p_value": self.p_values,
                "contradicted": self.p_values < self.level,
            }
        )

    def sheet(self) -> Sheet:
        """Return what `summary` and notebooks show."""
        lines = [
            [str(one), cell(r, ".4f"), p_cell(p), "contradicted" if p < self.level else ""]
            for one, r, p in zip(self.independences, self.correlations, self.p_values, strict=True)
        ]
        untested = int(np.isnan(self.p_values).sum())  # pairs of which given columns leave nothing
        tested = len(self.independences) - untested
        foot = f"rows {self.rows:,}, contradicted {len(self.contradicted)} of {tested}"
        foot += f", not tested {untested}" if untested else ""
        head = ("", "correlation", "p, of all", "")
        return Sheet((self.title,), head, lines, (foot, *self.provenance.lines))


def checked(
    independences: Sequence[Independence], data: Dataset, level: float = 0.05, missing: Missing = "raise"
) -> Implications:
    """Hold independences against data. Eager: one scan.

    A partial correlation r of n rows given k columns has atanh(r) √(n - k - 3) about standard normal if it is 0 and
    the columns are jointly normal [1]_. Of other columns linear dependence is tested, and p is approximate.

    Raises
    ------
    ColumnNotFound, TypeMismatch, QueryError
    ConfigError
    PlanError
        There is nothing to test, or there are too few rows.

    References
    ----------
    .. [1] Fisher: The distribution of the partial correlation coefficient, Metron 1924.
    """
    where = Implications.title
    if not 0 < level < 1:
        raise ConfigError(f"level is {level}", where, "a chance between 0 and 1, as 0.05")
    if not independences:
        raise PlanError("the graph implies no independence of columns", where, "any data fit it")
    names = sorted({name for one in independences for name in (one.first, one.second, *one.given)})
    found = moments(data, Matrix(tuple(map(Number, names))), missing=missing, where=where)
    rows, most = int(found.rows.sum()), max(len(one.given) for one in independences)
    if rows < most + 5:
        raise PlanError(
            f"{rows:,} rows are too few", where, f"{most} columns are given; more than {most + 4} are needed"
        )
    place = {name: at for at, name in enumerate(names)}
    products = found.products[0]
    correlations = np.array(
        [
            _partial(products, place[one.first], place[one.second], [place[g] for g in sorted(one.given)])
            for one in independences
        ]
    )
    left = rows - np.array([len(one.given) for one in independences]) - 3
    p_values = 2 * normal_above(np.abs(np.arctanh(correlations)) * np.sqrt(left))
    return Implications(
        tuple(independences), correlations, adjusted(p_values, "holm"), rows, level, Provenance.of(data)
    )


def _partial(products: Floats, first: int, second: int, given: list[int]) -> float:
    """Return the correlation of what other columns leave of two; NaN if they leave nothing of one."""
    ends, by = [first, second], solved(products[np.ix_(given, given)])
    kept = [given[at] for at in by.kept]
    across = products[np.ix_(ends, kept)]
    left = products[np.ix_(ends, ends)] - across @ by.inverse @ across.T
    sizes = np.diag(left)
    if not (sizes > TOLERANCE * np.diag(products)[ends]).all():
        return float("nan")
    return float(np.clip(left[0, 1] / np.sqrt(sizes[0] * sizes[1]), -1, 1))
