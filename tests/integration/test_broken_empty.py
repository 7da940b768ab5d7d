"""No rows, one row, and nothing but nulls: every type goes through the verbs and the write modes."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

import iceblink as ib
from iceblink import _
from iceblink.types import WORDS, to_schema

TYPES = [
    *(word for word in WORDS if not word.endswith("_ns")),
    "decimal(10,2)", "fixed(3)", "list<int>", "map<string, int>", 'struct<a: int, "b c": string>', "tensor<float>[2,2]",
]  # fmt: skip

VERBS: dict[str, Any] = {
    "filter": lambda t: t.filter(_.v.isnull()),
    "mutate": lambda t: t.mutate(w=_.v),
    "order": lambda t: t.order_by("v"),
    "distinct": lambda t: t.distinct("id"),
    "join": lambda t: t.join(t.select("id", w=_.v), on="id"),
    "outer": lambda t: t.join(t.select("id", w=_.v), on="id", how="outer"),
    "group": lambda t: t.group_by("id", "v").agg(n=_.count()),
    "shuffle": lambda t: t.shuffle(),
    "sql": lambda t: t.sql("SELECT * FROM this WHERE v IS NULL"),
    "map_batches": lambda t: t.map_batches(lambda batch: batch, schema=t.schema),
}


@pytest.mark.parametrize("rows", [0, 1, 3])
@pytest.mark.parametrize("word", TYPES)
def test_nulls_of_every_type_are_kept_by_every_verb_and_mode(lake: ib.Lake, word: str, rows: int) -> None:
    schema = to_schema({"id": "long", "v": word})
    data = pa.table([pa.array(range(rows), pa.int64()), pa.nulls(rows, schema.field("v").type)], schema=schema)
    expected = [{"id": number, "v": None} for number in range(rows)]
    table = lake.write("n.t", data, "create", sort_by=["id"])
    assert {name: verb(table).to_arrow().num_rows for name, verb in VERBS.items()} == dict.fromkeys(VERBS, rows)
    assert table.agg(n=_.v.count()).to_pylist() == [{"n": 0}]
    assert table.union(table).count() == 2 * rows
    assert len(table.to_pandas()) == len(table.to_polars()) == rows
    for mode, options in (
        ("overwrite", {}),
        ("overwrite", {"where": _.id >= 0}),
        ("upsert", {"on": "id"}),
        ("replace", {"partition_by": ["id"]}),
        ("overwrite", {"partitions": "dynamic"}),
    ):
        written = lake.write("n.t", data, mode, **options)
        assert written.order_by("id").to_pylist() == expected, (mode, options)
        assert written.schema.field("v").type == schema.field("v").type
    assert lake.write("n.t", data).count() == 2 * rows
