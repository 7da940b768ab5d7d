"""SQL text that is not a query becomes a statement; what it begins with says how it is read."""

from __future__ import annotations

from collections.abc import Callable

from iceblink.errors import SqlError
from iceblink.plan.statements.alterations import alter
from iceblink.plan.statements.analyzing import analyze
from iceblink.plan.statements.kinds import Statement
from iceblink.plan.statements.questions import call, describe, explain, show, use
from iceblink.plan.statements.rows import insert
from iceblink.plan.statements.tables import create, drop, truncate
from iceblink.plan.statements.words import Words

READERS: dict[str, Callable[[Words], Statement]] = {
    "ALTER": alter,
    "ANALYZE": analyze,
    "CALL": call,
    "CREATE": create,
    "DESC": describe,
    "DESCRIBE": describe,
    "DROP": drop,
    "EXPLAIN": explain,
    "INSERT": insert,
    "SHOW": show,
    "TRUNCATE": truncate,
    "USE": use,
}
"""What reads a statement, by its first word."""

BEHIND_WITH = ("INSERT", "DELETE", "UPDATE", "MERGE")
"""Statements that ``WITH`` may stand before."""


def leading_word(text: str) -> str:
    """Return the word that says what an SQL text is, in upper case; empty when it begins with something else.

    It is the first one, or that of a statement behind a ``WITH``.
    """
    words = Words(text)
    first = words.next.text.upper() if words.next.kind == "word" else ""
    if first != "WITH":
        return first
    try:
        words.pass_with()
    except SqlError:  # the reader of queries will say it
        return first
    behind = words.next.text.upper()
    return behind if behind in BEHIND_WITH else first


def read(text: str) -> Statement:
    """Return the statement that an SQL text is; its leading word is one of `READERS`.

    Raises
    ------
    SqlError
        It cannot be read: the place is shown, and what could stand there.
    TypeMismatch, DuplicateColumn
        A type that is none; two fields of one name.
    """
    words = Words(text)
    if words.has("WITH"):
        words.pass_with()
    return READERS[words.take().text.upper()](words)
