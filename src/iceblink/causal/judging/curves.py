"""Curves over the share of rows that are treated, those of the highest predicted effect first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa

from iceblink.causal.distributions import t_quantile
from iceblink.causal.estimates import Estimates
from iceblink.causal.judging.cuts import part_of
from iceblink.causal.judging.jackknife import BUCKETS, buckets_of, jackknifed
from iceblink.causal.matrix import floats
from iceblink.causal.moments import Floats
from iceblink.causal.observational.stack import added
from iceblink.causal.passes import summed
from iceblink.causal.plots.curve import curve
from iceblink.causal.provenance import Provenance
from iceblink.causal.result import Result, indexed
from iceblink.causal.sheet import Sheet, cell
from iceblink.causal.sums import Sums
from iceblink.errors import ColumnNotFound, nearest
from iceblink.interop import to_polars

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from iceblink.dataset import Dataset

POINTS = 100
"""At most so many shares have a point of a curve, unless more are asked for."""

ORDERED = "part of all units, those of the highest predicted effects first"
BASELINES: dict[str, Literal["random", "zero"]] = {"gain": "random", "qini": "random", "TOC": "zero"}
"""What a random order gives: a part of the whole gain, or no more than the average effect."""

Columns = Callable[[pa.RecordBatch], Floats]
"""Makes the columns (s, n) of rows that are summed."""


@dataclass(frozen=True, eq=False, repr=False)
class Curves(Result):
    """Curves at some shares of the rows, and areas under them.

    Parameters
    ----------
    title : str
    shares : float64 array (k,)
        Ascending, the last 1: rows of the highest predicted effects that are this part of all.
    values, errors : dict of str to float64 array (k,)
        Each curve by its name, and its standard errors.
    areas : Estimates
    """

    keys: ClassVar[tuple[str, ...]] = ("share",)

    title: str
    shares: Floats
    values: Mapping[str, Floats]
    errors: Mapping[str, Floats]
    areas: Estimates

    @property
    def provenance(self) -> Provenance:
        """Where they come from, which is where the areas do."""
        return self.areas.provenance

    def interval(self, name: str, level: float = 0.95) -> Floats:
        """Return the bounds (k, 2) of each point of a curve, for itself. Raises ColumnNotFound."""
        if name not in self.values:
            raise ColumnNotFound(f"no curve {name!r}", self.title, nearest(name, list(self.values), "curves"))
        reach = t_quantile((1 + level) / 2, self.areas.freedom) * self.errors[name]
        return np.column_stack([self.values[name] - reach, self.values[name] + reach])

    def to_arrow(self, level: float = 0.95) -> pa.Table:
        """Return a row for each share: share, and of each curve its value, then ``_error``, ``_lower``, ``_upper``."""
        table = {"share": self.shares}
        for name, values in self.values.items():
            bounds = self.interval(name, level)
            table |= {name: values, f"{name}_error": self.errors[name]}
            table |= {f"{name}_lower": bounds[:, 0], f"{name}_upper": bounds[:, 1]}
        return pa.table(table)

    def to_pandas(self, level: float = 0.95) -> Any:
        """Return `to_arrow` as a pandas frame, by share. Raises ConfigError without pandas."""
        return indexed(self.to_arrow(level), self.keys)

    def to_polars(self, level: float = 0.95) -> Any:
        """Return `to_arrow` as a polars frame. Raises ConfigError without polars."""
        return to_polars(self.to_arrow(level))

    def sheet(self) -> Sheet:
        """Return the curves at about ten shares."""
        at = np.unique(np.searchsorted(self.shares, np.arange(1, 11) / 10 - 1e-9).clip(max=len(self.shares) - 1))
        lines = [
            [
                f"{self.shares[place]:.1%}",
                *(cell(of[name][place], ".4g") for name in self.values for of in (self.values, self.errors)),
            ]
            for place in at
        ]
        head = ["share", *(word for name in self.values for word in (name, "std. error"))]
        return Sheet((self.title,), head, lines, words=0)

    def summary(self, level: float = 0.95) -> str:
        """Return the curves at about ten shares, and the areas."""
        return f"{self.sheet().text()}\n\n{self._areas(level).text()}"

    def _repr_html_(self) -> str:
        return f"{self.sheet().html()}{self._areas().html()}"

    def _areas(self, level: float = 0.95) -> Sheet:
        """What the areas' own summary shows, under a title that says only what it is of."""
        return replace(self.areas.sheet(level), above=("areas",))

    def plot(self, ax: Axes | None = None, *, name: str | None = None, level: float = 0.95) -> Axes:
        """Draw a curve with the bounds of each point, beside what a random order gives.

        Parameters
        ----------
        ax : Axes, optional
            Of matplotlib. Default: those of a new figure.
        name : str, optional
            Which. Default: the last: qini, or TOC.
        level : float
            Of the bounds.

        Raises
        ------
        ColumnNotFound
        ConfigError
            matplotlib is not installed.
        """
        chosen = list(self.values)[-1] if name is None else name
        bounds = self.interval(chosen, level)
        table = {"share": self.shares, "value": self.values[chosen], "lower": bounds[:, 0], "upper": bounds[:, 1]}
        return curve(pa.table(table), baseline=BASELINES.get(chosen), xlabel=ORDERED, ylabel=chosen, ax=ax)


