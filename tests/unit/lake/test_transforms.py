"""Partition and sort words: read, shown, and refused with a reason."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iceblink.errors import ColumnNotFound, ConfigError, IceblinkError, TypeMismatch
from iceblink.lake.schemas import iceberg_schema
from iceblink.lake.transforms import parse_partition, parse_sort, show_partition, show_sort
from iceblink.types import to_schema

SCHEMA = iceberg_schema(
    to_schema(
        {
            "id": "long",
            "name": "string",
            "ts": "timestamptz",
            "day": "date",
            "x": "double",
            "tags": "list<string>",
            "at": "struct<city: string>",
            "two words": "int",
            "f(x)": "int",
        }
    )
)


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("id", "id"),
        ("identity(id)", "id"),
        ("bucket(16, id)", "bucket(16, id)"),
        ("bucket(id,16)", "bucket(16, id)"),
        ("Truncate( 4 , name )", "truncate(4, name)"),
        ("years(ts)", "year(ts)"),
        ("months(day)", "month(day)"),
        ("day(ts)", "day(ts)"),
        ("hours(ts)", "hour(ts)"),
        ("at.city", "at.city"),
        ("two words", "two words"),
        ('bucket(4, "two words")', "bucket(4, two words)"),
        ("f(x)", "f(x)"),
    ],
)
def test_partition_words_come_back_in_one_form(written: str, shown: str) -> None:
    spec = parse_partition([written], SCHEMA)
    assert show_partition(spec, SCHEMA) == (shown,)
    assert show_partition(parse_partition([shown], SCHEMA), SCHEMA) == (shown,)


@pytest.mark.parametrize(
    ("words", "error", "hint"),
    [
        ("idd", ColumnNotFound, "'id'"),
        ("bucket(4, nmae)", ColumnNotFound, "'name'"),
        ("day(id)", TypeMismatch, "bucket"),
        ("hour(day)", TypeMismatch, "day"),
        ("bucket(4, x)", TypeMismatch, "identity"),
        ("tags", TypeMismatch, "another"),
        ("buket(4, id)", ConfigError, "'bucket'"),
        ("bucket(id)", ConfigError, "bucket(16, id)"),
        ("bucket(0, id)", ConfigError, "bucket(16, id)"),
    ],
)
def test_partition_words_that_cannot_be_are_refused_with_a_hint(
    words: str, error: type[IceblinkError], hint: str
) -> None:
    with pytest.raises(error) as caught:
        parse_partition([words], SCHEMA)
    assert hint in caught.value.hint


def test_partition_fields_need_names_of_their_own() -> None:
    with pytest.raises(ConfigError, match="two partition fields"):
        parse_partition(["bucket(4, id)", "bucket(8, id)"], SCHEMA)
    clashing = iceberg_schema(to_schema({"ts": "date", "ts_day": "date"}))
    with pytest.raises(ConfigError, match="would hide a column"):
        parse_partition(["day(ts)"], clashing)


@given(
    column=st.sampled_from(["id", "name", "at.city", "two words"]),
    descending=st.booleans(),
    nulls=st.sampled_from(["", " nulls first", " NULLS LAST"]),
    minus=st.booleans(),
)
def test_sort_words_come_back_in_one_form(column: str, descending: bool, nulls: str, minus: bool) -> None:
    word = f"-{column}" if descending and minus else f"{column} DESC" if descending else column
    order = parse_sort([f"{word}{nulls}"], SCHEMA)
    usual = " nulls last" if descending else " nulls first"
    expected = column + (" desc" if descending else "") + ("" if nulls.lower() in ("", usual) else nulls.lower())
    assert show_sort(order, SCHEMA) == (expected,)
    assert parse_sort([expected], SCHEMA).fields == order.fields


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["idd"], ColumnNotFound),
        (["tags"], TypeMismatch),
        (["-id desc"], ConfigError),
        (["id", "-id"], ConfigError),
        (["bucket(4, id)"], ConfigError),
        ([""], ColumnNotFound),
    ],
)
def test_sort_words_that_cannot_be_are_refused(words: list[str], error: type[IceblinkError]) -> None:
    with pytest.raises(error) as caught:
        parse_sort(words, SCHEMA)
    assert caught.value.hint


def test_no_words_are_no_order() -> None:
    assert show_sort(parse_sort([], SCHEMA), SCHEMA) == ()
    assert show_partition(parse_partition([], SCHEMA), SCHEMA) == ()
