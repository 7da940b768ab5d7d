"""A treated group beside its synthetic control, over time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from iceblink.causal.plots.canvas import BLUE, FAINT, INK, axes, check_columns, legend, numbers, whole_times

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def paths(table: pa.Table, *, start: float | None = None, ylabel: str = "outcome", ax: Axes | None = None) -> Axes:
    """Draw what was observed, and what would have been without treatment.

    Parameters
    ----------
    table : Table
        Columns period, treated, synthetic: `SyntheticEffect.paths`.
    start : float, optional
        The first period of treatment: a line stands at the one before it.
    ylabel : str
    ax : Axes, optional

    Raises
    ------
    ColumnNotFound, PlanError, ConfigError
    """
    check_columns(table, ("period", "treated", "synthetic"), "plots.paths")
    ax = _over_time(table, start, ylabel, ax)
    period = numbers(table, "period")
    ax.plot(period, numbers(table, "treated"), color=INK, linewidth=1.8, label="treated")
    ax.plot(period, numbers(table, "synthetic"), color=BLUE, linewidth=1.8, linestyle="--", label="synthetic control")
    legend(ax)
    return ax


def gap(table: pa.Table, *, start: float | None = None, ylabel: str = "difference", ax: Axes | None = None) -> Axes:
    """Draw the difference of the two.

    Parameters
    ----------
    table : Table
        Columns period and difference: `SyntheticEffect.paths`.
    start, ylabel, ax
        As of `paths`.

    Raises
    ------
    ColumnNotFound, PlanError, ConfigError
    """
    check_columns(table, ("period", "difference"), "plots.gap")
    ax = _over_time(table, start, ylabel, ax)
    ax.axhline(0, color=FAINT, linewidth=1, zorder=0)
    ax.plot(numbers(table, "period"), numbers(table, "difference"), color=BLUE, linewidth=1.8)
    return ax


def _over_time(table: pa.Table, start: float | None, ylabel: str, ax: Axes | None) -> Axes:
    ax = axes(ax)
    if start is not None:
        period = numbers(table, "period")
        ax.axvline(period[period < start].max(initial=period.min()), color=FAINT, linewidth=1, linestyle="--", zorder=0)
    whole_times(ax)
    ax.set_xlabel("period")
    ax.set_ylabel(ylabel)
    return ax
