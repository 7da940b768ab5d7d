"""Estimates beside each other with their intervals: coefficients, effects in segments (a forest plot), metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from iceblink.causal.plots.canvas import FAINT, check_columns, in_percent, legend_above, look, numbers, row_axes, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SPREAD = 0.44
"""So much of a row's height is shared by the series in it."""


def intervals(
    table: pa.Table,
    *,
    name: str = "name",
    estimate: str = "estimate",
    lower: str = "lower",
    upper: str = "upper",
    series: str | None = None,
    percent: bool = False,
    xlabel: str = "estimate",
    ax: Axes | None = None,
) -> Axes:
    """Draw a row for each name: an estimate, and its interval. What is NaN or null is left out of its row.

    Parameters
    ----------
    table : Table
    name, estimate, lower, upper : str
        Its columns.
    series : str, optional
        A column whose values are drawn side by side in a row, with a legend.
    percent : bool
        Whether numbers are parts, to be shown in per cent.
    xlabel : str
        What the numbers are, and their unit.
    ax : Axes, optional

    Raises
    ------
    ColumnNotFound, PlanError, ConfigError
    """
    check_columns(table, (name, estimate, lower, upper, *([series] if series else ())), "plots.intervals")
    names, several = words(table, name), words(table, series) if series else [""] * table.num_rows
    rows, kinds = list(dict.fromkeys(names)), list(dict.fromkeys(several))
    ax = row_axes(ax, rows)
    ax.axvline(0, color=FAINT, linewidth=1, zorder=0)
    middle, low, high = (numbers(table, one) for one in (estimate, lower, upper))
    for number, kind in enumerate(kinds):
        mine = np.flatnonzero(np.array(several) == kind)
        offset = SPREAD * ((number + 0.5) / len(kinds) - 0.5)
        at = np.array([rows.index(names[row]) for row in mine]) + offset
        style = look(number)
        ax.hlines(at, low[mine], high[mine], color=style["color"], linewidth=1.6)
        ax.plot(middle[mine], at, linestyle="none", markersize=5, label=f"{series} {kind}", **style)
    if percent:
        in_percent(ax.xaxis, sign=True)
    ax.set_xlabel(xlabel)
    if len(kinds) > 1:
        legend_above(ax, len(kinds))
    return ax
