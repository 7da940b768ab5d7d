"""What is gained by treating those first who are said to gain most: uplift, Qini and TOC curves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa

from iceblink.causal.plots.canvas import FAINT, axes, check_columns, in_percent, legend, look, numbers, words
from iceblink.causal.plots.overlap import LINES
from iceblink.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def curve(
    table: pa.Table,
    *,
    share: str = "share",
    value: str = "value",
    lower: str = "lower",
    upper: str = "upper",
    series: str | None = None,
    baseline: Literal["random", "zero"] | None = None,
    xlabel: str = "part of all units, those with the largest scores first",
    ylabel: str = "value",
    ax: Axes | None = None,
) -> Axes:
    """Draw a value by the part of units that is treated, with its band.

    Parameters
    ----------
    table : Table
    share, value, lower, upper : str
        Its columns: the part of units, 0 to 1, in any order, and the value; the bounds of a band where it has them.
    series : str, optional
        A column whose values are curves of their own, as those of several scores, with a legend.
    baseline : {"random", "zero"}, optional
        Also draw what a random order gives: a straight line to the value at the largest share of the first curve, as
        of Qini curves, or 0, as of TOC.
    xlabel, ylabel : str
    ax : Axes, optional

    Raises
    ------
    ColumnNotFound, PlanError, ConfigError
    """
    check_columns(table, (share, value, *([series] if series else ())), "plots.curve")
    if baseline not in (None, "random", "zero"):
        raise ConfigError(f"no baseline {baseline!r}", "plots.curve", '"random" or "zero"')
    banded = {lower, upper} <= set(table.column_names)
    ax = axes(ax)
    several = words(table, series) if series else [""] * table.num_rows
    kinds = list(dict.fromkeys(several))
    parts, values = numbers(table, share), numbers(table, value)
    for number, kind in enumerate(kinds):
        mine = np.flatnonzero(np.array(several) == kind)
        mine = mine[np.argsort(parts[mine], kind="stable")]
        colour = look(number)["color"]
        if banded:
            low, high = (numbers(table, name)[mine] for name in (lower, upper))
            ax.fill_between(parts[mine], low, high, color=colour, alpha=0.18, linewidth=0)
        style = LINES[number % len(LINES)]
        ax.plot(parts[mine], values[mine], color=colour, linewidth=1.8, linestyle=style, label=kind)
        if number == 0 and baseline is not None:
            end = values[mine[-1]] if baseline == "random" else 0.0
            ax.plot([0, parts[mine[-1]]], [0, end], color=FAINT, linewidth=1, zorder=0)
    ax.set_xlim(0, 1)
    in_percent(ax.xaxis)
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    if len(kinds) > 1:
        legend(ax, title=series, title_fontsize="small")
    return ax
