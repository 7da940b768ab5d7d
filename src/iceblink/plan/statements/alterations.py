"""``ALTER TABLE``: one action a statement, in Spark's words and some of Trino's and PostgreSQL's."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pyarrow as pa

from iceblink.lake.alteration import Alteration
from iceblink.lake.references import How, Kind, Retention
from iceblink.plan.statements.column_types import column_type, constrained, with_comment
from iceblink.plan.statements.kinds import AlterTable, DropReference, RenameTable, SetReference, Statement
from iceblink.plan.statements.tables import key_of, ordered_by, partition_field, setting
from iceblink.plan.statements.words import Words

_REFERENCES = ("BRANCH", "TAG")
_UNITS = {"DAYS": timedelta(days=1), "HOURS": timedelta(hours=1), "MINUTES": timedelta(minutes=1)}


def alter(words: Words) -> Statement:
    """Read what comes after ``ALTER``."""
    words.expect("TABLE")
    name = words.dotted("the name of a table")
    action = words.one_of(_ACTIONS, "what to alter")
    statement = _ACTIONS[action](words, name)
    words.end("alter one thing a statement; lake.alter(...) changes several in one commit")
    return statement


def _add(words: Words, name: str) -> Statement:
    if words.accept("PARTITION", "FIELD"):
        return AlterTable(name, Alteration(add_partitions=(_partition_field(words),)))
    _column_word(words)
    absent = words.accept("IF", "NOT", "EXISTS")
    added = words.listed(lambda: _new_column(words)) if words.has("(") else words.several(lambda: _new_column(words))
    columns = {path: field for path, field, _ in added}
    return AlterTable(
        name,
        Alteration(
            add=columns,
            move={path: place for path, _, place in added if place},
        ),
        if_not_exists=absent,
    )


def _new_column(words: Words) -> tuple[str, pa.Field, str]:
    path = words.dotted("a column")
    field = constrained(words, pa.field(path.rpartition(".")[2], column_type(words)))
    return path, with_comment(words, field), _place(words)


def _place(words: Words) -> str:
    if words.accept("FIRST"):
        return "first"
    return f"after {words.dotted('a column')}" if words.accept("AFTER") else ""


def _drop(words: Words, name: str) -> Statement:
    if words.accept("PARTITION", "FIELD"):
        return AlterTable(name, Alteration(drop_partitions=(partition_field(words),)))
    if any(words.has(word) for word in _REFERENCES):
        kind = _kind(words)
        there = words.accept("IF", "EXISTS")
        return DropReference(name, kind, words.name(f"the name of a {kind}"), there)
    _column_word(words)
    there = words.accept("IF", "EXISTS")
    one = lambda: words.dotted("a column")  # noqa: E731
    return AlterTable(name, Alteration(drop=tuple(words.listed(one) if words.has("(") else words.several(one))), there)


def _column_word(words: Words) -> None:
    if not words.accept("COLUMNS"):
        words.accept("COLUMN")


def _rename(words: Words, name: str) -> Statement:
    if words.accept("TO"):
        return RenameTable(name, words.dotted("the new name"))
    words.accept("COLUMN")
    before = words.dotted("a column")
    words.expect("TO")
    after = words.dotted("the new name")
    parent = before.rpartition(".")[0]
    if parent and after.rpartition(".")[0] == parent:
        after = after.rpartition(".")[2]
    return AlterTable(name, Alteration(rename={before: after}))


def _alter_column(words: Words, name: str) -> Statement:
    words.accept("COLUMN")
    path = words.dotted("a column")
    if words.accept("TYPE") or words.accept("SET", "DATA", "TYPE"):
        return AlterTable(name, Alteration(types={path: column_type(words)}))
    if words.accept("DROP", "NOT", "NULL"):
        return AlterTable(name, Alteration(optional=(path,)))
    if words.has("SET", "NOT", "NULL"):
        raise words.fail(
            "a column cannot become required", "rows that are there may have nulls: CREATE OR REPLACE TABLE"
        )
    if words.accept("SET", "DEFAULT"):
        return AlterTable(name, Alteration(defaults={path: words.literal()}))
    if words.accept("DROP", "DEFAULT"):
        return AlterTable(name, Alteration(defaults={path: None}))
    if words.accept("COMMENT"):
        return AlterTable(name, Alteration(comments={path: words.string()}))
    if place := _place(words):
        return AlterTable(name, Alteration(move={path: place}))
    words.one_of(
        ("TYPE", "DROP NOT NULL", "SET DEFAULT", "DROP DEFAULT", "COMMENT", "FIRST", "AFTER"),
        "what to alter of the column",
    )
    raise AssertionError("unreachable")  # it is none of them


def _replace(words: Words, name: str) -> Statement:
    if any(words.has(word) for word in _REFERENCES):
        return _reference(words, name, "replace")
    words.expect("PARTITION", "FIELD")
    before = partition_field(words)
    words.expect("WITH")
    return AlterTable(name, Alteration(drop_partitions=(before,), add_partitions=(_partition_field(words),)))


def _partition_field(words: Words) -> str:
    field = partition_field(words)
    if words.has("AS"):
        raise words.fail("a partition field is named after what it does", f"leave AS out, and call it {field}")
    return field


def _write(words: Words, name: str) -> Statement:
    return AlterTable(name, Alteration(sort_by=ordered_by(words)))


def _set(words: Words, name: str) -> Statement:
    if words.accept("PROPERTIES"):
        return AlterTable(name, Alteration(properties=words.once(words.several(lambda: setting(words)))))
    words.expect("TBLPROPERTIES")
    return AlterTable(name, Alteration(properties=words.once(words.listed(lambda: setting(words)))))


def _unset(words: Words, name: str) -> Statement:
    words.expect("TBLPROPERTIES")
    there = words.accept("IF", "EXISTS")
    keys = words.listed(lambda: key_of(words))
    return AlterTable(name, Alteration(properties=dict.fromkeys(keys)), there)


def _create(words: Words, name: str) -> Statement:
    return _reference(words, name, "create or replace" if words.accept("OR", "REPLACE") else "create")


def _reference(words: Words, name: str, how: How) -> Statement:
    kind = _kind(words)
    absent = how == "create" and words.accept("IF", "NOT", "EXISTS")
    reference = words.name(f"the name of a {kind}")
    version: int | str | None = None
    if words.accept("AS", "OF", "VERSION"):
        version = words.number() if words.next.kind == "number" else words.string("a snapshot id, or a name")
    kept = _age(words) if words.accept("RETAIN") else None
    least, ages = None, None
    if kind == "branch" and words.accept("WITH", "SNAPSHOT", "RETENTION"):
        amount = words.number()
        if words.accept("SNAPSHOTS"):
            least = amount
            ages = _age(words) if words.next.kind == "number" else None
        else:
            ages = _times(words, amount)
    told = (kept, ages, least) != (None, None, None)
    return SetReference(name, kind, reference, version, how, Retention(kept, ages, least) if told else None, absent)


def _kind(words: Words) -> Kind:
    return "branch" if words.one_of(_REFERENCES, "BRANCH or TAG") == "BRANCH" else "tag"


def _age(words: Words) -> timedelta:
    return _times(words, words.number())


def _times(words: Words, amount: int) -> timedelta:
    try:
        return amount * _UNITS[words.one_of(_UNITS, "DAYS, HOURS or MINUTES")]
    except OverflowError:
        raise words.fail("nothing is kept so long", "leave it out: what is not told is kept") from None


_ACTIONS: dict[str, Callable[[Words, str], Statement]] = {
    "ADD": _add,
    "ALTER": _alter_column,
    "CREATE": _create,
    "DROP": _drop,
    "RENAME": _rename,
    "REPLACE": _replace,
    "SET": _set,
    "UNSET": _unset,
    "WRITE": _write,
}
