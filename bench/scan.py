"""Scan the mixed table to Arrow: all of it, three columns, a filter, a hundred ids: ``python -m bench.scan``."""

from __future__ import annotations

from dataclasses import asdict

from bench.command import Options, heading, read_options
from bench.measure import in_turns
from bench.mixed import FULL, SMALL, ensure_mixed
from bench.report import comparison
from bench.scan_readers import READERS, Question

TITLE = "Scan of the mixed table to Arrow batches"


def questions(rows_per_file: int) -> dict[str, Question]:
    """Return the four questions; the hundred ids lie in the first two files, a few in each row group."""
    step = 2 * rows_per_file // 100
    return {
        "full": Question(),
        "projected": Question(columns=("id", "price", "category")),
        "filtered": Question(region="emea", above_price=150.0),
        "point": Question(ids=tuple(range(7, 7 + 100 * step, step))),
    }


def report(options: Options) -> str:
    """Measure every reader on every question."""
    size = SMALL if options.small else FULL
    folder = ensure_mixed(size)
    parts = [heading(TITLE, options)]
    for name, question in options.some(list(questions(size.rows_per_file).items())):
        arguments = {"folder": str(folder), "cpus": options.cpus, **asdict(question)}
        results = in_turns(options.chosen(READERS), arguments, options.runs, options.cpus)
        parts.append(f"### {name}\n\n{comparison(results)}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    print(report(read_options(TITLE)))
