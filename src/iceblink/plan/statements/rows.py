"""``INSERT INTO`` and ``INSERT OVERWRITE``."""

from __future__ import annotations

from iceblink.plan.statements.kinds import Insert, Value
from iceblink.plan.statements.words import Words


def insert(words: Words) -> Insert:
    """Read what comes after ``INSERT``."""
    overwrite = words.one_of(("INTO", "OVERWRITE"), "INTO or OVERWRITE") == "OVERWRITE"
    words.accept("TABLE")
    name = words.dotted("the name of a table")
    given = words.listed(lambda: _partition(words)) if words.accept("PARTITION") else []
    by_name = words.accept("BY", "NAME")
    listed = words.has("(") and not by_name and not _is_query(words)
    columns = words.listed(lambda: words.name("a column")) if listed else None
    named = None if columns is None else tuple(columns)
    words.once([(column, told) for column, _, told in given])
    values = {column: value for column, value, told in given if told}
    dynamic = tuple(column for column, _, told in given if not told)
    if not words.has("DEFAULT", "VALUES"):
        return Insert(name, words.query(), named, by_name, overwrite, values, dynamic)
    if by_name:
        raise words.fail("a row of default values has no names", "leave BY NAME out")
    words.accept("DEFAULT", "VALUES")
    words.end()
    return Insert(name, None, named, by_name, overwrite, values, dynamic)


def _partition(words: Words) -> tuple[str, Value, bool]:
    column = words.name("a partition column")
    return (column, words.literal(), True) if words.accept("=") else (column, None, False)


def _is_query(words: Words) -> bool:
    return any(words.has("(", word) for word in ("SELECT", "WITH", "FROM", "VALUES", "("))
