"""A small table that a person reads, in a terminal and in a notebook."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from textwrap import wrap

COLUMNS = 100
"""Words under a table go on in the next line of a terminal after so many letters."""
SMALL = 1e-16
"""A p-value below this is no number to read: rounding of what it was computed from moves it."""


@dataclass(frozen=True)
class Sheet:
    """Lines of cells between words.

    Parameters
    ----------
    above : sequence of str
        Lines over the table, the title first.
    head : sequence of str
    lines : sequence of sequence of str
        Each with a cell for each of `head`.
    below : sequence of str
        Lines under the table.
    words : int
        So many columns, the first ones, are words, set to the left; the others are numbers.
    """

    above: Sequence[str]
    head: Sequence[str]
    lines: Sequence[Sequence[str]]
    below: Sequence[str] = ()
    words: int = 1

    def text(self) -> str:
        """Return it in columns of equal letters."""
        widths = [max(map(len, column)) for column in zip(self.head, *self.lines, strict=True)]
        table = [
            "  ".join(
                cell.ljust(width) if at < self.words else cell.rjust(width)
                for at, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in (self.head, *self.lines)
        ]
        below = [part for line in self.below for part in wrap(line, COLUMNS, break_long_words=False)]
        return "\n".join([*self.above, *table, *below])

    def html(self) -> str:
        """Return it as an HTML table; nothing in it is taken for HTML."""
        title, *above = self.above
        head = "".join(self._cell("th", at, cell) for at, cell in enumerate(self.head))
        rows = ("".join(self._cell("td", at, cell) for at, cell in enumerate(line)) for line in self.lines)
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        paragraphs = [f"<p><b>{escape(title)}</b></p>", *map(_paragraph, above), table, *map(_paragraph, self.below)]
        return f"<div>{''.join(paragraphs)}</div>"

    def _cell(self, tag: str, at: int, cell: str) -> str:
        side = "left" if at < self.words else "right"
        return f'<{tag} style="text-align: {side}; white-space: pre">{escape(cell)}</{tag}>'


def cell(value: float, form: str = ".6g") -> str:
    """Return a number as it stands in a cell; nothing of one that is not known."""
    text = f"{value:{form}}"
    if math.isnan(value):
        return ""
    return text.removeprefix("-") if float(text.rstrip("%").replace(",", "")) == 0 else text


def p_cell(value: float) -> str:
    """Return a p-value as it stands in a cell."""
    return f"<{SMALL:.0e}" if value < SMALL else cell(value, ".3g")


def _paragraph(line: str) -> str:
    return f"<p>{escape(line)}</p>"
