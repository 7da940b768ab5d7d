"""SQL text that is not a query becomes a statement; what it begins with says how it is read."""

from __future__ import annotations

from collections.abc import Callable

from iceblink.plan.statements.alterations import alter
from iceblink.plan.statements.analyzing import analyze
from iceblink.plan.statements.kinds import Statement
from iceblink.plan.statements.questions import call, describe, show
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
    "INSERT": insert,
    "SHOW": show,
    "TRUNCATE": truncate,
}
"""What reads a statement, by its first word."""


def first_word(text: str) -> str:
    """Return the first word of an SQL text, in upper case; empty when it begins with something else."""
    begins = Words(text).next
    return begins.text.upper() if begins.kind == "word" else ""


def read(text: str) -> Statement:
    """Return the statement that an SQL text is; its first word is one of `READERS`.

    Raises
    ------
    SqlError
        It cannot be read: the place is shown, and what could stand there.
    TypeMismatch, DuplicateColumn
        A type that is none; two fields of one name.
    """
    words = Words(text)
    return READERS[words.take().text.upper()](words)
