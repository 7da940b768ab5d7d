"""A few rows as text or HTML."""

from __future__ import annotations

import html
from typing import Any

import pyarrow as pa

from iceblink.types import is_number, show_type

WIDEST = 40


def text_preview(table: pa.Table, rows: int) -> str:
    """Return at most `rows` rows in columns, names and types above, and whether there are more."""
    names, types, cells = _cells(table, rows)
    widths = [
        max(len(text) for text in (name, kind, *column)) for name, kind, column in zip(names, types, cells, strict=True)
    ]
    numeric = [is_number(field.type) for field in table.schema]

    def line(texts: list[str]) -> str:
        padded = (t.rjust(w) if right else t.ljust(w) for t, w, right in zip(texts, widths, numeric, strict=True))
        return "  ".join(padded).rstrip()

    lines = [line(names), line(types), "  ".join("-" * width for width in widths)]
    lines += [line([column[index] for column in cells]) for index in range(min(rows, table.num_rows))]
    if table.num_rows > rows:
        lines.append("... and more")
    elif table.num_rows == 0:
        lines.append("(no rows)")
    return "\n".join(lines)


def html_preview(table: pa.Table, rows: int) -> str:
    """Return the same as an HTML table."""
    names, types, cells = _cells(table, rows)
    head = "".join(f"<th>{_safe(n)}<br><small>{_safe(t)}</small></th>" for n, t in zip(names, types, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td>{_safe(column[index])}</td>" for column in cells) + "</tr>"
        for index in range(min(rows, table.num_rows))
    )
    more = "<p>... and more</p>" if table.num_rows > rows else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def _safe(text: str) -> str:
    return html.escape(text)


def _cells(table: pa.Table, rows: int) -> tuple[list[str], list[str], list[list[str]]]:
    shown = table.slice(0, rows)
    cells = [[_cell(value) for value in column.to_pylist()] for column in shown.columns]
    return list(table.schema.names), [_clipped(show_type(field.type)) for field in table.schema], cells


def _cell(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, float):
        return f"{value:.6g}"
    return _clipped(str(value).replace("\n", " "))


def _clipped(text: str) -> str:
    return text if len(text) <= WIDEST else text[: WIDEST - 1] + "…"
