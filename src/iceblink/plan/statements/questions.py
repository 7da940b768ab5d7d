"""``DESCRIBE``, ``SHOW``, ``EXPLAIN``, ``USE`` and ``CALL``."""

from __future__ import annotations

from iceblink.plan.sql import Version
from iceblink.plan.statements.kinds import (
    Argument,
    Call,
    Describe,
    Explain,
    ShowCreateTable,
    ShowCurrent,
    ShowNamespaces,
    ShowProperties,
    ShowTables,
    ShowViews,
    Statement,
    Use,
)
from iceblink.plan.statements.tables import NAMESPACE
from iceblink.plan.statements.words import Words

NAMESPACES = ("NAMESPACES", "SCHEMAS", "DATABASES")
_QUERY = ("SELECT", "WITH", "FROM", "(", "VALUES")


def describe(words: Words) -> Statement:
    """Read what comes after ``DESCRIBE``."""
    if any(words.has(word) for word in _QUERY):
        return Describe(query=words.query())
    words.accept("TABLE")
    extended = _before_name(words, "EXTENDED") or _before_name(words, "FORMATTED")
    name = words.dotted("the name of a table")
    version = _version(words)
    words.end("DESCRIBE EXTENDED shows more than the columns; SHOW CREATE TABLE what makes the table")
    return Describe(name, extended=extended, version=version)


def _before_name(words: Words, *keywords: str) -> bool:
    """Take a keyword if a name comes behind it: else it is the name."""
    for keyword in keywords:
        before = words.next
        if words.accept(keyword):
            if words.next.kind in ("word", "quoted"):
                return True
            words.next = before
    return False


def _version(words: Words) -> Version | None:
    """Take ``FOR VERSION AS OF 123``, or a tag or branch, or ``FOR TIMESTAMP AS OF '2026-01-31'``, if it comes next."""
    if not words.accept("FOR"):
        return None
    kind = words.one_of(("VERSION", "TIMESTAMP"), "VERSION or TIMESTAMP").lower()
    words.expect("AS", "OF")
    return Version(
        kind, str(words.number()) if words.next.kind == "number" else words.string("a snapshot id, or a name")
    )


def explain(words: Words) -> Statement:
    """Read what comes after ``EXPLAIN``."""
    analyze = words.accept("ANALYZE")
    if not any(words.has(word) for word in (*_QUERY, "PIVOT", "UNPIVOT")):
        raise words.fail("EXPLAIN needs a query", "a statement has no plan, for it would run: explain the query in it")
    return Explain(words.query(), analyze)


def use(words: Words) -> Statement:
    """Read what comes after ``USE``."""
    _before_name(words, "CATALOG", *NAMESPACE)
    place = words.dotted("a catalog or a namespace")
    words.end("one catalog or namespace is used at a time")
    return Use(place)


def show(words: Words) -> Statement:
    """Read what comes after ``SHOW``."""
    kind = words.one_of(("TABLES", "VIEWS", *NAMESPACES, "TBLPROPERTIES", "CREATE", "CURRENT"), "what to show")
    statement: Statement
    if kind == "CREATE":
        words.one_of(("TABLE", "VIEW"), "TABLE or VIEW")
        statement = ShowCreateTable(words.dotted("the name of a table"))
    elif kind == "CURRENT":
        words.one_of(NAMESPACE, "NAMESPACE")
        statement = ShowCurrent()
    elif kind == "TBLPROPERTIES":
        name = words.dotted("the name of a table")
        keys: list[str | None] = [*words.listed(words.string)] if words.has("(") else [None]
        if len(keys) > 1:
            raise words.fail("one property is shown, or all", "leave the list out")
        statement = ShowProperties(name, keys[0])
    else:
        inside = words.dotted("a namespace") if words.accept("IN") or words.accept("FROM") else None
        pattern = words.string("a pattern") if words.accept("LIKE") else None
        made = {"TABLES": ShowTables, "VIEWS": ShowViews}.get(kind, ShowNamespaces)
        statement = made(inside, pattern)
    words.end()
    return statement


def call(words: Words) -> Call:
    """Read what comes after ``CALL``."""
    token = words.next
    place = words.fail("").where
    procedure = words.dotted("the name of a procedure")
    *before, last = procedure.lower().split(".")
    if before[-1:] != ["system"] or len(before) > 2:
        words.next = token
        raise words.fail(f"no procedure {procedure}", "procedures are in system: CALL system.rollback_to_snapshot(...)")
    values: list[Argument] = []
    named: dict[str, Argument] = {}
    words.expect("(")
    while not words.accept(")"):
        if values or named:
            words.expect(",")
        key = _key(words)
        if key in named:
            raise words.fail(f"{key!r} is given twice", "give it once")
        if key:
            named[key] = _argument(words)
        elif named:
            raise words.fail("a value without a name after one with a name", "name => value")
        else:
            values.append(_argument(words))
    words.end()
    return Call(last, tuple(values), named, place, procedure.partition(".")[0] if len(before) == 2 else "")


def _argument(words: Words) -> Argument:
    """Take a value, or ``array('a', 'b')``."""
    return tuple(words.listed(words.string)) if words.accept("ARRAY") else words.literal()


def _key(words: Words) -> str:
    before = words.next
    if before.kind in ("word", "quoted"):
        name = words.name()
        if words.accept("=>"):
            return name.lower()
        words.next = before
    return ""
