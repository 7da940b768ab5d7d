"""``CREATE``, ``DROP`` and ``TRUNCATE``: tables, views and namespaces."""

from __future__ import annotations

import pyarrow as pa

from iceblink.plan.sql import QueryText
from iceblink.plan.statements.column_types import column
from iceblink.plan.statements.kinds import (
    CreateNamespace,
    CreateTable,
    CreateView,
    DropNamespace,
    DropTable,
    DropView,
    Statement,
    TruncateTable,
)
from iceblink.plan.statements.words import Words, is_word

NAMESPACE = ("NAMESPACE", "SCHEMA", "DATABASE")
_CLAUSES = "there are PARTITIONED BY (...), WRITE ORDERED BY ..., COMMENT '...', TBLPROPERTIES (...) and AS SELECT ..."


def create(words: Words) -> Statement:
    """Read what comes after ``CREATE``."""
    replace = words.accept("OR", "REPLACE")
    kind = words.one_of(("TABLE", "VIEW", *NAMESPACE), "TABLE, VIEW or SCHEMA")
    there = words.accept("IF", "NOT", "EXISTS")
    if replace and (there or kind in NAMESPACE):
        raise words.fail("OR REPLACE goes with a table or view, and not with IF NOT EXISTS")
    name = words.dotted(f"the name of the {kind.lower()}")
    if kind == "TABLE":
        return _table(words, name, replace, there)
    if kind == "VIEW":
        return _view(words, name, replace, there)
    words.end("a namespace has a name and nothing else")
    return CreateNamespace(name, there)


def _view(words: Words, name: str, replace: bool, there: bool) -> CreateView:
    columns = None
    if words.has("("):
        columns = tuple(words.listed(lambda: (words.name("a column"), _comment(words))))
    properties: dict[str, str] = {}
    while not words.accept("AS"):
        if (comment := _comment(words)) is not None:
            properties["comment"] = comment
        elif words.accept("TBLPROPERTIES"):
            properties |= words.once(words.listed(lambda: setting(words)))
        else:
            hint = "there are (names of columns), COMMENT '...', TBLPROPERTIES (...) and AS SELECT ..."
            raise words.fail(f"did not expect {words.found} here", hint)
    return CreateView(name, words.query(), columns, properties, replace, there)


def _comment(words: Words) -> str | None:
    return words.string() if words.accept("COMMENT") else None


def _table(words: Words, name: str, replace: bool, there: bool) -> CreateTable:
    schema: pa.Schema | None = None
    if words.has("("):
        schema = pa.schema(words.listed(lambda: column(words)))
    partition_by: tuple[str, ...] = ()
    sort_by: tuple[str, ...] = ()
    properties: dict[str, str] = {}
    query: QueryText | None = None
    said: set[str] = set()
    while words.next.kind != "end" and not words.has(";"):
        _say_once(words, words.next.text.upper(), said)
        if words.accept("USING"):
            words.one_of(("ICEBERG",), "ICEBERG")
        elif words.accept("PARTITIONED", "BY"):
            partition_by = tuple(words.listed(lambda: partition_field(words)))
        elif words.accept("WRITE"):
            sort_by = ordered_by(words)
        elif words.accept("COMMENT"):
            properties["comment"] = words.string()
        elif words.accept("TBLPROPERTIES"):
            properties |= words.once(words.listed(lambda: setting(words)))
        elif words.accept("WITH"):  # Trino's, where partitioning and order are properties
            for key, value in words.once(words.listed(lambda: _trino_setting(words))).items():
                if isinstance(value, str):
                    properties[key] = value
                elif key == "partitioning":
                    _say_once(words, "PARTITIONED", said)
                    partition_by = value
                else:
                    _say_once(words, "WRITE", said)
                    sort_by = value
        elif words.accept("AS") or any(words.has(word) for word in ("SELECT", "FROM", "VALUES")):
            query = words.query()
        else:
            raise words.fail(f"did not expect {words.found} here", _CLAUSES)
    if (schema is None) == (query is None):
        what = "a table has columns" if schema is None else "a table of a query has its columns"
        raise words.fail(what, "write (id BIGINT, ...), or AS SELECT ... without columns")
    words.end(_CLAUSES)
    return CreateTable(name, schema, query, partition_by, sort_by, properties, replace, there)


