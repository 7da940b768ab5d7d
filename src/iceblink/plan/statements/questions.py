"""``DESCRIBE``, ``SHOW`` and ``CALL``."""

from __future__ import annotations

from iceblink.plan.statements.kinds import (
    Argument,
    Call,
    Describe,
    ShowCreateTable,
    ShowNamespaces,
    ShowProperties,
    ShowTables,
    Statement,
)
from iceblink.plan.statements.words import Words

NAMESPACES = ("NAMESPACES", "SCHEMAS", "DATABASES")


def describe(words: Words) -> Statement:
    """Read what comes after ``DESCRIBE``."""
    if any(words.has(word) for word in ("SELECT", "WITH", "FROM", "(", "VALUES")):
        return Describe(query=words.query())
    words.accept("TABLE")
    name = words.dotted("the name of a table")
    words.end("DESCRIBE shows the columns; SHOW CREATE TABLE shows all")
    return Describe(name)


def show(words: Words) -> Statement:
    """Read what comes after ``SHOW``."""
    kind = words.one_of(("TABLES", *NAMESPACES, "TBLPROPERTIES", "CREATE"), "what to show")
    statement: Statement
    if kind == "CREATE":
        words.expect("TABLE")
        statement = ShowCreateTable(words.dotted("the name of a table"))
    elif kind == "TBLPROPERTIES":
        name = words.dotted("the name of a table")
        statement = ShowProperties(name, words.listed(words.string)[0] if words.has("(") else None)
    else:
        inside = words.dotted("a namespace") if words.accept("IN") or words.accept("FROM") else None
        pattern = words.string("a pattern") if words.accept("LIKE") else None
        statement = ShowTables(inside, pattern) if kind == "TABLES" else ShowNamespaces(inside, pattern)
    words.end()
    return statement


def call(words: Words) -> Call:
    """Read what comes after ``CALL``."""
    token = words.next
    place = words.fail("").where
    procedure = words.dotted("the name of a procedure")
    *before, last = procedure.lower().split(".")
    if before[-1:] != ["system"] or len(before) > 2:  # a catalog may stand before it: there is one
        words.next = token
        raise words.fail(f"no procedure {procedure}", "procedures are in system: CALL system.rollback_to_snapshot(...)")
    values: list[Argument] = []
    named: dict[str, Argument] = {}
    words.expect("(")
    while not words.accept(")"):
        if values or named:
            words.expect(",")
        key = _key(words)
        if key:
            named[key] = _argument(words)
        elif named:
            raise words.fail("a value without a name after one with a name", "name => value")
        else:
            values.append(_argument(words))
    words.end()
    return Call(last, tuple(values), named, place)


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
