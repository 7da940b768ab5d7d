"""A small table that a person reads, in a terminal and in a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape


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
        return "\n".join([*self.above, *table, *self.below])

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


def _paragraph(line: str) -> str:
    return f"<p>{escape(line)}</p>"
