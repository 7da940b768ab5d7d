from __future__ import annotations

import datetime as dt
from decimal import Decimal
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from iceblink.load.cache.entry import laid_out, opened, seal

numbers, texts = st.integers(0, 9), st.text(max_size=3)
pairs = st.dictionaries(texts, numbers, max_size=2).map(lambda found: list(found.items()))
KINDS: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    (pa.int8(), st.integers(-128, 127)),
    (pa.float64(), st.floats(allow_nan=False)),
    (pa.bool_(), st.booleans()),
    (pa.string(), st.text(max_size=40)),
    (pa.string_view(), st.text(max_size=40)),
    (pa.large_binary(), st.binary(max_size=9)),
    (pa.decimal128(9, 2), st.integers(-9999, 9999).map(lambda cents: Decimal(cents) / 100)),
    (pa.timestamp("us", "UTC"), st.datetimes(timezones=st.just(dt.UTC), min_value=dt.datetime(1900, 1, 1))),
    (pa.dictionary(pa.int32(), pa.string()), st.sampled_from(["a", "ä", ""])),
    (pa.list_(pa.int32()), st.lists(st.none() | numbers, max_size=3)),
    (pa.list_(pa.float32(), 2), st.lists(numbers.map(float), min_size=2, max_size=2)),
    (pa.struct([("x", pa.int64()), ("ÿ", pa.string())]), st.fixed_dictionaries({"x": numbers, "ÿ": texts})),
    (pa.map_(pa.string(), pa.int64()), pairs),
    (pa.null(), st.none()),
]  # fmt: skip


def entry_of(table: pa.Table) -> pa.Buffer:
    pieces = laid_out(table)
    return pa.py_buffer(b"".join([*pieces, seal(pieces)]))


def rows_of(entry: pa.Buffer) -> pa.Table:
    found = opened(entry)
    assert found is not None
    found[0].validate(full=True)
    return found[0]


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=4))
    schema = pa.schema([pa.field(f"ä{number}", dtype) for number, (dtype, _) in enumerate(kinds)], {"from": "ö"})
    batches = [
        pa.record_batch(
            [pa.array(draw(st.lists(st.none() | some, min_size=n, max_size=n)), dtype) for dtype, some in kinds],
            schema=schema,
        )
        for n in draw(st.lists(st.integers(0, 9), max_size=3))
    ]
    table = pa.Table.from_batches(batches, schema)
    return table.slice(draw(st.integers(0, 3)))


@given(tables())
@settings(max_examples=60, deadline=None)
def test_rows_of_every_type_come_back(table: pa.Table) -> None:
    got = rows_of(entry_of(table))
    assert got.schema.equals(table.schema, check_metadata=True)
    assert got.equals(table)


def test_rows_without_columns_come_back() -> None:
    assert rows_of(entry_of(pa.table({"x": [1, 2, 3]}).select([]))).num_rows == 3


def test_tensors_come_back_as_tensors() -> None:
    column = pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(24, dtype=np.float32).reshape(4, 2, 3))
    got = rows_of(entry_of(pa.table({"x": column})))
    assert isinstance(got.schema.field("x").type, pa.FixedShapeTensorType)
    assert got.column("x").chunk(0).to_numpy_ndarray().shape == (4, 2, 3)


def test_every_buffer_is_aligned_and_none_is_copied() -> None:
    columns = {
        "a": pa.array([1, None, 3], pa.int8()),
        "b": pa.array(["x", "yes", None]),
        "c": pa.array([True, None, False]),
        "d": pa.array(["p", "q", "p"]).dictionary_encode(),
        "e": pa.array([[1.0], [], [2.0, 3.0]]),
    }
    entry = entry_of(pa.concat_tables([pa.table(columns)] * 3))
    arrays = [chunk for column in rows_of(entry).columns for chunk in column.chunks]
    arrays += [array.dictionary for array in arrays if isinstance(array, pa.DictionaryArray)]
    buffers = [buffer for array in arrays for buffer in array.buffers() if buffer is not None]
    assert len(buffers) > 30
    assert {(buffer.address - entry.address) % 64 for buffer in buffers} == {0}
    assert all(entry.address <= buffer.address < entry.address + entry.size for buffer in buffers)


def test_any_reader_of_arrow_streams_reads_an_entry() -> None:
    table = pa.table({"x": [1, 2, None]})
    assert pa.ipc.open_stream(entry_of(table)).read_all().equals(table)


SMALL = bytes(entry_of(pa.table({"x": [1, None, 3], "s": ["a", "b", None]})))


def test_a_flipped_bit_is_noticed_wherever_it_is() -> None:
    for at in range(len(SMALL)):
        changed = bytearray(SMALL)
        changed[at] ^= 1 << at % 8
        assert opened(pa.py_buffer(bytes(changed))) is None, at


def test_an_entry_cut_short_or_gone_on_is_noticed() -> None:
    for size in range(len(SMALL)):
        assert opened(pa.py_buffer(SMALL[:size])) is None, size
    assert opened(pa.py_buffer(SMALL + b"\0")) is None


@given(st.binary(max_size=200))
def test_garbage_is_noticed(garbage: bytes) -> None:
    assert opened(pa.py_buffer(garbage)) is None
    assert opened(pa.py_buffer(garbage + seal([garbage]))) is None, "its checksum fits, but it is no table"


PAGES = bytes(entry_of(pa.table({"x": np.arange(4000)})))  # 32,000 bytes of rows


@given(st.lists(st.integers(0, len(PAGES) - 12), max_size=6))
def test_the_seal_does_not_depend_on_how_the_bytes_are_cut(cuts: list[int]) -> None:
    bounds = [0, *sorted(cuts), len(PAGES) - 12]
    assert seal(PAGES[begin:end] for begin, end in pairwise(bounds)) == PAGES[-12:]


def test_a_page_that_is_lost_and_pages_that_changed_places_are_noticed() -> None:
    before, first, second, after = PAGES[:4096], PAGES[4096:8192], PAGES[8192:12288], PAGES[12288:]
    assert opened(pa.py_buffer(before + first + second + after)) is not None
    assert opened(pa.py_buffer(before + second + first + after)) is None
    assert opened(pa.py_buffer(before + bytes(4096) + second + after)) is None
    assert opened(pa.py_buffer(before + second + after)) is None


def test_bytes_verified_before_are_not_verified_again_but_under_another_seal() -> None:
    changed = bytearray(SMALL)
    changed[-80] ^= 1  # behind the last row
    assert opened(pa.py_buffer(bytes(changed)), SMALL[-12:]) is not None
    assert opened(pa.py_buffer(bytes(changed)), b"x" * 12) is None
