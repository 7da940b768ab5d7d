"""A table made anew in its place: which ids stay, and which are new."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pyiceberg.types import ListType

from iceblink.errors import ColumnNotFound, ConfigError
from iceblink.lake.catalog import Catalog
from iceblink.lake.commit import Commit
from iceblink.lake.replacement import Replacement, replaced
from iceblink.lake.table import Table
from iceblink.types import to_schema


@pytest.fixture
def table(tmp_path: Path) -> Table:
    shape = {"id": "long not null", "tags": "list<string>", "v": "tensor<float>[4]", "k": "string"}
    return Catalog.embedded(tmp_path).create("demo.t", shape, partition_by=["k", "bucket(4, id)"], sort_by=["id"])


def put(table: Table, schema: dict[str, Any], *words: Any) -> Table:
    to = Replacement(to_schema(schema), *words)
    planned = replaced(table, to)
    done = Commit(planned).replace(to, []).run()
    assert done.schema.equals(planned.schema, check_metadata=True)
    assert (done.partition_by, done.sort_by) == (planned.partition_by, planned.sort_by)
    return done


def ids(table: Table) -> dict[str, int]:
    return {field.name: field.field_id for field in table.iceberg_schema.fields}


def test_columns_of_equal_name_and_type_keep_their_ids(table: Table) -> None:
    last = table.pyiceberg.metadata.last_column_id
    after = put(table, {"v": "tensor<float>[2,2]", "tags": "list<string>", "id": "long", "k": "int"})
    kept, was = ids(after), ids(table)
    assert (kept["tags"], kept["id"]) == (was["tags"], was["id"])
    assert min(kept["v"], kept["k"]) > last
    assert not after.iceberg_schema.find_field("id").required
    assert after.schema.equals(to_schema({"v": "tensor<float>[2,2]", "tags": "list<string>", "id": "long", "k": "int"}))
    tags, before = (one.iceberg_schema.find_field("tags").field_type for one in (after, table))
    assert isinstance(tags, ListType)
    assert tags == before


def test_what_was_there_before_has_its_old_ids_again(table: Table) -> None:
    same = dict(zip(table.schema.names, table.schema.types, strict=True))
    other = put(table, {"id": "long", "n": "int"}, ("n",), ("-n",))
    assert (other.pyiceberg.spec().spec_id, other.pyiceberg.sort_order().order_id) == (1, 2)
    assert other.pyiceberg.spec().fields[0].field_id == 1002
    again = put(other, {"id": "long", "n": "int"}, ("n", "bucket(4, id)"), ("id",))
    assert [field.field_id for field in again.pyiceberg.spec().fields] == [1002, 1001]
    assert again.pyiceberg.sort_order().order_id == table.pyiceberg.sort_order().order_id
    assert again.schema_id == other.schema_id
    plain = put(again, same)
    assert (plain.partition_by, plain.sort_by) == ((), ())
    assert min(set(ids(plain).values()) - {1}) > 6


def test_a_branch_or_words_that_do_not_fit_are_refused(table: Table) -> None:
    put(table, {"id": "long"})
    newest = table.refresh()
    newest.pyiceberg.manage_snapshots().create_branch(newest.snapshot_id or 0, "dev").commit()
    with pytest.raises(ConfigError, match="branch"):
        replaced(newest.refresh().at(branch="dev"), Replacement(newest.schema))
    with pytest.raises(ColumnNotFound):
        replaced(newest, Replacement(newest.schema, partition_by=("k",)))
