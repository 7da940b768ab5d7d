"""The kernel is fed the columns it asks for, of the rows it asks for, and errors come out as they went in."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pytest

import iceblink as ib
from iceblink.config import Settings
from iceblink.errors import DataCorrupt
from iceblink.events import Event, SplitRead, observing
from iceblink.run.kernel import Kernel
from iceblink.run.source import Source

ROWS = pa.table({"a": [1, 2, 3], "b": ["x", "y", None], "c": [[1], [2, 3], None]})


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    opened = Kernel(Settings(threads=2, spill_dir=str(tmp_path)))
    yield opened
    opened.close()


class Recorded:
    """The rows, and what was asked of them; `expected` is what the planner thought."""

    def __init__(self, *expected: str) -> None:
        self.asked: list[set[str]] = []
        self.source = Source(ROWS.schema, self.open, expected)

    def open(self, columns: Sequence[str]) -> Generator[pa.RecordBatch, None, None]:
        self.asked.append(set(columns))
        yield from ROWS.select(list(columns)).to_batches()


def answer(kernel: Kernel, sql: str, source: Source) -> list[dict[str, object]]:
    schema = kernel.bind(sql, {"t": ROWS.schema})
    rows: list[dict[str, object]] = pa.Table.from_batches(
        kernel.stream(sql, {"t": source}, schema, 1000), schema
    ).to_pylist()
    return rows


def test_columns_that_are_named_but_not_needed_are_not_asked_for(kernel: Kernel) -> None:
    rows = Recorded("a")
    assert answer(kernel, "WITH s AS (SELECT a, b, c FROM t) SELECT sum(a) AS a FROM s", rows.source) == [{"a": 6}]
    assert rows.asked == [{"a"}]


def test_a_planner_that_expects_too_little_costs_no_value(kernel: Kernel) -> None:
    rows = Recorded("a")
    assert answer(kernel, "SELECT b FROM t ORDER BY c DESC", rows.source) == [{"b": "y"}, {"b": "x"}, {"b": None}]
    assert rows.asked == [{"b", "c"}]


def test_a_column_that_only_a_filter_needs_is_read(kernel: Kernel) -> None:
    assert answer(kernel, "SELECT a FROM t WHERE b = 'y'", Recorded("a", "b").source) == [{"a": 2}]


def test_a_source_is_opened_as_often_as_it_is_read(kernel: Kernel) -> None:
    rows = Recorded("a", "b", "c")
    assert answer(kernel, "SELECT l.a FROM t AS l JOIN t AS r ON l.b = r.b ORDER BY 1", rows.source) == [
        {"a": 1},
        {"a": 2},
    ]
    assert len(rows.asked) == 2


def test_the_error_of_a_source_arrives_as_it_is(kernel: Kernel) -> None:
    def broken(columns: Sequence[str]) -> Generator[pa.RecordBatch, None, None]:
        yield from ROWS.select(list(columns)).to_batches()
        raise DataCorrupt("a page is damaged", "t")

    with pytest.raises(DataCorrupt, match="a page is damaged"):
        answer(kernel, "SELECT a FROM t", Source(ROWS.schema, broken, ("a",)))


def test_a_table_that_we_decode_is_read_in_the_columns_needed(tmp_path: Path) -> None:
    values = pa.array([[float(n)] * 256 for n in range(200)], pa.list_(pa.float32(), 256))
    images = pa.FixedShapeTensorArray.from_storage(pa.fixed_shape_tensor(pa.float32(), [16, 16]), values)
    read: list[SplitRead] = []

    def observe(event: Event) -> None:
        if isinstance(event, SplitRead):
            read.append(event)

    with ib.connect(tmp_path) as lake:
        lake.write("n.t", pa.table({"id": range(200), "image": images}), "create")
        query = lake.sql("WITH s AS (SELECT id, image FROM n.t) SELECT sum(id) AS total FROM s")
        assert "is a tensor" in query.explain()
        with observing(observe):
            assert query.to_arrow().to_pylist() == [{"total": 19_900}]
    assert sum(split.rows for split in read) == 200
    assert sum(split.decoded_bytes for split in read) < 2_000  # the images take 200 KB
