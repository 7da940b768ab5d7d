"""Every row comes once, in order, in bounded batches, or an error names the damaged file."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iceblink.config import MIB, Settings
from iceblink.errors import DataCorrupt
from iceblink.events import Event, ScanPlanned, SplitRead, observing
from iceblink.lake.catalog import Catalog
from iceblink.lake.commit import Commit
from iceblink.lake.table import Table
from iceblink.lake.write import TableWriter
from iceblink.predicate import Compare, Everything
from iceblink.scan.pieces import whole_file
from iceblink.scan.plan import plan_files, plan_scan
from iceblink.scan.read import read_scan, read_split
from iceblink.scan.split import WHOLE_FILE
from iceblink.scan.thrift import read_struct

HandMade = Any  # see conftest.py
Make = Callable[[pa.Schema], HandMade]

SCHEMA = pa.schema(
    [
        pa.field("x", pa.int64(), metadata={"PARQUET:field_id": "1"}),
        pa.field("s", pa.string(), metadata={"PARQUET:field_id": "2"}),
        pa.field(
            "l",
            pa.list_(pa.field("element", pa.int64(), metadata={"PARQUET:field_id": "4"})),
            metadata={"PARQUET:field_id": "3"},
        ),
    ]
)


def data(first: int, rows: int) -> pa.Table:
    numbers = range(first, first + rows)
    lists = [None if x % 5 == 0 else list(range(x % 4)) for x in numbers]
    return pa.table(
        [list(numbers), [None if x % 6 == 5 else f"s{x % 7}" * (x % 3) for x in numbers], lists], schema=SCHEMA
    )


def filled(make: Make, files: list[tuple[int, int]]) -> HandMade:
    table = make(SCHEMA)
    first = 0
    for rows, group_rows in files:
        table.add(data(first, rows), group_rows)
        first += rows
    return table


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(
    files=st.lists(st.tuples(st.integers(0, 40), st.integers(1, 40)), min_size=1, max_size=5),
    split_bytes=st.sampled_from([1, 200, 1000, 1 << 20]),
    batch_bytes=st.sampled_from([1, 60, 500, 1 << 20]),
    batch_rows=st.integers(1, 50),
    threads=st.integers(1, 3),
)
def test_every_row_comes_once_and_in_order(
    hand_made: Make,
    files: list[tuple[int, int]],
    split_bytes: int,
    batch_bytes: int,
    batch_rows: int,
    threads: int,
) -> None:
    table = filled(hand_made, files)
    given = {"split_bytes": split_bytes, "batch_bytes": batch_bytes, "batch_rows": batch_rows, "threads": threads}
    expected = data(0, sum(rows for rows, _ in files)).to_pylist()
    batches = table.batches(**given)
    assert [row for batch in batches for row in batch.data.to_pylist()] == expected
    assert all(0 < batch.data.num_rows <= batch_rows for batch in batches)
    starts = {entry.path: first for entry, first in zip(table.entries, firsts(files), strict=True)}
    assert all(batch.data["x"][0].as_py() == starts[batch.path] + batch.first_row for batch in batches)
    chosen = table.settings.override(**given)
    plan = table.plan(**given)
    one_by_one = [b for split in plan.splits for b in read_split(split, table.schema, table.storage, chosen)]
    assert [row for batch in one_by_one for row in batch.data.to_pylist()] == expected


def firsts(files: list[tuple[int, int]]) -> Iterator[int]:
    first = 0
    for rows, _ in files:
        yield first
        first += rows


def test_batches_are_bounded_in_bytes_whether_decoded_whole_or_streamed(hand_made: Make) -> None:
    table = filled(hand_made, [(1000, 1000)])
    for batch_bytes in (1_000, 20_000):  # of some 38,000
        batches = table.batches(batch_bytes=batch_bytes)
        assert sum(batch.data.num_rows for batch in batches) == 1000
        assert all(batch.data.nbytes <= 1.3 * batch_bytes for batch in batches)


def test_columns_come_in_the_order_asked_for(hand_made: Make) -> None:
    table = filled(hand_made, [(3, 3)])
    assert table.rows(("l", "x")) == [{"l": None, "x": 0}, {"l": [0], "x": 1}, {"l": [0, 1], "x": 2}]


def test_rows_are_counted_without_columns(hand_made: Make) -> None:
    table = filled(hand_made, [(30, 7), (5, 5)])
    assert sum(batch.data.num_rows for batch in table.batches(())) == 35


def test_the_first_batch_is_there_before_the_second_file_is_opened(hand_made: Make) -> None:
    table = filled(hand_made, [(10, 10), (10, 10)])
    plan = table.plan()
    Path(table.entries[1].path).unlink()
    with closing(read_scan(plan, table.storage, table.settings.override(threads=1))) as batches:
        assert next(batches).data.num_rows == 10
        with pytest.raises(DataCorrupt):
            next(batches)


def test_a_reader_that_stops_stops_the_threads(hand_made: Make) -> None:
    table = filled(hand_made, [(100, 10)] * 4)
    batches = read_scan(table.plan(), table.storage, table.settings.override(batch_rows=1))
    next(batches)
    batches.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("iceblink-scan")]


def test_a_split_is_decoded_with_one_thread_where_there_is_one(
    hand_made: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = filled(hand_made, [(20, 5)])
    threads = []
    read = pq.ParquetFile.read_row_group

    def noted(file: pq.ParquetFile, *args: Any, use_threads: bool, **others: Any) -> pa.Table:
        threads.append(use_threads)
        return read(file, *args, use_threads=use_threads, **others)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", noted)
    for split in table.plan().splits:
        assert list(read_split(split, table.schema, table.storage, table.settings.override(threads=1)))
    assert threads == [False] * 4


def test_the_residual_prunes_row_groups_but_filters_no_rows(hand_made: Make) -> None:
    table = filled(hand_made, [(20, 5), (20, 5)])
    got = [x for batch in table.batches(("s", "x"), Compare("x", ">", 31)) for x in batch.data["x"].to_pylist()]
    assert got == list(range(30, 40))


def test_splits_of_files_whose_footers_were_not_read_are_pruned_when_read(
    hand_made: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("iceblink.scan.plan.FOOTERS_READ", 1)
    table = filled(hand_made, [(20, 5), (20, 5)])
    plan = table.plan(predicate=Compare("x", ">", 31))
    assert [piece.groups for piece in plan.pieces] == [-1, -1]
    got = [x for b in read_scan(plan, table.storage, table.settings) for x in b.data["x"].to_pylist()]
    assert got == list(range(30, 40))
    assert [row["x"] for row in table.rows()] == list(range(40))


def test_observers_hear_of_the_plan_and_of_each_split(hand_made: Make) -> None:
    table = filled(hand_made, [(100, 10)] * 2)
    heard: list[Event] = []
    with observing(heard.append):
        plan = table.plan(split_bytes=1500)
        batches = read_scan(plan, table.storage, table.settings)
    list(batches)  # outside the block: whoever asked for the scan is told
    planned, *read = heard
    assert isinstance(planned, ScanPlanned)
    assert (planned.table, planned.files, planned.rows) == ("demo.t", 2, 200)
    assert [event.rows for event in read if isinstance(event, SplitRead)] == [split.rows for split in plan.splits]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-50])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def not_parquet(path: Path) -> None:
    path.write_bytes(b"x" * path.stat().st_size)


@pytest.mark.parametrize("damage", [os.remove, cut, emptied, not_parquet])
@pytest.mark.parametrize("when", ["before planning", "before reading"])
def test_a_damaged_file_is_named(hand_made: Make, damage: Callable[[Path], None], when: str) -> None:
    table = filled(hand_made, [(10, 5), (10, 5)])
    path = table.entries[1].path
    plan = table.plan() if when == "before reading" else None
    damage(Path(path))
    with pytest.raises(DataCorrupt) as caught:
        list(read_scan(plan or table.plan(), table.storage, table.settings))
    assert caught.value.where.startswith(f"table demo.t, snapshot 7, file {path}")
    assert "earlier snapshot" in caught.value.hint


def test_a_file_with_other_rows_than_the_metadata_says_is_damaged(hand_made: Make) -> None:
    table = filled(hand_made, [(10, 5)])
    other = table.write(data(0, 9))
    Path(other).rename(table.entries[0].path)
    table.entries[0] = type(table.entries[0])(table.entries[0].path, 1, 10, 0, {}, {}, {}, {}, {}, {})
    with pytest.raises(DataCorrupt, match="9 rows, the table's metadata says 10"):
        table.plan()


def test_other_rows_than_the_metadata_says_are_found_where_the_footer_was_not_read_before(
    hand_made: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("iceblink.scan.plan.FOOTERS_READ", 1)
    monkeypatch.setattr("iceblink.scan.plan.FOOTERS_SAMPLED", 1)
    table = filled(hand_made, [(10, 5), (10, 5)])
    whole = [whole_file(entry) for entry in table.entries]
    plan = plan_files(table, whole, table.settings)
    assert [piece.groups for piece in plan.pieces] == [WHOLE_FILE, WHOLE_FILE]
    read = pa.Table.from_batches([batch.data for batch in read_scan(plan, table.storage, table.settings)], SCHEMA)
    assert read.to_pylist() == data(0, 20).to_pylist()
    plan = plan_files(table, [whole[0], replace(whole[1], rows=11)], table.settings)
    with pytest.raises(DataCorrupt, match="10 rows, the table's metadata says 11"):
        list(read_scan(plan, table.storage, table.settings))


def test_no_flipped_bit_of_a_page_goes_unnoticed(hand_made: Make) -> None:
    """A flip is an error that names its row group, or it lies where no reader looks and changes nothing."""
    table = hand_made(SCHEMA)
    path = Path(table.add(data(0, 40), max_rows_per_page=20, write_batch_size=10))
    plan = table.plan()
    good, expected = path.read_bytes(), table.rows()
    bits = [flip for header, body, end in pages(path) for flip in flips(header, body, end)]
    named: list[bool] = []
    for at, bit in bits:
        bad = bytearray(good)
        bad[at] ^= 1 << bit
        path.write_bytes(bad)
        try:
            batches = list(read_split(plan.splits[0], table.schema, table.storage, table.settings))
        except DataCorrupt as error:
            named.append("row group" in error.where)
        else:
            assert [row for batch in batches for row in batch.data.to_pylist()] == expected, (at, bit)
    assert all(named)
    assert len(named) > len(bits) / 2


def pages(path: Path) -> Iterator[tuple[int, int, int]]:
    """Yield where the header of each page begins, where its body begins, and where it ends."""
    metadata, content = pq.read_metadata(path), path.read_bytes()
    for group, leaf in product(range(metadata.num_row_groups), range(metadata.num_columns)):
        chunk = metadata.row_group(group).column(leaf)
        at = chunk.dictionary_page_offset
        end = at + chunk.total_compressed_size
        while at < end:
            header, body = read_struct(content, {3: None}, at)
            yield at, body, body + header[3]
            at = body + header[3]


def flips(header: int, body: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield every bit of a page's header, which no checksum covers, and one of every second byte of its body."""
    yield from product(range(header, body), range(8))
    yield from ((at, at % 8) for at in range(body, end, 2))


