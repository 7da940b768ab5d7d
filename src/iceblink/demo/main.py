"""Run the demo's steps, and say what each does, how many rows it took and how long."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console

import iceblink as ib
from iceblink.demo.chart import write_page
from iceblink.demo.steps import STEPS


def run_demo(folder: Path) -> None:
    """Run every step in a lake of its own, ``folder/lake``; the chart and the page land beside it.

    Parameters
    ----------
    folder : Path
        Made if absent. Tables that an earlier demo left there are made anew.
    """
    console = Console(highlight=False)
    folder.mkdir(parents=True, exist_ok=True)
    done: list[tuple[str, int, float]] = []
    with ib.connect(folder / "lake") as lake:
        for left in (name for name in lake.tables() if name.startswith("nyc.")):
            lake.drop(left)
        for number, step in enumerate(STEPS, 1):
            title = (step.__doc__ or "").rstrip(".")
            console.print(f"[bold cyan]{number}[/] [bold]{title}[/]")
            started = time.perf_counter()
            rows = step(lake, folder)
            seconds = time.perf_counter() - started
            console.print(f"  [dim]{rows:,} rows in {seconds:.1f} s[/]\n")
            done.append((title, rows, seconds))
        console.print(f"The lake holds {', '.join(lake.tables('nyc'))}. Ask it something yourself:")
        query = "SELECT carrier, avg(risk) FROM nyc.risk GROUP BY ALL"
        console.print(f'  iceblink --lake {folder / "lake"} sql "{query}"', soft_wrap=True)
    write_page(folder / "flights.png", done, folder / "flights.html")
    console.print(f"The chart is {folder / 'flights.png'}, the page {folder / 'flights.html'}.", soft_wrap=True)
