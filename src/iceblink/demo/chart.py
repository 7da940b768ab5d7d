"""Two pictures of the scores: by hour of day, and what December's weather changed."""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path

import pyarrow as pa

from iceblink.errors import ConfigError

LATE, RISK, OLD = "#1f6f8b", "#e07a5f", "#b8b8b8"


def draw(by_hour: pa.Table, before: pa.Table, after: pa.Table, path: Path) -> None:
    """Save the chart as a PNG.

    Parameters
    ----------
    by_hour : pa.Table
        ``hour``, and the shares ``late`` and ``risk`` of the flights scheduled in it.
    before, after : pa.Table
        December at the first and at the second commit: for each tenth of the flights by risk, its mean ``risk`` and
        the share ``late``.
    path : Path
        Where the picture goes.
    """
    try:
        from matplotlib.figure import Figure  # without pyplot, which would look for a screen
    except ImportError as error:
        raise ConfigError("matplotlib is not installed", "demo", "pip install 'iceblink[demo]'") from error
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    day, december = figure.subplots(1, 2)

    day.bar(by_hour["hour"].to_pylist(), by_hour["late"].to_pylist(), color=LATE, alpha=0.35, label="was late")
    day.plot(
        by_hour["hour"].to_pylist(), by_hour["risk"].to_pylist(), color=RISK, marker="o", label="risk, by the model"
    )
    day.set(title="October to December, by hour of departure", xlabel="hour of day", ylabel="share of flights")
    day.legend(frameon=False)

    december.axline((0, 0), slope=1, color="black", linewidth=0.6, linestyle=":")
    for tenths, color, label in ((before, OLD, "first commit, weather unknown"), (after, RISK, "second commit")):
        december.plot(tenths["risk"].to_pylist(), tenths["late"].to_pylist(), color=color, marker="o", label=label)
    december.set(title="December, in tenths of rising risk", xlabel="risk, by the model", ylabel="share that was late")
    december.legend(frameon=False)

    for axes in (day, december):
        axes.spines[["top", "right"]].set_visible(False)
        axes.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    day.set_xticks(range(6, 24, 3))
    december.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    figure.savefig(path, dpi=130)


def write_page(picture: Path, steps: list[tuple[str, int, float]], path: Path) -> None:
    """Save one HTML page that holds the picture and the table of steps: title, rows, seconds."""
    image = base64.b64encode(picture.read_bytes()).decode()
    rows = "\n".join(
        f"<tr><td>{escape(title)}</td><td>{count:,}</td><td>{seconds:.1f}</td></tr>" for title, count, seconds in steps
    )
    path.write_text(PAGE.format(image=image, rows=rows), encoding="utf-8")


PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>iceblink: a year of flights</title>
<style>
  body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 3rem auto; padding: 0 1rem; color: #223; }}
  img {{ max-width: 100%; }}
  td, th {{ padding: .2rem 1rem .2rem 0; text-align: left; }}
  td + td, th + th {{ text-align: right; font-variant-numeric: tabular-nums; }}
</style>
<h1>A year of flights through one lake</h1>
<img alt="Shares of late flights, as the model said and as it happened" src="data:image/png;base64,{image}">
<table>
<tr><th>step</th><th>rows</th><th>seconds</th></tr>
{rows}
</table>
</html>
"""
