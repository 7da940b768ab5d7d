"""Pruning never loses a row, and whole matches never include one too many: plain Python is the oracle."""

from __future__ import annotations

import operator
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from math import isnan, nan
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.conversions import to_bytes
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.typedef import Record

from iceblink.errors import ColumnNotFound
from iceblink.lake.expressions import to_iceberg
from iceblink.lake.pruning import Pruner, WholeMatch, partition_values
from iceblink.lake.schemas import iceberg_schema
from iceblink.lake.transforms import parse_partition
from iceblink.lake.values import to_stored
from iceblink.predicate import (
    And,
    Compare,
    Everything,
    IsIn,
    IsNull,
    Nothing,
    NotNull,
    Or,
    Predicate,
    StartsWith,
)
from iceblink.types import to_schema

START = datetime(2026, 1, 1, tzinfo=UTC)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "i": st.integers(-20, 20),
    "s": st.text("abz\U0001f600", max_size=3),
    "x": st.sampled_from([-1.5, -0.0, 0.0, 0.1, 2.0, nan]),
    "f": st.sampled_from([-1.5, 0.5, 2.0, nan]),
    "d": st.integers(-3, 40).map(lambda days: date(2026, 1, 1) + timedelta(days)),
    "t": st.integers(-3, 60).map(lambda hours: START + timedelta(hours=hours)),
    "n": st.integers(-20, 20).map(lambda cents: Decimal(cents).scaleb(-2)),
    "b": st.booleans(),
    "u": st.integers(0, 3).map(lambda number: UUID(int=number << 100)),
}
SCHEMA = iceberg_schema(
    to_schema(
        {
            "i": "long",
            "s": "string",
            "x": "double",
            "f": "float",
            "d": "date",
            "t": "timestamptz",
            "n": "decimal(9,2)",
            "b": "boolean",
            "u": "uuid",
        }
    )
)
SPECS: dict[str, list[str]] = {
    "i": ["i", "bucket(3, i)", "truncate(4, i)"],
    "s": ["s", "bucket(3, s)", "truncate(1, s)"],
    "x": ["x"],
    "f": ["f"],
    "d": ["d", "year(d)", "month(d)", "day(d)", "bucket(3, d)"],
    "t": ["t", "year(t)", "month(t)", "day(t)", "hour(t)", "bucket(3, t)"],
    "n": ["n", "bucket(3, n)", "truncate(5, n)"],
    "b": ["b"],
    "u": ["u", "bucket(3, u)"],
}
OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def holds(predicate: Predicate, row: dict[str, Any]) -> bool:
    """Answer as the query kernel does: null is never true, NaN is above all numbers and equal to itself."""
    match predicate:
        case Everything():
            return True
        case Nothing():
            return False
        case And(left, right):
            return holds(left, row) and holds(right, row)
        case Or(left, right):
            return holds(left, row) or holds(right, row)
        case IsNull(column):
            return row[column] is None
        case NotNull(column):
            return row[column] is not None
        case Compare(column, op, value):
            return row[column] is not None and OPERATORS[op](ranked(row[column]), ranked(value))
        case IsIn(column, values):
            return row[column] is not None and ranked(row[column]) in {ranked(value) for value in values}
        case StartsWith(column, prefix):
            return row[column] is not None and row[column].startswith(prefix)
        case _:
            raise AssertionError(predicate)


def ranked(value: Any) -> tuple[bool, Any]:
    return (True, 0) if isinstance(value, float) and isnan(value) else (False, value)


def leaves(column: str) -> st.SearchStrategy[Predicate]:
    values = VALUES[column]
    choices: list[st.SearchStrategy[Predicate]] = [
        st.builds(Compare, st.just(column), st.sampled_from(list(OPERATORS)), values),
        st.builds(IsIn, st.just(column), st.frozensets(values, max_size=3)),
        st.just(IsNull(column)),
        st.just(NotNull(column)),
    ]
    if column == "s":
        choices.append(st.builds(StartsWith, st.just(column), values))
    return st.one_of(choices)


def predicates(column: str) -> st.SearchStrategy[Predicate]:
    """Questions about one column, so that they are answered often."""
    return st.recursive(
        leaves(column) | st.just(Everything()) | st.just(Nothing()),
        lambda inner: st.builds(And, inner, inner) | st.builds(Or, inner, inner),
        max_leaves=4,
    )


