"""The table writer: every row lands once, in files of the right size, in bounded memory, or not at all."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iceblink.config import MIB, Settings
from iceblink.errors import NullInRequired, SchemaMismatch, WriteError
from iceblink.events import Event, FileWritten, observing
from iceblink.lake.catalog import Catalog
from iceblink.lake.commit import Commit
from iceblink.lake.files import NewFile
from iceblink.lake.table import Table
from iceblink.lake.write import TableWriter

SMALL = Settings(threads=2, memory_bytes=64 * MIB, row_group_bytes=1 * MIB)


def make(folder: Path, schema: Any, partition_by: Sequence[str] = (), **properties: str) -> Table:
    named = {name.replace("_", "-").replace("--", "."): value for name, value in properties.items()}
    return Catalog.embedded(folder).create("demo.t", schema, partition_by=partition_by, properties=named)


def longs(start: int, stop: int) -> pa.RecordBatch:
    return pa.record_batch({"id": pa.array(range(start, stop), pa.int64())})


def written(table: Table, batches: Iterator[pa.RecordBatch] | list[pa.RecordBatch], **given: Any) -> list[NewFile]:
    with TableWriter(table, **{"settings": SMALL, **given}) as writer:
        for batch in batches:
            writer.write(batch)
        return writer.finish()


def files_under(table: Table) -> list[str]:
    return sorted(path.name for path in Path(table.location).rglob("*") if path.suffix == ".parquet")


def markers_under(table: Table) -> list[Path]:
    return list(Path(table.location).rglob("iceblink-write-*"))


WORDS = st.text("ab/ =é", max_size=3)
ROWS = st.lists(st.tuples(st.none() | st.integers(-5, 5), st.none() | WORDS, st.none() | st.integers(0, 2**40)))
SPECS = st.lists(
    st.sampled_from(
        ["k", "s", "bucket(3, k)", "bucket(2, s)", "truncate(2, s)", "truncate(4, k)", "hour(ts)", "day(ts)"]
    ),
    max_size=3,
    unique_by=lambda word: (word.partition("(")[0], word.rpartition(" ")[2]),
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(ROWS, max_size=4), spec=SPECS)
def test_what_is_written_is_read_back_in_order_inside_each_partition(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[Any]], spec: list[str]
) -> None:
    schema = {"row": "long", "k": "int", "s": "string", "ts": "timestamp"}
    table = make(tmp_path_factory.mktemp("lake"), schema, spec)
    total = 0
    given_rows: list[dict[str, Any]] = []
    arrow = []
    for batch in batches:
        columns: dict[str, Any] = {
            "row": list(range(total, total + len(batch))),
            "k": [k for k, _, _ in batch],
            "s": [s for _, s, _ in batch],
            "ts": pa.array([ts for _, _, ts in batch], pa.timestamp("us")),
        }
        total += len(batch)
        arrow.append(
            pa.record_batch(
                pa.table(columns, schema=table.schema).to_batches()[0]
                if batch
                else pa.RecordBatch.from_pylist([], schema=table.schema)
            )
        )
        given_rows += arrow[-1].to_pylist()
    new = written(table, arrow)
    for file in new:
        numbers = pq.read_table(file.path, columns=["row"], partitioning=None).column("row").to_pylist()
        assert numbers == sorted(numbers)
    assert len({file.partition for file in new}) == len(new)  # small: one file for each partition
    after = Commit(table).append(new).run()
    got = after.pyiceberg.scan().to_arrow().to_pylist()
    assert Counter(map(str, got)) == Counter(map(str, given_rows))


def test_a_small_input_makes_one_file_for_each_partition(tmp_path: Path) -> None:
    table = make(tmp_path, {"id": "long", "k": "string"}, ["k"])
    rows = pa.record_batch({"id": [1, 2, 3, 4], "k": ["a", None, "a", "b"]})
    new = written(table, [rows] * 10)
    assert Counter(file.partition for file in new) == {("a",): 1, (None,): 1, ("b",): 1}
    assert {file.rows for file in new} == {20, 10}


def test_nothing_written_is_no_file(tmp_path: Path) -> None:
    table = make(tmp_path, {"id": "long"})
    assert written(table, [longs(0, 0)]) == []
    assert files_under(table) == []
    assert markers_under(table) == []


def test_files_roll_at_their_size_on_disk(tmp_path: Path) -> None:
    table = make(tmp_path, {"x": "binary"}, write__target_file_size_bytes=str(2 * MIB))
    random = pa.record_batch(
        {"x": pa.array([bytes([i % 256]) * 3 + (i * 2654435761 % 2**32).to_bytes(4, "big") * 30 for i in range(8000)])}
    )
    zeros = pa.record_batch({"x": pa.array([bytes(1000)] * 8000)})
    assert len(written(table, [zeros] * 3, sorted=True)) == 1  # 24 MB in memory, next to nothing on disk
    table2 = Catalog.embedded(tmp_path).create(
        "demo.u",
        {"x": "binary"},
        properties={
            "write.target-file-size-bytes": str(2 * MIB),
            "write.parquet.compression-codec": "uncompressed",
        },
    )
    new = written(table2, [random] * 10, sorted=True)
    assert len(new) > 3
    for file in new[:-1]:
        assert 2 * MIB <= file.file_bytes < 3.5 * MIB  # at most one row group more


def test_row_groups_close_at_their_arrow_size_or_their_row_limit(tmp_path: Path) -> None:
    table = make(tmp_path, {"id": "long"}, write__parquet__row_group_size_bytes="80000")
    [file] = written(table, [longs(i * 1000, i * 1000 + 1000) for i in range(100)])
    sizes = [
        pq.read_metadata(file.path).row_group(i).num_rows for i in range(pq.read_metadata(file.path).num_row_groups)
    ]
    assert sizes == [10_000] * 10
    limited = Catalog.embedded(tmp_path).create(
        "demo.u", {"id": "long"}, properties={"write.parquet.row-group-limit": "300"}
    )
    [file] = written(limited, [longs(0, 1000)])
    metadata = pq.read_metadata(file.path)
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [300, 300, 300, 100]


def test_sorted_rows_fill_one_file_after_the_other(tmp_path: Path) -> None:
    catalog = Catalog.embedded(tmp_path)
    small = {"write.target-file-size-bytes": "40000", "write.parquet.row-group-size-bytes": "100000"}
    table = catalog.create("demo.t", {"id": "long"}, sort_by=["id"], properties=small)
    new = written(table, [longs(i * 10_000, (i + 1) * 10_000) for i in range(20)], sorted=True)
    assert len(new) > 3
    previous = -1
    for file in new:
        numbers = pq.read_table(file.path).column("id").to_pylist()
        assert numbers[0] == previous + 1
        previous = numbers[-1]
        assert file.sort_order_id == table.pyiceberg.sort_order().order_id
    assert previous == 199_999


def test_large_unsorted_inputs_are_spread_over_lanes_always_the_same_way(tmp_path: Path) -> None:
    sizes = {"write.target-file-size-bytes": "100000", "write.parquet.row-group-size-bytes": "100000"}
    runs = []
    for name in ("demo.a", "demo.b"):
        table = Catalog.embedded(tmp_path).create(name, {"id": "long"}, properties=sizes)
        new = written(table, [longs(i * 10_000, (i + 1) * 10_000) for i in range(20)])
        runs.append(
            [(file.path.rpartition("/")[2].partition("-")[2], file.rows, file.metrics["lower_bounds"]) for file in new]
        )
        assert sum(file.rows for file in new) == 200_000
    assert runs[0] == runs[1]
    assert {name[:2] for name, _, _ in runs[0]} == {"00", "01"}


@pytest.mark.parametrize("partition_by", [[], ["bucket(20, id)"]])
def test_memory_is_bounded_whatever_the_length_of_the_input(tmp_path: Path, partition_by: list[str]) -> None:
    table = make(tmp_path, {"id": "long", "x": "double"}, partition_by)
    rows = pa.record_batch({"id": pa.array(range(50_000), pa.int64()), "x": pa.array([0.5] * 50_000)})
    peaks = []
    for repeats in (30, 90):
        before = pa.total_allocated_bytes()
        allocated = 0
        with TableWriter(table, SMALL) as writer:
            for _ in range(repeats):
                writer.write(rows)
                allocated = max(allocated, pa.total_allocated_bytes() - before)
            writer.finish()
        assert writer.peak_bytes <= SMALL.memory_bytes // 4 + rows.nbytes
        assert allocated <= 3 * (SMALL.memory_bytes // 4)
        peaks.append(writer.peak_bytes)
    assert peaks[1] <= peaks[0] + rows.nbytes


def test_many_partitions_share_the_budget(tmp_path: Path) -> None:
    table = make(
        tmp_path, {"id": "long", "s": "string"}, ["bucket(100, id)"], write__parquet__row_group_size_bytes=str(64 * MIB)
    )
    rows = pa.record_batch({"id": pa.array(range(10_000), pa.int64()), "s": ["x" * 200] * 10_000})
    with TableWriter(table, SMALL) as writer:
        for _ in range(20):
            writer.write(rows)
        new = writer.finish()
    assert writer.peak_bytes <= SMALL.memory_bytes // 4 + rows.nbytes
    assert sum(file.rows for file in new) == 200_000


def test_a_slice_of_something_large_does_not_hold_it(tmp_path: Path) -> None:
    table = make(tmp_path, {"id": "long"})
    with TableWriter(table, SMALL) as writer:
        before = pa.total_allocated_bytes()
        for start in range(5):
            writer.write(longs(0, 500_000).slice(start, 10))
        assert pa.total_allocated_bytes() - before < MIB
        assert sum(file.rows for file in writer.finish()) == 50


def test_single_rows_become_one_row_group(tmp_path: Path) -> None:
    table = make(tmp_path, {"id": "long"})
    [file] = written(table, (longs(i, i + 1) for i in range(1000)))
    assert pq.read_metadata(file.path).num_row_groups == 1
    assert pq.read_table(file.path).column("id").to_pylist() == list(range(1000))


@pytest.mark.parametrize(
    ("batch", "error"),
    [
        (pa.record_batch({"id": ["x"]}), SchemaMismatch),
        (pa.record_batch({"id": [1], "more": [2]}), SchemaMismatch),
        (pa.record_batch({"id": pa.array([None], pa.int64())}), NullInRequired),
    ],
)
def test_a_batch_that_does_not_fit_leaves_nothing(
    tmp_path: Path, batch: pa.RecordBatch, error: type[Exception]
) -> None:
    table = make(tmp_path, {"id": "long not null"}, write__parquet__row_group_size_bytes="800")
    with pytest.raises(error, match=r"demo\.t"):
        written(table, [longs(0, 1000), batch])
    assert files_under(table) == []
    assert markers_under(table) == []


def test_leaving_without_finishing_leaves_nothing(tmp_path: Path) -> None:
    table = make(tmp_path, {"id": "long"}, write__parquet__row_group_size_bytes="800")
    with TableWriter(table, SMALL) as writer:
        writer.write(longs(0, 10_000))
    assert files_under(table) == []
    assert markers_under(table) == []


def test_files_of_a_finished_write_stay_for_the_commit_to_decide(tmp_path: Path) -> None:
    table = make(tmp_path, {"id": "long"})
    with pytest.raises(KeyboardInterrupt):
        interrupted_commit(table)
    assert len(files_under(table)) == 1
    assert len(markers_under(table)) == 1


def interrupted_commit(table: Table) -> None:
    with TableWriter(table, SMALL) as writer:
        writer.write(longs(0, 10))
        writer.finish()
        raise KeyboardInterrupt  # the commit may have landed


def test_a_failure_in_the_background_comes_with_the_next_call(tmp_path: Path) -> None:
    table = make(tmp_path, {"id": "long"}, write__parquet__row_group_size_bytes="800")
    (Path(table.location) / "data").write_text("in the way")
    endless = (longs(0, 1000) for _ in count())
    with pytest.raises(WriteError, match="cannot write"):
        written(table, endless)
    assert markers_under(table) == []


DISK_FULL = """
import resource, sys
import pyarrow as pa
from iceblink.config import MIB, Settings
from iceblink.errors import WriteError
from iceblink.lake.catalog import Catalog
from iceblink.lake.write import TableWriter
table = Catalog.embedded(sys.argv[1]).load("demo.t")
resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, MIB))  # the file system refuses to go on, as a full one does
try:
    with TableWriter(table, Settings(threads=2, memory_bytes=64 * MIB, row_group_bytes=MIB // 4)) as writer:
        for start in range(0, 10**7, 10**5):
            writer.write(pa.record_batch({"id": pa.array(range(start, start + 10**5), pa.int64())}))
        writer.finish()
except WriteError as error:
    print(error)
"""


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    table = make(tmp_path, {"id": "long"}, write__parquet__compression_codec="uncompressed")
    told = subprocess.run([sys.executable, "-c", DISK_FULL, str(tmp_path)], capture_output=True, text=True, check=True)
    assert "cannot write" in told.stdout, told.stderr
    assert "free space" in told.stdout
    assert told.stderr == ""
    assert files_under(table) == []
    assert markers_under(table) == []


def test_each_file_is_told(tmp_path: Path) -> None:
    table = make(tmp_path, {"id": "long", "k": "long"}, ["k"])
    seen: list[Event] = []
    with observing(seen.append):
        new = written(table, [pa.record_batch({"id": [1, 2, 3], "k": [1, 2, 1]})])
    assert Counter(seen) == Counter(FileWritten("demo.t", file.path, file.rows, file.file_bytes) for file in new)
