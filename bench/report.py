"""Measurements as Markdown tables: medians, and medians of the ratios of the same turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import geometric_mean, median

from bench.measure import Result

OURS = "iceblink"
MIB = 1 << 20


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; every column but the first is aligned to the right."""
    widths = [max(len(row[place]) for row in (header, *rows)) for place in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        first, *rest = cells
        parts = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))]
        return f"| {' | '.join(parts)} |"

    rule = "|" + "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])]) + "|"
    return "\n".join([line(header), rule, *(line(row) for row in rows)])


def comparison(results: Mapping[str, Sequence[Result]], reference: str = OURS, amount: str = "rows") -> str:
    """Return one row a contestant: its medians, and `reference` divided by it; `amount` is what the jobs counted."""
    header = ["", "wall s", "CPU s", "peak MB", "first s", amount]
    header += [f"{reference} / it: {name}" for name in ("wall", "CPU", "peak", "first")]
    measures: list[Callable[[Result], float]] = [
        lambda one: one.wall_s,
        lambda one: one.cpu_s,
        lambda one: one.added_bytes,
        lambda one: one.first_s,
    ]
    rows = []
    for name, runs in results.items():
        if problem := problem_of(runs):
            rows.append([name, problem.partition(":")[0], *[""] * (len(header) - 2)])
            continue
        cells = [name]
        cells += [seconds(middle(runs, measures[0])), seconds(middle(runs, measures[1]))]
        cells += [f"{middle(runs, measures[2]) / MIB:,.0f}", seconds(middle(runs, measures[3])), f"{runs[-1].rows:,}"]
        cells += [ratio(results.get(reference, ()), runs, measure) for measure in measures]
        rows.append(cells)
    return table(header, rows) + problems(results) + disagreement(results)


def ratio(ours: Sequence[Result], theirs: Sequence[Result], measure: Callable[[Result], float]) -> str:
    """Return the median over the turns of ours divided by theirs, or a dash where either has none."""
    if not ours or not theirs or problem_of(ours) or problem_of(theirs):
        return "-"
    pairs = [(measure(one), measure(other)) for one, other in zip(ours, theirs, strict=False)]
    quotients = [above / below for above, below in pairs if below > 0]
    return f"{median(quotients):.2f}" if quotients else "-"


def middle(runs: Sequence[Result], measure: Callable[[Result], float]) -> float:
    """Return the median of one measure over the turns."""
    return median(measure(one) for one in runs)


def problem_of(runs: Sequence[Result]) -> str:
    """Return the first problem of these turns, or nothing."""
    return next((one.problem for one in runs if one.problem), "")


def problems(results: Mapping[str, Sequence[Result]]) -> str:
    """Return a line for each contestant that failed, with how."""
    found = {name: problem_of(runs) for name, runs in results.items()}
    return "".join(f"\n\n{name} {problem}" for name, problem in found.items() if ": " in problem)


def disagreement(results: Mapping[str, Sequence[Result]]) -> str:
    """Return a warning when the contestants did not deliver the same number of rows."""
    counts = {name: runs[-1].rows for name, runs in results.items() if not problem_of(runs)}
    if len(set(counts.values())) <= 1:
        return ""
    return f"\n\n**not the same rows**: {', '.join(f'{name} {rows:,}' for name, rows in counts.items())}"


def mean_ratio(ratios: Sequence[float]) -> str:
    """Return the geometric mean, or a dash of nothing."""
    return f"{geometric_mean(ratios):.2f}" if ratios else "-"


def seconds(value: float) -> str:
    """Return a time with the digits that mean something [s]."""
    return f"{value:.3f}" if value < 1 else f"{value:.2f}"
