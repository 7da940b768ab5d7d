"""How strong a confounder that nobody measured would have to be to explain an effect away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from iceblink.causal.plots.canvas import FAINT, INK, VERMILLION, axes, check_columns, numbers, words
from iceblink.errors import PlanError

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def contours(
    table: pa.Table,
    *,
    estimate: str = "estimate",
    marks: pa.Table | None = None,
    threshold: float = 0.0,
    levels: int = 8,
    ax: Axes | None = None,
) -> Axes:
    """Draw lines of equal estimates over the strength of a confounder [1]_.

    Parameters
    ----------
    table : Table
        Columns r2_treatment and r2_outcome, the partial R² of the confounder with each, and the estimate that would
        then be left: a row for each pair of a grid, in any order.
    estimate : str
        The column of estimates, or of ends of their intervals.
    marks : Table, optional
        Columns name, r2_treatment, r2_outcome: how strong confounders are that were measured, or multiples of them.
    threshold : float
        The line of this estimate is drawn strong.
    levels : int
        About so many lines.
    ax : Axes, optional

    Raises
    ------
    ColumnNotFound, ConfigError
    PlanError
        The rows are no grid of two values or more each way.

    References
    ----------
    .. [1] Cinelli, Hazlett: Making sense of sensitivity: extending omitted variable bias, J. Royal Statistical Society
       B 2020, section 5.
    """
    where = "plots.contours"
    check_columns(table, ("r2_treatment", "r2_outcome", estimate), where)
    across, column = np.unique(numbers(table, "r2_treatment"), return_inverse=True)
    up, row = np.unique(numbers(table, "r2_outcome"), return_inverse=True)
    grid = np.full((len(up), len(across)), np.nan)
    grid[row, column] = numbers(table, estimate)
    if min(grid.shape) < 2 or len(set(zip(row, column, strict=True))) != grid.size != 0 or table.num_rows != grid.size:
        raise PlanError("the strengths are no grid", where, "a row for each pair of r2_treatment and r2_outcome")
    ax = axes(ax, height=4.4, width=5.2)
    drawn = ax.contour(across, up, grid, levels=levels, colors=FAINT, linewidths=0.9, negative_linestyles="solid")
    ax.clabel(drawn, [level for level in drawn.levels if level != threshold], fontsize="small", colors=INK)
    if np.nanmin(grid) < threshold < np.nanmax(grid):
        strong = ax.contour(across, up, grid, levels=[threshold], colors=VERMILLION, linewidths=1.8, linestyles="--")
        ax.clabel(strong, fontsize="small")
    if marks is not None:
        check_columns(marks, ("name", "r2_treatment", "r2_outcome"), where)
        x, y = numbers(marks, "r2_treatment"), numbers(marks, "r2_outcome")
        ax.plot(x, y, "D", color=INK, markersize=4)
        for name, one, other in zip(words(marks, "name"), x, y, strict=True):
            ax.annotate(name, (one, other), (5, 3), textcoords="offset points", fontsize="small", color=INK)
    ax.set_xlabel("partial R² of the confounder with the treatment")
    ax.set_ylabel("partial R² of the confounder with the outcome")
    return ax
