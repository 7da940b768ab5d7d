"""Propensity scores by arm: where the arms have something in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from iceblink.causal.plots.canvas import axes, check_columns, in_percent, legend, look, words
from iceblink.errors import PlanError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINES = ("-", "--", "-.", ":")


def overlap(table: pa.Table, *, of: str | None = None, xlabel: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw a histogram of the chance of an arm for each arm, of its own rows.

    Parameters
    ----------
    table : Table
        Columns chance_of, arm, counts: `Overlap.to_arrow`.
    of : str, optional
        Whose chance, where there are several.
    xlabel : str, optional
    ax : Axes, optional

    Raises
    ------
    ColumnNotFound, ConfigError
    PlanError
        There is no such chance, or it is to be said which.
    """
    check_columns(table, ("chance_of", "arm", "counts"), "plots.overlap")
    whose = list(dict.fromkeys(table["chance_of"].to_pylist()))
    if of not in whose and (of is not None or len(whose) > 1):
        hint = f"there are those of {', '.join(map(str, whose))}"
        raise PlanError(f"no chance of {of}" if of else "there are several chances", "plots.overlap", hint)
    of = whose[0] if of is None else of
    mine = table.filter(pc.equal(table["chance_of"], of))
    ax = axes(ax, height=3.2)
    for number, (arm, counts) in enumerate(zip(words(mine, "arm"), mine["counts"].to_pylist(), strict=True)):
        shares = np.array(counts) / max(sum(counts), 1)
        edges = np.linspace(0, 1, len(counts) + 1)
        colour = look(number)["color"]
        ax.stairs(shares, edges, fill=True, color=colour, alpha=0.18)
        style = LINES[number % len(LINES)]
        ax.stairs(shares, edges, color=colour, linewidth=1.4, linestyle=style, label=f"{arm} ({sum(counts):,} rows)")
    ax.set_xlim(0, 1)
    ax.set_ylim(bottom=0)
    in_percent(ax.yaxis)
    ax.set_xlabel(xlabel or f"chance of {of}")
    ax.set_ylabel("part of the arm's rows")
    legend(ax)
    return ax
