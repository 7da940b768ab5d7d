"""No row that a predicate wants is ever pruned; plain Python decides what it wants."""

from __future__ import annotations

import datetime as dt
import math
import uuid
from collections.abc import Callable
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iceblink.lake.storage import Storage
from iceblink.predicate import (
    And,
    Compare,
    Everything,
    IsIn,
    IsNull,
    Nothing,
    NotNull,
    Operator,
    Or,
    Predicate,
    StartsWith,
)
from iceblink.scan.bloom import xxh64
from iceblink.scan.footer import Footer, read_footer
from iceblink.scan.prune import Bounds, kept_groups, within

STORAGE = Storage()
Row = dict[str, Any]


def at(path: Path, rows: list[Row], schema: pa.Schema, group_rows: int = 3, **options: Any) -> Footer:
    file = str(path / f"{uuid.uuid4()}.parquet")
    options = {"write_page_index": True, "store_decimal_as_integer": True, **options}
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), file, row_group_size=group_rows, **options)
    return read_footer(STORAGE, file, 1)


def kept(predicate: Predicate, footer: Footer, schema: pa.Schema | None = None, identity: Any = ()) -> list[int]:
    return kept_groups(predicate, footer, schema or footer.schema, identity, STORAGE)


def order(value: Any) -> tuple[bool, Any]:
    """Not-a-number is equal to itself and above all."""
    nan = isinstance(value, float) and math.isnan(value)
    return nan, 0.0 if nan else value


ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda x, y: order(x) == order(y),
    "!=": lambda x, y: order(x) != order(y),
    "<": lambda x, y: order(x) < order(y),
    "<=": lambda x, y: order(x) <= order(y),
    ">": lambda x, y: order(x) > order(y),
    ">=": lambda x, y: order(x) >= order(y),
}


def wants(predicate: Predicate, row: Row) -> bool:
    match predicate:
        case And(left, right):
            return wants(left, row) and wants(right, row)
        case Or(left, right):
            return wants(left, row) or wants(right, row)
        case Compare(name, op, value):
            return row[name] is not None and ORDERS[op](row[name], value)
        case IsIn(name, values):
            return row[name] is not None and any(ORDERS["="](row[name], value) for value in values)
        case StartsWith(name, prefix):
            return row[name] is not None and row[name].startswith(prefix)
        case IsNull(name):
            return row[name] is None
        case NotNull(name):
            return row[name] is not None
    return isinstance(predicate, Everything)


UTC = dt.UTC
VALUES: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "i": (pa.int32(), st.integers(-4, 4)),
    "n": (pa.int64(), st.integers(-(1 << 62), 1 << 62) | st.integers(-3, 3)),
    "f": (pa.float64(), st.sampled_from([math.nan, -0.0, 0.0, -math.inf, math.inf, 1.5, -2.0])),
    "g": (pa.float32(), st.sampled_from([math.nan, -0.0, 0.0, 1.5, -2.0])),
    "s": (pa.string(), st.text("aé\U0001f600z", max_size=3)),
    "b": (pa.binary(), st.binary(max_size=2)),
    "o": (pa.bool_(), st.booleans()),
    "d": (pa.decimal128(7, 2), st.sampled_from([Decimal("-1.25"), Decimal("0.00"), Decimal("99999.99")])),
    "e": (pa.decimal128(25, 2), st.sampled_from([Decimal("-1.25"), Decimal("0.00"), Decimal("99999.99")])),
    "t": (
        pa.timestamp("us", "UTC"),
        st.datetimes(dt.datetime(1969, 12, 30), dt.datetime(1970, 1, 3)).map(lambda t: t.replace(tzinfo=UTC)),
    ),
    "y": (pa.date32(), st.dates(dt.date(1969, 12, 30), dt.date(1970, 1, 3))),
}
SCHEMA = pa.schema([(name, dtype) for name, (dtype, _) in VALUES.items()])
OPERATORS: list[Operator] = ["=", "!=", "<", "<=", ">", ">="]


