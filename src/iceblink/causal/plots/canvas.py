"""Where plots are drawn, and how all of them look."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from iceblink.errors import ColumnNotFound, PlanError
from iceblink.interop import optional

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK = "#333333"
FAINT = "#9a9a9a"
BLUE, VERMILLION, GREEN = "#0072B2", "#D55E00", "#009E73"
COLOURS = (BLUE, VERMILLION, GREEN, "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
ROW = 0.3
"""The height of a row of a plot that has a row for each thing [inches]."""


def axes(ax: Axes | None, height: float = 3.8, width: float = 6.0) -> Axes:
    """Return the axes to draw into: those given, or those of a new figure of this size [inches].

    Raises
    ------
    ConfigError
        matplotlib is not installed.
    """
    optional("matplotlib", "plots")
    if ax is None:
        _, ax = optional("matplotlib.pyplot", "plots").subplots(figsize=(width, height), layout="constrained")
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(FAINT)
    ax.tick_params(colors=INK, labelsize="small")
    return ax


def look(number: int) -> dict[str, Any]:
    """Return the colour and marker of the first series, the second, and so on."""
    return {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}


def row_axes(ax: Axes | None, labels: Sequence[str]) -> Axes:
    """Return axes with a row for each label, the first on top."""
    ax = axes(ax, height=1.1 + ROW * max(len(labels), 2))
    ax.set_yticks(range(len(labels)), labels)
    ax.set_ylim(len(labels) - 0.4, -0.6)
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    return ax


def whole_times(ax: Axes) -> None:
    """Let the ticks of the horizontal axis be whole numbers."""
    ax.xaxis.set_major_locator(optional("matplotlib.ticker", "plots").MaxNLocator(integer=True))


def in_percent(axis: Any, sign: bool = False) -> None:
    """Show the numbers of an axis, which are parts, in per cent."""
    form = "{:+.3g} %" if sign else "{:.3g} %"
    axis.set_major_formatter(lambda value, _: form.format(100 * value) if value else "0 %")


def legend(ax: Axes, **options: Any) -> None:
    """Say beside or in a plot which series is which."""
    ax.legend(frameon=False, fontsize="small", labelcolor=INK, **options)


def legend_above(ax: Axes, columns: int) -> None:
    """Say over a plot which series is which, in one line."""
    legend(ax, loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, borderaxespad=0.2, columnspacing=1.5)


def check_columns(table: pa.Table, names: Iterable[str], where: str) -> None:
    """Raise ColumnNotFound where a table lacks a column, and PlanError where it has no rows."""
    for name in names:
        if name not in table.column_names:
            raise ColumnNotFound.of(name, table.column_names, where)
    if not table.num_rows:
        raise PlanError("there is nothing to draw", where, "the table has no rows")


def numbers(table: pa.Table, name: str) -> NDArray[np.float64]:
    """Return a column of numbers, nulls as NaN."""
    return np.asarray(table[name].to_numpy(), np.float64)


def words(table: pa.Table, name: str) -> list[str]:
    """Return a column as labels; a dollar sign is one, not mathematics."""
    return [str(value).replace("$", r"\$") for value in table[name].to_pylist()]
