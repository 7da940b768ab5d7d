"""Filters of scans on their way: what we send is what a server reads, and what it cannot read keeps every file."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg import expressions
from pyiceberg.expressions import AlwaysFalse, AlwaysTrue, And, Not, Or
from pyiceberg.expressions.visitors import bind

from iceblink.lake.expressions import to_iceberg
from iceblink.lake.json_values import from_json, to_json
from iceblink.lake.remote_planning import filter_json
from iceblink.lake.served.filters import DEEPEST, parsed_filter
from iceblink.lake.served.refusal import Refusal
from iceblink.lake.values import Inexpressible, to_stored
from unit.lake.test_pruning import SCHEMA, VALUES, predicates

iceberg: Any = expressions  # mypy sees pydantic's constructors there, not those that the classes have
KNOWN: dict[str, Any] = {"type": "eq", "term": "i", "value": 1}
UNKNOWN: dict[str, Any] = {"type": "eq", "term": {"type": "transform", "transform": "day", "term": "d"}, "value": "x"}


@pytest.mark.parametrize("column", sorted(VALUES))
@settings(max_examples=12)
@given(data=st.data())
def test_a_filter_is_read_as_it_was_sent(column: str, data: st.DataObject) -> None:
    asked = to_iceberg(data.draw(predicates(column)), SCHEMA)
    sent = json.loads(json.dumps(filter_json(asked, SCHEMA), allow_nan=False))
    read, exact = parsed_filter(sent, SCHEMA, True)
    assert exact
    assert bind(SCHEMA, read, True) == bind(SCHEMA, asked, True)


@pytest.mark.parametrize("column", sorted(VALUES))
@settings(max_examples=12)
@given(data=st.data())
def test_a_value_comes_back_as_it_was(column: str, data: st.DataObject) -> None:
    kind, value = SCHEMA.find_field(column).field_type, data.draw(VALUES[column])
    shown = json.loads(json.dumps(to_json(kind, value if value != value else to_stored(value, kind)), allow_nan=False))
    assert repr(from_json(kind, shown)) == repr(value)


def test_what_cannot_be_said_is_maybe_and_never_negated() -> None:
    both = {"type": "and", "left": KNOWN, "right": UNKNOWN}
    assert parsed_filter(UNKNOWN, SCHEMA, True) == (AlwaysTrue(), False)
    assert parsed_filter({"type": "not", "child": UNKNOWN}, SCHEMA, True) == (AlwaysTrue(), False)
    assert parsed_filter({"type": "or", "left": KNOWN, "right": UNKNOWN}, SCHEMA, True) == (AlwaysTrue(), False)
    assert parsed_filter(both, SCHEMA, True) == (iceberg.EqualTo("i", 1), False)
    assert parsed_filter({"type": "not", "child": both}, SCHEMA, True) == (AlwaysTrue(), False)
    assert parsed_filter({**KNOWN, "value": "one"}, SCHEMA, True) == (AlwaysTrue(), False)
    assert parsed_filter({**KNOWN, "value": 1.5}, SCHEMA, True) == (AlwaysTrue(), False)
    assert parsed_filter({"type": "starts-with", "term": "i", "value": "1"}, SCHEMA, True) == (AlwaysTrue(), False)


def test_expressions_of_other_clients_are_read() -> None:
    none, two = {"type": "not-in", "term": "i", "values": []}, {"type": "in", "term": "i", "values": [1, 2]}
    assert parsed_filter(None, SCHEMA, True) == (AlwaysTrue(), True)
    assert parsed_filter(False, SCHEMA, True) == parsed_filter({"type": "false"}, SCHEMA, True) == (AlwaysFalse(), True)
    assert parsed_filter(none, SCHEMA, True) == (AlwaysTrue(), True)
    assert parsed_filter({"type": "not", "child": two}, SCHEMA, True) == (Not(iceberg.In("i", {1, 2})), True)
    assert parsed_filter({**KNOWN, "term": {"type": "reference", "term": "I"}}, SCHEMA, False) == (
        iceberg.EqualTo("i", 1),
        True,
    )
    nested = {"type": "or", "left": {"type": "and", "left": KNOWN, "right": two}, "right": KNOWN}
    assert parsed_filter(nested, SCHEMA, True)[0] == Or(
        And(iceberg.EqualTo("i", 1), iceberg.In("i", {1, 2})), iceberg.EqualTo("i", 1)
    )


def deep(levels: int) -> dict[str, Any]:
    found = KNOWN
    for _ in range(levels):
        found = {"type": "not", "child": {"type": "and", "left": found, "right": KNOWN}}
    return found


@pytest.mark.parametrize(
    "value",
    [
        7,
        "i = 1",
        [],
        {},
        {"type": "like", "term": "i", "value": 1},
        {"type": "eq", "term": "i"},
        {"type": "eq", "term": 7, "value": 1},
        {"type": "eq", "term": "q", "value": 1},
        {"type": "eq", "term": "I", "value": 1},
        {"type": "in", "term": "i", "values": 1},
        {"type": "and", "left": KNOWN},
        deep(DEEPEST),
    ],
)
def test_what_is_no_filter_is_refused(value: Any) -> None:
    with pytest.raises(Refusal) as refused:
        parsed_filter(value, SCHEMA, True)
    assert refused.value.status == 400


@settings(max_examples=30)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=3))
def test_no_value_of_a_stranger_is_a_bug(value: Any) -> None:
    for field in SCHEMA.fields:
        try:
            to_stored(from_json(field.field_type, value), field.field_type)
        except Inexpressible:
            continue