@dataclass(frozen=True)
class _Binned:
    """Sums of a block of rows by bucket and part, the part of the highest effects first."""

    effect: str
    keys: tuple[str, ...]
    bounds: Floats
    columns: Columns

    def __call__(self, batch: pa.RecordBatch) -> Sums:
        parts = len(self.bounds) + 1
        effect = floats(batch.column(self.effect)).astype(np.float64)
        cell = buckets_of(batch, self.keys) * parts + (parts - 1 - part_of(effect, self.bounds))
        sums = [added(cell, column, BUCKETS * parts) for column in self.columns(batch)]
        return Sums({"sums": np.stack(sums, axis=-1).reshape(BUCKETS, parts, -1)})


def binned(data: Dataset, effect: str, keys: tuple[str, ...], bounds: Floats, columns: Columns) -> Floats:
    """Return sums of columns (buckets, parts, s). Eager: one pass; parts run from high effects to low ones."""
    return summed(data, _Binned(effect, keys, bounds, columns))["sums"]


def traced(
    title: str,
    sums: Floats,
    curves: Callable[[Floats], tuple[Floats, dict[str, Floats]]],
    areas: Callable[[Floats], Floats],
    names: Sequence[str],
    rows: int,
    exact: Floats | None,
    facts: Mapping[str, Any],
    provenance: Provenance,
) -> Curves:
    """Return curves and areas with their errors.

    Parameters
    ----------
    title : str
    sums : float64 array (buckets, parts, s)
    curves : callable
        Turns sums (m, parts, s) into shares (m, parts) and curves by name (m, parts).
    areas : callable
        Turns sums (m, parts, s) into areas (m, a).
    names : sequence of str
        Of the areas.
    rows : int
    exact : float64 array (a,) or None
        Areas under curves that have a point for each value of the predicted effect.
    facts : dict
    provenance : Provenance
    """
    shares, named = curves(sums.sum(axis=0)[np.newaxis])
    at = shares[0]

    def statistic(some: Floats) -> Floats:
        own, found = curves(some)
        at_shares = [np.stack(list(map(np.interp, [at] * len(own), own, values))) for values in found.values()]
        return np.concatenate([areas(some), *at_shares], axis=1)

    values, covariance, freedom = jackknifed(sums, statistic, title)
    count = len(names)
    errors = np.sqrt(np.diag(covariance))[count:].reshape(len(named), -1)
    return Curves(
        title=title,
        shares=at,
        values={name: of[0] for name, of in named.items()},
        errors=dict(zip(named, errors, strict=True)),
        areas=Estimates(
            title=title,
            names=tuple(names),
            values=values[:count] if exact is None else exact,
            covariance=covariance[:count, :count],
            convention=f"jackknife of {freedom + 1} groups of units",
            rows=rows,
            freedom=freedom,
            facts=dict(facts),
            provenance=provenance,
        ),
    )
