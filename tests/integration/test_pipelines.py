"""Functions in the middle of a dataset, as a user has them: threads, processes, coroutines, and what goes wrong."""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import iceblink as ib
from iceblink.errors import ConfigError, FunctionError, OutOfMemoryBudget, PlanError, SchemaMismatch, WriteError
from iceblink.run.pipeline.resources import resident

ROWS = 5_000


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[ib.Lake]:
    with ib.connect(tmp_path / "lake") as lake:
        lake.from_arrow(pa.table({"id": pa.array(range(ROWS)), "s": [f"s{n}" for n in range(ROWS)]})).write(
            "d.t", "create"
        )
        yield lake


def ids(dataset: ib.Dataset) -> list[int]:
    found: list[int] = dataset.to_arrow()["id"].to_pylist()
    return found


def unchanged(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch


WAYS: list[dict[str, Any]] = [{}, {"processes": True}]


@pytest.mark.parametrize("way", WAYS, ids=["threads", "processes"])
def test_stages_follow_each_other_and_keep_the_order(lake: ib.Lake, way: dict[str, Any]) -> None:
    def doubled(batch: dict[str, Any]) -> dict[str, Any]:
        return {"id": batch["id"] * 2}

    dataset = lake.table("d.t").map_batches(unchanged, batch_size=7, **way)
    dataset = dataset.map_batches(doubled, batch_size=64, batch_format="numpy", workers=2, **way)
    assert ids(dataset) == [2 * number for number in range(ROWS)]
    stats = dataset.stats()
    assert [item.label for item in stats.operators] == [
        "scan d.t",
        "unchanged",
        "test_stages_follow_each_other_and_keep_the_order.doubled",
    ]
    assert [item.rows_out for item in stats.operators] == [ROWS] * 3


def test_functions_and_sql_take_turns(lake: ib.Lake) -> None:
    dataset = lake.table("d.t").map_batches(unchanged).sql("SELECT id FROM this WHERE id % 2 = 0")
    dataset = dataset.map_batches(unchanged, batch_size=10).filter(ib._.id < 100)
    assert ids(dataset) == list(range(0, 100, 2))


def test_a_generator_gives_any_number_of_batches(lake: ib.Lake) -> None:
    def pieces(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        for start in range(batch.num_rows):
            if start % 3:
                yield batch.slice(start, 1)

    dataset = lake.table("d.t").map_batches(pieces, batch_size=3)
    assert ids(dataset) == [number for number in range(ROWS) if number % 3]


@pytest.mark.parametrize("way", WAYS, ids=["threads", "processes"])
def test_what_a_generator_yields_arrives_while_it_goes_on(lake: ib.Lake, tmp_path: Path, way: dict[str, Any]) -> None:
    seen = tmp_path / "seen"

    def patient(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
        yield {"n": np.zeros(2)}
        for _ in range(2_000):
            if seen.exists():
                yield {"n": np.ones(3)}
                return
            time.sleep(0.01)
        raise TimeoutError("nobody took the first batch")

    dataset = lake.table("d.t").map_batches(patient, batch_size=ROWS, schema={"n": "double"}, **way)
    lengths = []
    for batch in dataset.to_batches():
        lengths.append(batch.num_rows)
        seen.touch()
    assert lengths == [2, 3]


def test_coroutines_are_awaited_side_by_side_and_in_order(lake: ib.Lake) -> None:
    under_way = most = 0

    async def asked(batch: pa.RecordBatch) -> pa.RecordBatch:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.001)
        under_way -= 1
        return batch

    assert ids(lake.table("d.t").map_batches(asked, batch_size=50, workers=5)) == list(range(ROWS))
    assert most == 5


def test_a_class_is_built_once_a_worker_and_closed_at_the_end(lake: ib.Lake) -> None:
    told: list[str] = []

    class Model:
        def __init__(self) -> None:
            told.append("built")

        def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
            return batch

        def close(self) -> None:
            told.append("closed")

    assert ids(lake.table("d.t").map_batches(Model, batch_size=100)) == list(range(ROWS))
    assert told == ["built", "closed"]


def test_finding_a_schema_builds_a_class_once_more_and_closes_it(lake: ib.Lake) -> None:
    told: list[str] = []

    class Model:
        def __init__(self) -> None:
            told.append("built")

        def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
            return batch

        def close(self) -> None:
            told.append("closed")

    table = lake.table("d.t")
    table.map_batches(Model).write("d.found", "create")
    assert told == ["built", "closed"] * 2
    told.clear()
    table.map_batches(Model, schema=table.schema).write("d.declared", "create")
    assert told == ["built", "closed"]


@pytest.mark.parametrize("way", WAYS, ids=["threads", "processes"])
def test_refused_rows_are_in_the_quarantine_and_nowhere_else(lake: ib.Lake, way: dict[str, Any]) -> None:
    def picky(batch: pa.RecordBatch) -> pa.RecordBatch:
        if bad := [number for number in batch["id"].to_pylist() if number % 1000 == 7]:
            raise ValueError(f"not {bad[0]}")
        return batch

    dataset = lake.table("d.t").map_batches(picky, batch_size=300, on_error="quarantine", quarantine="d.refused", **way)
    dataset.write("d.kept", "create")
    refused = lake.table("d.refused").to_pylist()
    assert [row["id"] for row in refused] == [7, 1007, 2007, 3007, 4007]
    assert [row["iceblink_row"] for row in refused] == [7, 1007, 2007, 3007, 4007]
    assert refused[1]["s"] == "s1007"
    assert refused[1]["iceblink_error"] == "ValueError: not 1007"
    assert "in picky" in refused[1]["iceblink_traceback"]
    assert ids(lake.table("d.kept")) == [number for number in range(ROWS) if number % 1000 != 7]


@pytest.mark.parametrize("way", WAYS, ids=["threads", "processes"])
def test_a_row_that_another_function_made_is_refused_with_its_file_only(lake: ib.Lake, way: dict[str, Any]) -> None:
    def reversed_rows(batch: pa.RecordBatch) -> pa.RecordBatch:
        return batch.take(list(range(batch.num_rows))[::-1])

    def picky(row: dict[str, Any]) -> dict[str, Any]:
        if row["id"] % 1000 == 7:
            raise ValueError("seven")
        return row

    made = lake.table("d.t").map_batches(reversed_rows, batch_size=100)
    made.map(picky, on_error="quarantine", quarantine="d.refused", **way).to_arrow()
    refused = lake.table("d.refused").to_pylist()
    assert [row["id"] for row in refused] == [7, 1007, 2007, 3007, 4007]
    assert {row["iceblink_row"] for row in refused} == {None}
    (path,) = {row["iceblink_file"] for row in refused}
    assert path.endswith(".parquet")

    def broken(batch: pa.RecordBatch) -> pa.RecordBatch:
        raise ValueError("no")

    with pytest.raises(FunctionError, match=r"rows from row 0 on of .*parquet"):
        made.map_batches(broken, batch_size=50, **way).to_arrow()


def test_a_folder_may_be_the_quarantine_and_a_run_without_refusals_leaves_it_alone(
    lake: ib.Lake, tmp_path: Path
) -> None:
    def picky(batch: pa.RecordBatch) -> pa.RecordBatch:
        if 5 in batch["id"].to_pylist():
            raise ValueError("five")
        return batch

    folder = tmp_path / "refused rows"
    dataset = lake.table("d.t").map_batches(picky, on_error="quarantine", quarantine=f"{folder}/")
    assert len(ids(dataset)) == ROWS - 1
    assert pq.read_table(folder)["id"].to_pylist() == [5]
    lake.table("d.t").map_batches(unchanged, on_error="quarantine", quarantine=f"{tmp_path}/none/").to_arrow()
    assert not (tmp_path / "none").exists()


REFUSED = {
    "id": "long", "s": "string", "iceblink_operator": "string", "iceblink_error": "string",
    "iceblink_traceback": "string", "iceblink_file": "string", "iceblink_row": "long",
}  # fmt: skip


@pytest.mark.parametrize(
    ("columns", "what"),
    [
        (REFUSED, ""),
        ({"id": "long"}, "column 's' is not expected"),
        ({**REFUSED, "more": "long not null"}, "column 'more' is missing"),
        ({**REFUSED, "s": "double"}, "column 's': expected double, got string"),
        ({**REFUSED, "iceblink_row": "long not null"}, "column 'iceblink_row' is required"),
    ],
)
def test_a_quarantine_with_other_columns_is_refused_before_anything_runs(
    lake: ib.Lake, columns: dict[str, str], what: str
) -> None:
    called: list[int] = []

    def picky(batch: pa.RecordBatch) -> pa.RecordBatch:
        called.append(batch.num_rows)
        raise ValueError("no")

    lake.create("d.refused", columns)
    table = lake.table("d.t").sql("SELECT * FROM this WHERE id < 1")
    dataset = table.map_batches(picky, on_error="quarantine", quarantine="d.refused", schema={"id": "long"})
    if not what:
        assert ids(dataset) == []
        assert lake.table("d.refused").count() == 1
        return
    with pytest.raises(SchemaMismatch, match=what):
        dataset.write("d.kept", "create")
    assert not called
    assert "d.kept" not in lake.tables()


def test_a_quarantine_for_rows_of_two_kinds_is_refused_before_anything_runs(lake: ib.Lake) -> None:
    called: list[int] = []

    def noted(batch: pa.RecordBatch) -> pa.RecordBatch:
        called.append(batch.num_rows)
        return batch.select(["id"])

    dataset = lake.table("d.t").map_batches(noted, schema={"id": "long"}, on_error="quarantine", quarantine="d.refused")
    dataset = dataset.map_batches(unchanged, on_error="quarantine", quarantine="d.refused")
    with pytest.raises(SchemaMismatch, match="column 's' is missing"):
        dataset.to_arrow()
    assert not called
    assert "d.refused" not in lake.tables()


def test_a_quarantine_that_is_a_file_is_refused_before_anything_runs(lake: ib.Lake, tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    dataset = lake.table("d.t").map_batches(unchanged, on_error="quarantine", quarantine=f"{tmp_path}/taken")
    with pytest.raises(WriteError, match="it is a file"):
        dataset.to_arrow()


def test_a_failed_run_commits_no_quarantine(lake: ib.Lake) -> None:
    def picky(batch: pa.RecordBatch) -> pa.RecordBatch:
        if 5 in batch["id"].to_pylist():
            raise ValueError("five")
        return batch

    def broken(batch: pa.RecordBatch) -> pa.RecordBatch:
        if 4000 in batch["id"].to_pylist():
            raise RuntimeError("four thousand")
        return batch

    dataset = lake.table("d.t").map_batches(picky, batch_size=10, on_error="quarantine", quarantine="d.refused")
    with pytest.raises(FunctionError, match="four thousand"):
        dataset.map_batches(broken, batch_size=10).write("d.kept", "create")
    assert not lake.table("d.refused").count()
    assert "d.kept" not in lake.tables()


def test_what_may_be_tried_again_is(lake: ib.Lake) -> None:
    failed: set[int] = set()

    def flaky(batch: pa.RecordBatch) -> pa.RecordBatch:
        first = batch["id"][0].as_py()
        if first % 2000 == 0 and first not in failed:
            failed.add(first)
            raise ConnectionError("again")
        return batch

    assert ids(lake.table("d.t").map_batches(flaky, batch_size=1000, retry_on=ConnectionError)) == list(range(ROWS))
    assert failed == {0, 2000, 4000}


DEATHS: dict[str, Callable[[], object]] = {
    "exits with 0": lambda: os._exit(0),
    "is killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "crashes": lambda: ctypes.string_at(0),
}


@pytest.mark.parametrize("how", DEATHS)
def test_a_worker_that_dies_takes_only_its_poison_along(lake: ib.Lake, how: str) -> None:
    die = DEATHS[how]

    def fragile(batch: pa.RecordBatch) -> pa.RecordBatch:
        if 1234 in batch["id"].to_pylist():
            die()
        return batch

    dataset = lake.table("d.t").map_batches(fragile, batch_size=100, processes=True, on_error="skip")
    assert ids(dataset) == [number for number in range(ROWS) if not 1200 <= number < 1300]
    assert dataset.stats().operators[1].deaths == 2


@pytest.mark.parametrize("where", ["call", "output"])
def test_poison_is_told_from_the_calls_that_are_made_at_the_same_time(lake: ib.Lake, where: str) -> None:
    die = DEATHS["is killed"]

    class Fatal(dict[str, Any]):
        def items(self) -> Any:  # asked for when the output is turned into Arrow, and the next call is under way
            die()

    class Model:
        def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
            time.sleep(0.02)
            poison = 1234 in batch["id"]
            if poison and where == "call":
                die()
            kept = {"id": batch["id"]}
            return Fatal(kept) if poison else kept

    dataset = lake.table("d.t").map_batches(
        Model, batch_size=100, batch_format="numpy", processes=True, on_error="skip", schema={"id": "long"}
    )
    assert ids(dataset) == [number for number in range(ROWS) if not 1200 <= number < 1300]
    assert dataset.stats().operators[1].deaths == 2


def test_a_poison_batch_is_named(lake: ib.Lake) -> None:
    def fragile(batch: pa.RecordBatch) -> pa.RecordBatch:
        if 1234 in batch["id"].to_pylist():
            os._exit(3)
        return batch

    with pytest.raises(FunctionError, match="exited with status 3, twice, on the same 100 rows") as caught:
        lake.table("d.t").map_batches(fragile, batch_size=100, processes=True).write("d.out", "create")
    assert "rows 1,200 to 1,299 of " in caught.value.where
    assert "d.out" not in lake.tables()


@pytest.mark.parametrize("way", WAYS, ids=["threads", "processes"])
def test_a_call_that_never_returns_is_ended(lake: ib.Lake, way: dict[str, Any]) -> None:
    def hangs(batch: pa.RecordBatch) -> pa.RecordBatch:
        if 1234 in batch["id"].to_pylist():
            threading.Event().wait(60)
        return batch

    dataset = lake.table("d.t").map_batches(hangs, batch_size=100, timeout_s=1.0, on_error="skip", **way)
    assert len(ids(dataset)) == ROWS - 100


@pytest.mark.parametrize("way", WAYS, ids=["threads", "processes"])
def test_rows_that_need_more_memory_than_there_is_are_found(lake: ib.Lake, way: dict[str, Any]) -> None:
    def greedy(batch: pa.RecordBatch) -> pa.RecordBatch:
        if 1234 in batch["id"].to_pylist():
            bytearray(1 << 60)
        return batch

    dataset = lake.table("d.t").map_batches(greedy, batch_size=100, on_error="skip", **way)
    assert ids(dataset) == [number for number in range(ROWS) if number != 1234]


@pytest.mark.parametrize("rows", [0, 1, 10_000_000])
@pytest.mark.parametrize("way", WAYS, ids=["threads", "processes"])
def test_a_function_may_return_any_number_of_rows(lake: ib.Lake, rows: int, way: dict[str, Any]) -> None:
    def many(batch: pa.RecordBatch) -> pa.RecordBatch:
        return pa.record_batch({"n": pa.nulls(rows, pa.int8())})

    dataset = lake.table("d.t").map_batches(many, schema={"n": "int"}, batch_size=ROWS, **way)
    assert dataset.count() == rows


def test_a_worker_that_leaks_is_begun_anew(tmp_path: Path) -> None:
    def leaks(batch: pa.RecordBatch) -> pa.RecordBatch:
        globals().setdefault("kept", []).append(bytearray(b"x") * (32 << 20))
        threading.Event().wait(0.05)  # as fast as it leaks, a process is not begun anew
        return batch

    before = resident().own  # what other tests have imported and kept in this process
    with ib.connect(tmp_path / "small", engine=ib.LocalEngine(memory_bytes=256 << 20)) as lake:
        data = lake.from_arrow(pa.table({"id": pa.array(range(80))}))
        dataset = data.map_batches(leaks, batch_size=1, processes=True, workers=1)
        assert len(ids(dataset)) == 80  # 2.5 GiB leaked
        assert dataset.stats().peak_resident_bytes - before < 3 << 29


def test_an_output_beyond_the_budget_is_refused_with_the_knob(tmp_path: Path) -> None:
    engine = ib.LocalEngine(memory_bytes=64 << 20)
    with ib.connect(tmp_path / "small", engine=engine) as lake:
        data = lake.from_arrow(pa.table({"id": [1]}))
        dataset = data.map_batches(lambda batch: pa.record_batch({"n": pa.nulls(8_000_000, pa.int64())}))
        with pytest.raises(OutOfMemoryBudget, match="more than half of the budget") as caught:
            dataset.to_arrow()
        assert "batch_size" in caught.value.hint


def test_what_cannot_be_pickled_is_named_before_anything_runs(lake: ib.Lake) -> None:
    lock = threading.Lock()

    def guarded(batch: pa.RecordBatch) -> pa.RecordBatch:
        with lock:
            return batch

    with pytest.raises(FunctionError, match="lock") as caught:
        lake.table("d.t").map_batches(guarded, processes=True).to_arrow()
    assert "processes=" in caught.value.hint


@pytest.mark.parametrize(
    "wrong",
    [
        {"workers": 0},
        {"workers": (3, 2)},
        {"gpus": -1},
        {"on_error": "ignore"},
        {"on_error": "quarantine"},
        {"quarantine": "d.q"},
        {"retry_on": "ConnectionError"},
        {"timeout_s": 0},
        {"memory": "much"},
        {"batch_format": "numpi"},
        {"resources": {"GPU": 1}},
        {"resources": {"licence": 0}},
        {"resources": {"licence": 1.5}},
        {"labels": {"zone": 1}},
        {"labels": {"zone": "a"}, "processes": False},
    ],
    ids=str,
)
def test_an_impossible_argument_is_refused_where_it_is_written(lake: ib.Lake, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        lake.table("d.t").map_batches(unchanged, **wrong)


def test_a_worker_larger_than_the_machine_is_refused(lake: ib.Lake) -> None:
    with pytest.raises(ConfigError, match="a worker wants 64 GPUs"):
        lake.table("d.t").map_batches(unchanged, gpus=64).to_arrow()
    with pytest.raises(ConfigError, match="the budget is"):
        lake.table("d.t").map_batches(unchanged, memory="100TiB").to_arrow()


@pytest.mark.parametrize("wanted", [{"resources": {"licence": 1}}, {"labels": {"zone": "a"}}], ids=str)
def test_what_only_a_cluster_has_is_refused_before_anything_runs(lake: ib.Lake, wanted: dict[str, Any]) -> None:
    read: list[int] = []

    def seen(batch: pa.RecordBatch) -> pa.RecordBatch:
        read.append(batch.num_rows)
        return batch

    table = lake.table("d.t")
    mapped = table.map_batches(seen, schema=table.schema).map_batches(unchanged, schema=table.schema, **wanted)
    with pytest.raises(ConfigError) as caught:
        mapped.to_arrow()
    assert caught.value.where == "unchanged"
    assert "ray" in caught.value.hint
    assert not read
    with pytest.raises(ConfigError):
        table.map(lambda row: row, **wanted).to_arrow()


def test_what_happened_is_told_in_tasks_of_several_calls(lake: ib.Lake) -> None:
    told = lake.table("d.t").map_batches(unchanged, batch_size=10).explain(analyze=True)
    found = re.search(r"unchanged: (\d+) tasks?, 5,000 rows out", told)
    assert found, told
    assert int(found[1]) < ROWS // 10


def test_a_dataset_that_has_not_run_has_no_stats(lake: ib.Lake) -> None:
    with pytest.raises(PlanError, match="has run"):
        lake.table("d.t").map_batches(unchanged).stats()


def test_a_reader_that_stops_leaves_no_worker(lake: ib.Lake) -> None:
    before = set(_children(os.getpid()))  # a Ray that other tests have started
    dataset = lake.table("d.t").map_batches(unchanged, batch_size=1, processes=True)
    batches = dataset.to_batches()
    next(batches)
    batches.close()
    assert not set(_children(os.getpid())) - before


def _children(parent: int) -> list[int]:
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == parent and fields[0] != "Z":
                found.append(int(entry))
    return found


def test_what_a_function_returned_keeps_its_type_through_a_filter(lake: ib.Lake) -> None:
    def seen(batch: dict[str, Any]) -> dict[str, Any]:
        return {"id": batch["id"], "image": np.full((len(batch["id"]), 2, 3), 200, np.uint8)}

    kept = lake.table("d.t").map_batches(seen, batch_format="numpy").filter(ib._.id > 10).to_arrow()
    assert kept["image"].type == pa.fixed_shape_tensor(pa.uint8(), (2, 3))
    assert kept["image"][0].as_py() == [200] * 6


def test_a_dataset_of_one_lake_is_written_to_another(lake: ib.Lake, tmp_path: Path) -> None:
    dataset = lake.table("d.t").map_batches(unchanged)
    with ib.connect(tmp_path / "other") as other:
        written = other.write("d.copied", dataset, "create")
        assert ids(written) == ids(other.table("d.copied")) == list(range(ROWS))
        assert other.tables() == ["d.copied"]
    assert lake.tables() == ["d.t"]
    assert dataset.stats().operators[1].rows_out == ROWS


def test_rows_behind_a_filter_come_while_the_function_is_at_work(tmp_path: Path) -> None:
    seen = threading.Event()
    in_time: list[bool] = []

    def slow(batch: pa.RecordBatch) -> pa.RecordBatch:
        if batch.column("id")[0].as_py() >= 1_000:
            in_time.append(seen.wait(60))
        return batch

    with ib.connect(tmp_path / "lake", engine=ib.LocalEngine(threads=8, spill_dir=str(tmp_path))) as lake:
        rows = lake.from_arrow(pa.table({"id": range(ROWS)})).map_batches(slow, batch_size=100, workers=1)
        batches = rows.filter(ib._.id != 7).mutate(double=ib._.id * 2).to_batches()
        first = next(batches)
        seen.set()
        rest = list(batches)
    assert in_time[0]
    found = pa.Table.from_batches([first, *rest]).to_pydict()
    assert found["id"] == [number for number in range(ROWS) if number != 7]
    assert found["double"] == [2 * number for number in range(ROWS) if number != 7]