SMALL = Settings(threads=2, memory_bytes=64 * MIB)


def written(table: Table, columns: dict[str, Any]) -> Table:
    types = {name: table.schema.field(name).type for name in columns}
    batch = pa.record_batch({name: pa.array(values, types[name]) for name, values in columns.items()})
    with TableWriter(table, SMALL) as writer:
        writer.write(batch)
        files = writer.finish()
    return Commit(table).append(files).run()


def test_tables_of_the_lake_are_read_through_their_evolution(tmp_path: Path) -> None:
    catalog = Catalog.embedded(tmp_path)
    table = catalog.create("demo.t", {"id": "int", "part": "string", "inner": "struct<a: int>"}, ["part"])
    table = written(table, {"id": [1, 2], "part": ["x", "y"], "inner": [{"a": 1}, None]})
    wider = pa.schema(
        [("id", pa.int64()), ("part", pa.string()), ("inner", pa.struct([("a", pa.int32())])), ("added", pa.string())]
    )
    table = Commit(table).evolve(wider).run()
    table = written(table, {"id": [1 << 40], "part": ["x"], "inner": [{"a": 2}], "added": ["new"]})
    plan = plan_scan(table, ("added", "id", "part", "inner"), Everything(), SMALL)
    rows = [row for batch in read_scan(plan, table.storage, SMALL) for row in batch.data.to_pylist()]
    assert sorted(rows, key=lambda row: int(row["id"])) == [
        {"added": None, "id": 1, "part": "x", "inner": {"a": 1}},
        {"added": None, "id": 2, "part": "y", "inner": None},
        {"added": "new", "id": 1 << 40, "part": "x", "inner": {"a": 2}},
    ]
    pruned = plan_scan(table, ("id",), Compare("part", "=", "y"), SMALL)
    assert (pruned.files, pruned.files_total, pruned.rows) == (1, 3, 1)
