from __future__ import annotations

import math
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iceblink.plan.stage import Order
from iceblink.run.distributed.exchange import KEY, PART, bounds_of, by_chance, by_hash, by_range, divided, with_sort_key
from iceblink.run.distributed.stage_work import SAMPLE, sampled

KEYS = pa.schema([("i", pa.int32()), ("f", pa.float64()), ("s", pa.string())])
rows = st.lists(
    st.tuples(
        st.none() | st.integers(-3, 3),
        st.none() | st.sampled_from([0.0, -0.0, 1.5, math.nan, -math.inf]),
        st.none() | st.sampled_from(["", "a", "aa", "ü", "\0"]),
    ),
    max_size=40,
)


def table(found: list[tuple[Any, ...]]) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(KEYS.names, row, strict=True)) for row in found], KEYS)


def numbered(found: list[tuple[Any, ...]], sql: str) -> pa.Table:
    connection = duckdb.connect()
    connection.register("t", table(found))
    return connection.sql(sql).to_arrow_table()


def plain(value: Any) -> Any:
    return "nan" if value != value else value + 0.0 if isinstance(value, float) else value


@given(found=rows, count=st.integers(1, 7), held_bytes=st.sampled_from([1, 1 << 20]))
def test_rows_with_equal_keys_go_to_one_partition_and_no_row_is_lost(
    found: list[tuple[Any, ...]], count: int, held_bytes: int
) -> None:
    batches = numbered(found, by_hash("SELECT * FROM t", KEYS.names, count)).to_batches()
    pieces = list(divided(batches, held_bytes * 8))
    homes: dict[tuple[Any, ...], int] = {}
    seen = []
    for piece in pieces:
        assert 0 <= piece.part < count
        assert piece.data.schema.names == KEYS.names
        for row in piece.data.to_pylist():
            key = tuple(map(plain, row.values()))
            assert homes.setdefault(key, piece.part) == piece.part
            seen.append(key)
    assert sorted(map(repr, seen)) == sorted(repr(tuple(map(plain, row))) for row in found)
    assert len({piece.part for piece in pieces}) == len(pieces)  # as large as they can be


@given(
    found=rows,
    count=st.integers(2, 5),
    order=st.lists(st.builds(Order, st.sampled_from(KEYS.names), st.booleans(), st.booleans()), min_size=1, max_size=3),
)
def test_ranges_follow_each_other_in_the_order_of_the_kernel(
    found: list[tuple[Any, ...]], count: int, order: list[Order]
) -> None:
    keyed = numbered(found, with_sort_key("SELECT * FROM t", order))
    outputs = list(sampled(iter(keyed.to_batches())))
    samples = [output.data.data for output in outputs if output.part == SAMPLE]
    told = [(row["key"], row["weight"]) for batch in samples for row in batch.to_pylist()]
    assert math.isclose(sum(weight for _, weight in told), len(found))
    bounds = bounds_of(told, count)
    assert len(bounds) < count
    connection = duckdb.connect()
    connection.register("keyed", keyed)
    parts = connection.sql(by_range("SELECT * FROM keyed", bounds)).to_arrow_table()
    assert parts.column_names == [*KEYS.names, PART]
    connection.register("parts", parts)
    words = ", ".join(
        f"{key.column} {'DESC' if key.descending else 'ASC'} NULLS {'FIRST' if key.nulls_first else 'LAST'}"
        for key in order
    )
    in_order = connection.sql(f'SELECT "{PART}" FROM parts ORDER BY {words}').fetchall()
    assert [part for (part,) in in_order] == sorted(part for (part,) in in_order)


@given(found=st.lists(st.integers(-(2**63), 2**63 - 1) | st.sampled_from([-(2**63), 2**63 - 1]), min_size=1))
def test_ranges_of_chance_follow_each_other_and_none_is_beyond_the_last(found: list[int]) -> None:
    connection = duckdb.connect()
    connection.register("t", pa.table({"c": pa.array(found, pa.int64())}))
    parts = connection.sql(f"FROM ({by_chance('SELECT * FROM t', 'c', 7)}) ORDER BY c").to_arrow_table()
    assert parts[PART].to_pylist() == sorted(parts[PART].to_pylist())
    assert parts[PART].to_pylist() == [min(6, int((value / 2**64 + 0.5) * 7)) for value in sorted(found)]


def test_samples_of_many_rows_are_few_and_divide_them_evenly() -> None:
    values = pa.array([(n * 7919) % 100_003 for n in range(100_000)])
    keyed = numbered_values(values)
    outputs = list(sampled(iter(keyed.to_batches(max_chunksize=3_000))))
    assert sum(output.data.data.num_rows for output in outputs if output.part != SAMPLE) == 100_000
    (sample,) = [output.data.data for output in outputs if output.part == SAMPLE]
    assert sample.num_rows <= 1024
    bounds = bounds_of(zip(sample["key"].to_pylist(), sample["weight"].to_pylist(), strict=True), 4)
    connection = duckdb.connect()
    connection.register("keyed", keyed)
    parts = by_range("SELECT * FROM keyed", bounds)
    sizes = connection.sql(f'SELECT count(*) FROM ({parts}) GROUP BY "{PART}"').fetchall()
    assert len(sizes) == 4
    assert max(size for (size,) in sizes) < 1.1 * 25_000


def numbered_values(values: pa.Array) -> pa.Table:
    connection = duckdb.connect()
    connection.register("t", pa.table({"i": values}))
    return connection.sql(with_sort_key("SELECT * FROM t", [Order("i")])).to_arrow_table()


@pytest.mark.parametrize("samples", [[], [(b"a", 1.0)], [(b"a", 5.0), (b"a", 5.0)]])
def test_few_different_keys_give_few_bounds(samples: list[tuple[bytes, float]]) -> None:
    assert len(bounds_of(samples, 8)) <= 1


def test_the_sort_key_is_no_column_of_the_rows_that_are_sent() -> None:
    keyed = numbered([(1, 1.0, "a")], with_sort_key("SELECT * FROM t", [Order("i")]))
    assert keyed.column_names[-1] == KEY
