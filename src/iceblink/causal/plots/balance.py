"""A love plot: how far apart the arms are in each confounder, before and after weighting."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from iceblink.causal.plots.canvas import BLUE, FAINT, VERMILLION, check_columns, legend_above, numbers, row_axes, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def love(table: pa.Table, *, threshold: float = 0.1, ax: Axes | None = None) -> Axes:
    """Draw absolute standardised differences, the largest before weighting on top.

    Parameters
    ----------
    table : Table
        Columns arm, column, difference, and where there are weights weighted_difference: `Balance.to_arrow`.
    threshold : float
        Below this, arms are taken to be balanced [standard deviations].
    ax : Axes, optional

    Raises
    ------
    ColumnNotFound, PlanError, ConfigError
    """
    check_columns(table, ("arm", "column", "difference"), "plots.love")
    arms, columns = words(table, "arm"), words(table, "column")
    several = len(set(arms)) > 1
    labels = [f"{arm}: {column}" if several else column for arm, column in zip(arms, columns, strict=True)]
    before = np.abs(numbers(table, "difference"))
    order = np.argsort(-np.nan_to_num(before, nan=-1.0), kind="stable")
    ax = row_axes(ax, [labels[at] for at in order])
    at = np.arange(len(order))
    if "weighted_difference" in table.column_names:
        after = np.abs(numbers(table, "weighted_difference"))[order]
        ax.hlines(at, before[order], after, color=FAINT, linewidth=0.8, zorder=0)
        ax.plot(
            before[order],
            at,
            "o",
            color=VERMILLION,
            markerfacecolor="white",
            markersize=5.5,
            clip_on=False,
            label="before",
        )
        ax.plot(after, at, "o", color=BLUE, markersize=5.5, clip_on=False, label="after weighting")
        legend_above(ax, 2)
    else:
        ax.plot(before[order], at, "o", color=VERMILLION, markerfacecolor="white", markersize=5.5, clip_on=False)
    ax.axvline(threshold, color=FAINT, linewidth=1, linestyle="--", zorder=0)
    ax.set_xlim(left=0)
    ax.set_xlabel("absolute difference of means [standard deviations]")
    return ax
