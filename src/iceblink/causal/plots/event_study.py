"""Effects over time: before treatment, where there should be none, and after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from iceblink.causal.plots.canvas import BLUE, FAINT, axes, check_columns, legend, look, numbers, whole_times, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SPREAD = 0.5
"""So much of the step between two times is shared by the series."""


def event_study(
    table: pa.Table,
    *,
    time: str = "time",
    series: str | None = None,
    reference: float | None = None,
    start: float | None = None,
    xlabel: str = "periods since treatment",
    ylabel: str = "effect",
    ax: Axes | None = None,
) -> Axes:
    """Draw effects by time with intervals, and where the table has them with bands that hold for all at once.

    Parameters
    ----------
    table : Table
        Columns estimate, lower, upper, the time, and optionally band_lower, band_upper: thin lines behind the thick
        ones of intervals.
    time : str
        Its column of times.
    series : str, optional
        A column whose values are drawn side by side, with a legend.
    reference : float, optional
        The time that others are compared with: drawn hollow, at 0.
    start : float, optional
        The first time of treatment: a line stands before it.
    xlabel, ylabel : str
    ax : Axes, optional

    Raises
    ------
    ColumnNotFound, PlanError, ConfigError
    """
    banded = {"band_lower", "band_upper"} <= set(table.column_names)
    check_columns(table, (time, "estimate", "lower", "upper", *([series] if series else ())), "plots.event_study")
    ax = axes(ax)
    ax.axhline(0, color=FAINT, linewidth=1, zorder=0)
    times, several = numbers(table, time), words(table, series) if series else [""] * table.num_rows
    steps = np.diff(np.unique(times if reference is None else [*times, reference]))
    step, kinds = float(steps.min()) if len(steps) else 1.0, list(dict.fromkeys(several))
    for number, kind in enumerate(kinds):
        mine = np.array(several) == kind
        at = times[mine] + step * SPREAD * ((number + 0.5) / len(kinds) - 0.5)
        style = look(number)
        if banded:
            low, high = (numbers(table, name)[mine] for name in ("band_lower", "band_upper"))
            ax.vlines(at, low, high, color=style["color"], linewidth=0.8)
        ax.vlines(at, *(numbers(table, name)[mine] for name in ("lower", "upper")), color=style["color"], linewidth=2.2)
        ax.plot(at, numbers(table, "estimate")[mine], linestyle="none", markersize=5, label=kind, **style)
    if reference is not None:
        ax.plot([reference], [0], "o", color=BLUE, markerfacecolor="white", markersize=5.5)
    if start is not None:
        ax.axvline(start - step / 2, color=FAINT, linewidth=1, linestyle="--", zorder=0)
    whole_times(ax)
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    if len(kinds) > 1:
        legend(ax, title=series, title_fontsize="small")
    return ax
