"""Updates made exact: whatever ids a client sends, those of a table stay unlike each other."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata, new_table_metadata
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER
from pyiceberg.table.update import update_table_metadata
from pyiceberg.types import LongType, NestedField

from iceblink.lake.served.refusal import Refusal
from iceblink.lake.served.updates import exact, parse_commit

FIELDS = [{"id": number, "name": f"c{number}", "type": "long", "required": False} for number in range(1, 5)]


def a_table() -> TableMetadata:
    schema = Schema(*(NestedField(number, f"c{number}", LongType()) for number in range(1, 5)))
    return new_table_metadata(schema, UNPARTITIONED_PARTITION_SPEC, UNSORTED_SORT_ORDER, "/lake/n/t", {"a": "1"})


def applied(base: TableMetadata, updates: list[dict[str, Any]]) -> TableMetadata:
    _, read = parse_commit(["n"], "t", {"updates": updates})
    return update_table_metadata(base, exact(base, read), enforce_validation=True)


SCHEMAS = st.builds(
    lambda width, number: {
        "action": "add-schema",
        "schema": {"type": "struct", "schema-id": number, "fields": FIELDS[:width]},
    },
    st.integers(1, 4),
    st.integers(0, 3),
)
SPECS = st.builds(
    lambda source, number, field: {
        "action": "add-spec",
        "spec": {
            "spec-id": number,
            "fields": [
                {"source-id": source, "name": f"p{source}", "transform": "identity"}
                | ({} if field is None else {"field-id": field})
            ],
        },
    },
    st.integers(1, 4),
    st.none() | st.integers(0, 3),
    st.none() | st.integers(1000, 1003),
)
ORDERS = st.builds(
    lambda direction, number: {
        "action": "add-sort-order",
        "sort-order": {
            "order-id": number,
            "fields": [{"source-id": 1, "transform": "identity", "direction": direction, "null-order": "nulls-first"}],
        },
    },
    st.sampled_from(["asc", "desc"]),
    st.integers(0, 3),
)


@settings(max_examples=50)
@given(st.lists(SCHEMAS | SPECS | ORDERS, max_size=8))
def test_ids_stay_unlike_each_other_and_minus_one_means_the_last_one(updates: list[dict[str, Any]]) -> None:
    base = a_table()
    wanted: dict[str, Any] = {}
    for update in updates:
        wanted[update["action"]] = update
    ends = {
        "add-schema": {"action": "set-current-schema", "schema-id": -1},
        "add-sort-order": {"action": "set-default-sort-order", "sort-order-id": -1},
    }
    after = applied(base, [*updates, *(ends[kind] for kind in wanted if kind in ends)])
    for ids in (
        [one.schema_id for one in after.schemas],
        [one.spec_id for one in after.partition_specs],
        [one.order_id for one in after.sort_orders],
    ):
        assert len(set(ids)) == len(ids)
    meanings = {field.field_id: set[Any]() for spec in after.partition_specs for field in spec.fields}
    for spec in after.partition_specs:
        for field in spec.fields:
            meanings[field.field_id].add((field.source_id, str(field.transform)))
    assert all(len(meant) == 1 for meant in meanings.values())
    assert after.last_partition_id == max([999, *meanings])
    if "add-schema" in wanted:
        shown = [field.field_id for field in after.schema().fields]
        assert shown == [field["id"] for field in wanted["add-schema"]["schema"]["fields"]]
    if "add-sort-order" in wanted:
        (sorted_by,) = after.sort_order().fields
        assert sorted_by.direction.value == wanted["add-sort-order"]["sort-order"]["fields"][0]["direction"]


def test_what_is_there_already_is_not_added_again() -> None:
    base = a_table()
    same = {"action": "add-schema", "schema": {"type": "struct", "schema-id": 5, "fields": FIELDS}}
    after = applied(base, [same, {"action": "set-current-schema", "schema-id": -1}])
    assert after.schemas == base.schemas
    assert after.current_schema_id == base.current_schema_id


@given(st.lists(st.sampled_from("abc"), max_size=4), st.lists(st.sampled_from("abc"), max_size=4))
def test_properties_end_as_a_dictionary_would(names: list[str], gone: list[str]) -> None:
    set_them = {"action": "set-properties", "updates": dict.fromkeys(names, "2")}
    after = applied(a_table(), [set_them, {"action": "remove-properties", "removals": gone}])
    assert after.properties == {k: v for k, v in ({"a": "1"} | dict.fromkeys(names, "2")).items() if k not in gone}


@pytest.mark.parametrize(
    ("action", "name"),
    [
        ("set-current-schema", "schema-id"),
        ("set-default-spec", "spec-id"),
        ("set-default-sort-order", "sort-order-id"),
    ],
)
def test_the_last_one_of_none_is_refused(action: str, name: str) -> None:
    with pytest.raises(Refusal) as caught:
        applied(a_table(), [{"action": action, name: -1}])
    assert caught.value.status == 400


def test_a_snapshot_that_others_overtook_can_be_made_anew() -> None:
    base = a_table().model_copy(update={"last_sequence_number": 5})
    snapshot = {
        "snapshot-id": 2,
        "parent-snapshot-id": 1,
        "sequence-number": 5,
        "timestamp-ms": 1,
        "manifest-list": "/lake/n/t/metadata/snap.avro",
        "summary": {"operation": "append"},
    }
    with pytest.raises(Refusal) as caught:
        applied(base, [{"action": "add-snapshot", "snapshot": snapshot}])
    assert (caught.value.status, caught.value.kind) == (409, "CommitFailedException")