def _say_once(words: Words, clause: str, said: set[str]) -> None:
    if clause in said:
        raise words.fail(f"{clause} is said twice", "say it once")
    said.add(clause)


def drop(words: Words) -> Statement:
    """Read what comes after ``DROP``."""
    kind = words.one_of(("TABLE", "VIEW", *NAMESPACE), "TABLE, VIEW or SCHEMA")
    there = words.accept("IF", "EXISTS")
    name = words.dotted(f"the name of the {kind.lower()}")
    if kind == "TABLE":
        purge = words.accept("PURGE")
        words.end("DROP TABLE has IF EXISTS before the name, and PURGE after it")
        return DropTable(name, there, purge)
    if kind == "VIEW":
        words.end("DROP VIEW has IF EXISTS before the name")
        return DropView(name, there)
    words.accept("RESTRICT")
    words.end("drop the tables of a namespace first, one by one")
    return DropNamespace(name, there)


def truncate(words: Words) -> Statement:
    """Read what comes after ``TRUNCATE``."""
    words.accept("TABLE")
    name = words.dotted("the name of a table")
    words.end("to delete some rows, write DELETE FROM ... WHERE ...")
    return TruncateTable(name)


def partition_field(words: Words) -> str:
    """Take ``day(ts)``, ``bucket(16, id)`` or a column, and return it in the words of `Catalog.create`."""
    if words.next.kind != "word":
        return word(words.dotted("a column"))
    first = words.dotted("a column")
    if not words.accept("("):
        return word(first)
    inside = words.several(lambda: str(words.number()) if words.next.kind == "number" else word(words.dotted()))
    words.expect(")")
    return f"{first}({', '.join(inside)})"


def ordered_by(words: Words) -> tuple[str, ...]:
    """Take ``[LOCALLY] ORDERED BY a DESC NULLS LAST`` or ``UNORDERED``, in the words of `Catalog.create`."""
    if words.accept("UNORDERED"):
        return ()
    words.accept("LOCALLY")
    words.expect("ORDERED", "BY", hint="write WRITE ORDERED BY a, b DESC, or WRITE UNORDERED")
    return tuple(words.several(lambda: sort_field(words)))


def sort_field(words: Words) -> str:
    """Take ``a [ASC | DESC] [NULLS FIRST | LAST]``."""
    said = partition_field(words)
    if words.accept("DESC"):
        said += " desc"
    else:
        words.accept("ASC")
    if words.accept("NULLS"):
        said += f" nulls {words.one_of(('FIRST', 'LAST'), 'FIRST or LAST').lower()}"
    return said


def word(name: str) -> str:
    """Return a column as a word that `lake.transforms` reads as one."""
    plain = all(map(is_word, name.split("."))) and name.lower() not in ("asc", "desc", "nulls")
    return name if plain else '"' + name.replace('"', '""') + '"'


def setting(words: Words) -> tuple[str, str]:
    """Take ``'key' = 'value'``; keys may be words with dots, values numbers and TRUE or FALSE as well."""
    key = key_of(words)
    words.expect("=", hint="write 'key' = 'value'")
    return key, _value(words)


def key_of(words: Words) -> str:
    """Take the key of a property: a text, or words with dots and dashes."""
    if words.next.kind == "string":
        return words.string()
    key = words.name("the key of a property")
    while sign := next((sign for sign in (".", "-") if words.accept(sign)), ""):
        key += sign + words.take().text
    return key


def _value(words: Words) -> str:
    if words.next.kind == "quoted":
        return words.string()
    value = words.literal()
    return str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)


def _trino_setting(words: Words) -> tuple[str, str | tuple[str, ...]]:
    key = key_of(words)
    words.expect("=")
    if key.lower() not in ("partitioning", "sorted_by"):
        return ("write.format.default" if key.lower() == "format" else key), _value(words)
    words.expect("ARRAY", "[")
    fields = words.several(words.string)
    words.expect("]")
    return key.lower(), tuple(fields)