def comparisons(name: str) -> st.SearchStrategy[Predicate]:
    values = VALUES[name][1]
    return st.one_of(
        st.builds(Compare, st.just(name), st.sampled_from(OPERATORS), values),
        st.builds(IsIn, st.just(name), st.frozensets(values, min_size=1, max_size=3)),
        st.just(IsNull(name)),
        st.just(NotNull(name)),
    )


LEAVES = st.one_of(
    st.sampled_from(sorted(VALUES)).flatmap(comparisons),
    st.builds(StartsWith, st.just("s"), st.text("aé", max_size=2)),
    st.sampled_from([Everything(), Nothing()]),
)
PREDICATES = st.recursive(
    LEAVES, lambda inner: st.builds(And, inner, inner) | st.builds(Or, inner, inner), max_leaves=4
)
ROWS = st.lists(
    st.fixed_dictionaries({name: st.none() | values for name, (_, values) in VALUES.items()}), min_size=1, max_size=9
)


@given(rows=ROWS, predicates=st.lists(PREDICATES, min_size=4, max_size=12), bloom=st.booleans())
def test_no_wanted_row_is_pruned(
    rows: list[Row], predicates: list[Predicate], bloom: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    filters = {name: {"ndv": 8, "fpp": 0.01} for name in VALUES if name != "o"} if bloom else None
    footer = at(tmp_path_factory.getbasetemp(), rows, SCHEMA, bloom_filter_options=filters, max_rows_per_page=1)
    for predicate in predicates:
        needed = {index // 3 for index, row in enumerate(rows) if wants(predicate, row)}
        assert needed <= set(kept(predicate, footer))


@pytest.mark.parametrize("domain", [(1, 2, 3, 4), (-math.inf, -0.0, 0.0, 2.5, math.nan), ("", "a", "ab", "b")])
def test_bounds_never_exclude_a_value_that_is_there(domain: tuple[Any, ...]) -> None:
    """Every comparison with every value, of every set of up to three values."""
    comparisons: list[Predicate] = [Compare("x", op, value) for op in OPERATORS for value in domain]
    comparisons += [IsIn("x", frozenset(pair)) for pair in product(domain, repeat=2)]
    if isinstance(domain[0], str):
        comparisons += [StartsWith("x", prefix) for prefix in domain]
    for values in product(domain, repeat=3):
        counted = [value for value in values if value == value]  # statistics leave not-a-number out
        low, high = (min(counted), max(counted)) if counted else (None, None)
        bounds = Bounds(low, high, no_nulls=True, nan=isinstance(domain[0], float))
        for comparison in comparisons:
            if any(wants(comparison, {"x": value}) for value in values):
                assert within(comparison, bounds), (comparison, values)


def test_a_bloom_filter_does_not_tell_the_two_zeros_apart(tmp_path: Path) -> None:
    options = {"f": {"ndv": 10, "fpp": 1e-6}}
    footer = at(tmp_path, [{"f": -0.0}, {"f": 7.0}], pa.schema([("f", pa.float64())]), bloom_filter_options=options)
    assert kept(Compare("f", "=", 0.0), footer) == [0]
    assert kept(Compare("f", "=", 3.0), footer) == []


@pytest.mark.parametrize(
    ("predicate", "groups"),
    [
        (Compare("x", "=", 4), [1]),
        (Compare("x", ">", 4), [1]),
        (Compare("x", ">=", 6), []),
        (Compare("x", "!=", 1), [0, 1]),
        (IsIn("x", frozenset({0, 9})), [0]),
        (IsNull("x"), [2]),
        (NotNull("x"), [0, 1]),
        (Or(Compare("x", "<", 1), IsNull("x")), [0, 2]),
        (And(Compare("x", ">", 1), Compare("s", "=", "c0")), [0]),
        (StartsWith("s", "c4"), [1]),
        (Nothing(), []),
        (Everything(), [0, 1, 2]),
        (Compare("x", "<", "text"), [0, 1]),  # no order between the two: kept; but null is never less
    ],
)
def test_statistics_prune(predicate: Predicate, groups: list[int], tmp_path: Path) -> None:
    rows = [{"x": x, "s": None if x is None else f"c{x}"} for x in (0, 1, 2, 3, 4, 5, None, None, None)]
    footer = at(tmp_path, rows, pa.schema([("x", pa.int64()), ("s", pa.string())]))
    assert kept(predicate, footer) == groups


def test_an_upper_bound_of_floats_bounds_nothing_because_of_nan(tmp_path: Path) -> None:
    footer = at(tmp_path, [{"x": 1.0}, {"x": math.nan}], pa.schema([("x", pa.float64())]))
    assert kept(Compare("x", ">", 5.0), footer) == [0]
    assert kept(Compare("x", "=", 5.0), footer) == []
    assert kept(Compare("x", "<", 0.5), footer) == []


def test_a_bloom_filter_prunes_what_lies_between_the_bounds(tmp_path: Path) -> None:
    schema = pa.schema([("x", pa.int64()), ("u", pa.uuid()), ("d", pa.decimal128(9, 2)), ("s", pa.string())])
    ids = [uuid.UUID(int=2 * i) for i in range(100)]
    rows = [{"x": 2 * i, "u": ids[i].bytes, "d": Decimal(2 * i), "s": f"{2 * i:03}"} for i in range(100)]
    options = {name: {"ndv": 100, "fpp": 1e-6} for name in schema.names}
    footer = at(tmp_path, rows, schema, 100, bloom_filter_options=options, write_page_index=False)
    present = [("x", 100), ("u", uuid.UUID(int=100)), ("d", Decimal(100)), ("s", "100")]
    absent = [("x", 101), ("u", uuid.UUID(int=101)), ("d", Decimal(101)), ("s", "101")]
    for (name, here), (_, gone) in zip(present, absent, strict=True):
        assert kept(Compare(name, "=", here), footer) == [0]
        assert kept(Compare(name, "=", gone), footer) == []
        assert kept(IsIn(name, frozenset({gone, here})), footer) == [0]


def test_the_page_index_prunes_what_lies_between_the_pages(tmp_path: Path) -> None:
    rows = [{"x": x} for x in (*range(10), *range(90, 100))]
    footer = at(tmp_path, rows, pa.schema([("x", pa.int64())]), 20, max_rows_per_page=10, write_batch_size=10)
    assert kept(Compare("x", "=", 50), footer) == []
    assert kept(And(Compare("x", ">", 20), Compare("x", "<", 80)), footer) == []
    assert kept(Compare("x", "=", 95), footer) == [0]


def test_a_partition_value_stands_for_a_column_that_the_file_lacks(tmp_path: Path) -> None:
    def field(name: str, number: int) -> pa.Field:
        return pa.field(name, pa.int64(), metadata={"PARQUET:field_id": str(number)})

    footer = at(tmp_path, [{"x": 1}], pa.schema([field("x", 1)]))
    schema = pa.schema([field("x", 1), field("part", 2), field("added", 3)])
    assert kept(Compare("part", "=", 7), footer, schema, [(2, 7)]) == [0]
    assert kept(Compare("part", "=", 8), footer, schema, [(2, 7)]) == []
    assert kept(NotNull("added"), footer, schema) == []
    assert kept(IsNull("added"), footer, schema) == [0]


def test_the_hash_is_xxhash64() -> None:
    known = {
        b"": 0xEF46DB3751D8E999,
        b"a": 0xD24EC4F1A98C6E5B,
        b"abc": 0x44BC2CF5AD770999,
        b"Nobody inspects the spammish repetition": 0xFBCEA83C8A378BF1,
    }
    assert {text: xxh64(text) for text in known} == known
