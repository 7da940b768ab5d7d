"""Rows in z-order: near each other in a file where they are near in several columns at once.

Each column becomes a number that keeps its order, the place of the value among quantiles of a sample; the bits of the
numbers, interleaved, are the key that rows are sorted by. Quantiles make skewed columns count as much as even ones.

References
----------
.. [1] G. M. Morton, "A Computer Oriented Geodetic Data Base and a New Technique in File Sequencing", IBM, 1966.
.. [2] J. A. Orenstein and T. H. Merrett, "A Class of Data Structures for Associative Searching", PODS 1984.
"""

from __future__ import annotations

from collections.abc import Sequence

from iceblink.plan.late import exp, sqlglot
from iceblink.plan.sql import DIALECT, unused

KEY_BITS = 63
"""The key is a positive BIGINT."""
MOST_BITS = 8
"""Of each column: 256 quantiles."""


def quantile_query(source: str, columns: Sequence[str]) -> exp.Query:
    """Return a statement of one row: for each column the bounds between its quantiles, as text in a list."""
    count = 1 << bits_of(len(columns))
    fractions = ", ".join(repr(place / count) for place in range(1, count))
    lists = [
        f"CAST(quantile_disc({_quoted(name)}, [{fractions}]) AS VARCHAR[]) AS {_quoted(f'q{place}')}"
        for place, name in enumerate(columns)
    ]
    return _parsed(f"SELECT {', '.join(lists)} FROM {_quoted(source)}")


def zorder_query(source: str, columns: Sequence[str], keys: Sequence[tuple[str, str, Sequence[str]]]) -> exp.Query:
    """Return the rows of `source` sorted by their z-value.

    Parameters
    ----------
    source : str
    columns : sequence of str
        All columns, in order.
    keys : sequence of (str, str, sequence of str)
        Column, its type in the kernel's words, and the bounds between its quantiles, ascending, as text. The first
        column counts first where bits are equal.
    """
    bits, taken, numbers = bits_of(len(keys)), list(columns), []
    for place, _ in enumerate(keys):
        numbers.append(unused(f"__iceblink_z{place}", taken))
        taken.append(numbers[-1])
    ranks = [
        f"{_rank(name, kind, bounds)} AS {_quoted(number)}"
        for (name, kind, bounds), number in zip(keys, numbers, strict=True)
    ]
    parts = [
        f"((({_quoted(number)} >> {bit}) & 1) << {bit * len(keys) + len(keys) - 1 - place})"
        for bit in range(bits)
        for place, number in enumerate(numbers)
    ]
    named = ", ".join(map(_quoted, columns))
    inner = f"SELECT {named}, {', '.join(ranks)} FROM {_quoted(source)}"
    return _parsed(f'SELECT {named} FROM ({inner}) AS "ranked" ORDER BY {" + ".join(parts)}')


def bits_of(columns: int) -> int:
    """Return how many bits each of so many columns has."""
    return min(MOST_BITS, KEY_BITS // columns)


def _rank(name: str, kind: str, bounds: Sequence[str]) -> str:
    """Return the place of a value among `bounds`, by halving; null is before all."""
    column = _quoted(name)

    def halved(low: int, high: int) -> str:
        if low == high:
            return f"CAST({low} AS BIGINT)"
        middle = (low + high) // 2
        bound = f"CAST({exp.Literal.string(bounds[middle]).sql(DIALECT)} AS {kind})"
        return f"CASE WHEN {column} <= {bound} THEN {halved(low, middle)} ELSE {halved(middle + 1, high)} END"

    return f"CASE WHEN {column} IS NULL THEN CAST(0 AS BIGINT) ELSE {halved(0, len(bounds))} END"


def _quoted(name: str) -> str:
    return str(exp.to_identifier(name, quoted=True).sql(DIALECT))


def _parsed(text: str) -> exp.Query:
    tree = sqlglot.parse_one(text, read=DIALECT)
    assert isinstance(tree, exp.Query)
    return tree