def described(rows: list[Any], column: str, spec: PartitionSpec, counted: bool) -> list[tuple[DataFile, list[Any]]]:
    """Write down the metadata of files that hold `rows` of one column: a file a partition."""
    field = SCHEMA.find_field(column)
    kind: Any = field.field_type
    transform = spec.fields[0].transform.transform(field.field_type) if spec.fields else None
    groups: dict[str, list[Any]] = {}
    for row in rows:
        stored = None if row is None else row if column in "xf" else to_stored(row, field.field_type)
        if column == "u" and stored is not None:
            stored = stored.bytes
        value = transform(stored) if transform else "all"
        groups.setdefault(repr(value), []).append((value, row, stored))
    made = []
    for members in groups.values():
        value = members[0][0]
        numbers = [stored for _, _, stored in members if stored is not None and stored == stored]
        bounds = (min(numbers), max(numbers)) if numbers else None
        if column == "u" and spec.fields and "identity" in str(spec.fields[0].transform) and value is not None:
            value = UUID(bytes=value)  # as Avro gives it
        file = DataFile.from_args(
            content=DataFileContent.DATA,
            file_path="x",
            file_format=FileFormat.PARQUET,
            partition=Record(*([value] if spec.fields else [])),
            record_count=len(members),
            file_size_in_bytes=1,
            column_sizes={},
            value_counts={field.field_id: len(members)} if counted else {},
            null_value_counts={field.field_id: sum(row is None for _, row, _ in members)} if counted else {},
            nan_value_counts={},
            lower_bounds={field.field_id: to_bytes(kind, bounds[0])} if bounds else {},
            upper_bounds={field.field_id: to_bytes(kind, bounds[1])} if bounds else {},
        )
        made.append((file, [row for _, row, _ in members]))
    return made


@pytest.mark.parametrize("column", sorted(VALUES))
@settings(max_examples=60)
@given(data=st.data())
def test_pruning_agrees_with_python(column: str, data: st.DataObject) -> None:
    words = data.draw(st.sampled_from([[], *([word] for word in SPECS[column])]))
    spec = parse_partition(words, SCHEMA)
    rows = data.draw(st.lists(st.none() | VALUES[column], min_size=1, max_size=8))
    predicate = data.draw(predicates(column))
    pruner, whole = Pruner(predicate, SCHEMA, {0: spec}), WholeMatch(predicate, SCHEMA, {0: spec})
    for file, members in described(rows, column, spec, counted=data.draw(st.booleans())):
        values = partition_values(file)
        answers = [holds(predicate, {column: row}) for row in members]
        if any(answers):
            assert not pruner.nothing
            assert pruner.keeps_partition(0, values)
            assert pruner.keeps_file(file)
        if whole.matches(file, 0, values):
            assert all(answers)


@pytest.mark.parametrize(
    ("predicate", "column", "row"),
    [
        (Compare("i", ">", 5), "i", 3),
        (Compare("s", "=", "b"), "s", "a"),
        (Compare("d", "<", date(2026, 1, 1)), "d", date(2026, 1, 2)),
        (Compare("t", ">=", START + timedelta(days=1)), "t", START),
        (Compare("n", "=", Decimal("1.2")), "n", Decimal("1.30")),
        (Compare("x", "<", 1), "x", 2.0),
        (Compare("u", "=", UUID(int=1)), "u", UUID(int=2)),
        (IsIn("i", frozenset(range(1000))), "i", -1),
        (StartsWith("s", "ab"), "s", "b"),
        (IsNull("b"), "b", True),
        (NotNull("b"), "b", None),
    ],
    ids=str,
)
def test_pruning_leaves_out_what_cannot_match(predicate: Predicate, column: str, row: Any) -> None:
    ((file, _),) = described([row], column, parse_partition([], SCHEMA), counted=True)
    assert not Pruner(predicate, SCHEMA, {0: parse_partition([], SCHEMA)}).keeps_file(file)


@pytest.mark.parametrize(
    ("predicate", "words", "row"),
    [
        (Compare("i", "=", 5), "bucket(16, i)", 6),
        (Compare("i", "=", 5), "truncate(4, i)", 8),
        (Compare("d", "<", date(2026, 1, 5)), "month(d)", date(2026, 2, 1)),
        (Compare("t", "=", START), "hour(t)", START + timedelta(hours=1)),
        (Compare("u", "=", UUID(int=1)), "u", UUID(int=2)),
    ],
    ids=str,
)
def test_partitions_leave_out_what_cannot_match(predicate: Predicate, words: str, row: Any) -> None:
    spec = parse_partition([words], SCHEMA)
    ((file, _),) = described([row], predicate.column, spec, counted=True)  # type: ignore[attr-defined]
    assert not Pruner(predicate, SCHEMA, {0: spec}).keeps_partition(0, partition_values(file))


@pytest.mark.parametrize(
    "predicate",
    [
        Compare("i", "=", "five"),
        Compare("i", "=", 5.5),
        Compare("i", "=", True),
        Compare("n", "=", Decimal("0.001")),
        Compare("n", "=", Decimal("1e30")),
        Compare("t", ">", datetime(2026, 1, 1)),
        Compare("d", ">", START),
        Compare("x", "=", nan),
        Compare("b", "=", 1),
        StartsWith("i", "1"),
    ],
    ids=str,
)
def test_what_iceberg_cannot_say_counts_as_maybe(predicate: Predicate) -> None:
    assert to_iceberg(predicate, SCHEMA) == to_iceberg(Everything(), SCHEMA)
    assert to_iceberg(predicate, SCHEMA, strict=True) == to_iceberg(Nothing(), SCHEMA)


def test_a_number_beyond_the_columns_type_is_answered_rightly() -> None:
    assert Pruner(Compare("i", "=", 2**70), SCHEMA, {}).nothing
    assert not Pruner(Compare("i", "<", 2**70), SCHEMA, {}).nothing


def test_an_unknown_column_is_named() -> None:
    with pytest.raises(ColumnNotFound):
        to_iceberg(Compare("q", "=", 1), SCHEMA)
