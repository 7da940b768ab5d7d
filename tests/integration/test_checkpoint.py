"""Jobs with a checkpoint: what is done is not done again, what changed is refused, nothing is left behind."""

from __future__ import annotations

import datetime
import decimal
import resource
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import iceblink as ib
from iceblink import _
from iceblink.errors import (
    CheckpointBusy,
    CheckpointMismatch,
    ConfigError,
    DataCorrupt,
    FunctionError,
    TableExists,
    WriteError,
)
from iceblink.lake.leftovers import find_leftovers

ROWS = {"id": list(range(2_000)), "x": [n / 2 for n in range(2_000)]}
SCHEMA = {"id": "long", "x": "double"}


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[ib.Lake]:
    """A lake whose table ``n.source`` has four row groups of 500 rows, each of them a unit of a job."""
    engine = ib.LocalEngine(split_bytes=4_500, batch_rows=500, threads=2, spill_dir=str(tmp_path / "spill"))
    with ib.connect(tmp_path / "lake", engine=engine) as opened:
        opened.write("n.source", ROWS, "create", properties={"write.parquet.row-group-limit": "500"})
        yield opened


def journals(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "lake").glob(".jobs/*"))


class Breaks:
    """A function that fails once, at the batch with row 1,200, and writes down what it was given."""

    def __init__(self, folder: Path) -> None:
        self.mended, self.log = str(folder / "mended"), str(folder / "log")

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        ids = batch["id"].to_pylist()
        if 1_200 in ids and not Path(self.mended).exists():
            Path(self.mended).touch()
            raise ValueError("broken")
        with Path(self.log).open("a") as log:
            log.writelines(f"{n}\n" for n in ids)
        return batch

    @property
    def seen(self) -> list[int]:
        return [int(line) for line in Path(self.log).read_text().split()]


def test_units_that_are_done_are_not_done_again(lake: ib.Lake, tmp_path: Path) -> None:
    breaks = Breaks(tmp_path)
    rows = lake.table("n.source").map_batches(breaks, schema=SCHEMA, batch_size=100, workers=1)
    with pytest.raises(FunctionError):
        rows.write("n.t", "create", checkpoint="j")
    assert lake.tables("n") == ["n.source"]
    table = rows.write("n.t", "create", checkpoint="j")
    assert table.to_arrow().to_pydict() == ROWS
    assert sorted(set(breaks.seen)) == ROWS["id"]
    assert [n for n in range(1_000) if breaks.seen.count(n) > 1] == []
    assert lake.history("n.t").count() == 1
    assert journals(tmp_path) == []
    assert rows.stats().operators


def test_a_schema_that_was_found_is_not_found_again(lake: ib.Lake, tmp_path: Path) -> None:
    breaks = Breaks(tmp_path)
    with pytest.raises(FunctionError):
        lake.table("n.source").map_batches(breaks, workers=1).write("n.t", "create", checkpoint="j")
    before = breaks.seen.count(0)
    lake.table("n.source").map_batches(breaks, workers=1).write("n.t", "create", checkpoint="j")
    assert breaks.seen.count(0) == before


def test_a_stream_is_read_once_even_if_the_job_is_begun_twice(lake: ib.Lake, tmp_path: Path) -> None:
    stream = pa.table(ROWS).to_reader(max_chunksize=300)
    rows = lake.from_arrow(stream).map_batches(Breaks(tmp_path), workers=1, schema=SCHEMA)
    with pytest.raises(FunctionError):
        rows.write("n.t", "create", checkpoint="j")
    assert rows.write("n.t", "create", checkpoint="j").to_arrow().to_pydict() == ROWS
    assert journals(tmp_path) == []


@pytest.mark.parametrize(
    "query",
    [
        "SELECT id, max(x) AS x FROM n.source GROUP BY id ORDER BY id",
        "SELECT a.id, b.x FROM n.source a JOIN n.source b USING (id) ORDER BY id",
        "SELECT * FROM n.source WHERE id >= (SELECT min(id) FROM n.source)",
        "SELECT * FROM n.source LIMIT 5000",
    ],
)
def test_a_query_that_needs_all_rows_is_run_once(lake: ib.Lake, tmp_path: Path, query: str) -> None:
    rows = lake.sql(query).map_batches(Breaks(tmp_path), workers=1, schema=SCHEMA)
    with pytest.raises(FunctionError):
        rows.write("n.t", "create", checkpoint="j")
    chunks = sorted(path.name for path in journals(tmp_path)[0].glob("*.arrow"))
    assert len(chunks) > 1
    for path in (tmp_path / "lake" / "n" / "source" / "data").iterdir():
        path.unlink()
    assert rows.write("n.t", "create", checkpoint="j").to_arrow().to_pydict() == ROWS


def test_functions_get_exact_batches_but_for_the_last_of_a_unit(lake: ib.Lake) -> None:
    sizes: list[int] = []

    def sized(batch: pa.RecordBatch) -> pa.RecordBatch:
        sizes.append(batch.num_rows)
        return batch

    lake.table("n.source").map_batches(sized, schema=SCHEMA, batch_size=300, workers=1).write(
        "n.t", "create", checkpoint="j"
    )
    assert sizes == [300, 200] * 4


def test_functions_that_keep_no_order_still_keep_to_their_unit(lake: ib.Lake, tmp_path: Path) -> None:
    breaks = Breaks(tmp_path)
    rows = lake.table("n.source").map_batches(breaks, schema=SCHEMA, batch_size=50, workers=3, ordered=False)
    with pytest.raises(FunctionError):
        rows.write("n.t", "create", checkpoint="j")
    assert rows.write("n.t", "create", checkpoint="j").order_by("id").to_arrow().to_pydict() == ROWS


def same(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch


@pytest.mark.parametrize("change", ["function", "statement", "batch size", "snapshot", "target", "mode", "columns"])
def test_a_changed_job_is_refused_with_the_difference(lake: ib.Lake, tmp_path: Path, change: str) -> None:
    def job(factor: int = 2, batch_size: int | None = 100, name: str = "n.t", mode: str = "append") -> None:
        def scaled(batch: pa.RecordBatch) -> pa.RecordBatch:
            assert factor
            return breaks(batch)

        source = lake.sql("SELECT * FROM n.source WHERE id >= 0" if change == "statement" else "SELECT * FROM n.source")
        rows = source.map_batches(scaled, schema=SCHEMA, batch_size=batch_size, workers=1)
        rows.write(name, mode, checkpoint="j")  # type: ignore[arg-type]

    breaks = Breaks(tmp_path)
    lake.create("n.t", SCHEMA)
    change, wanted = "", change
    with pytest.raises(FunctionError):
        job()
    change = wanted
    arguments: dict[str, Any] = {}
    told = {
        "function": "function .*scaled: code .* -> code",
        "statement": "WHERE",
        "batch size": "batch_size=100, .* -> batch_size=7",
        "snapshot": "table n.source: snapshot .* -> snapshot",
        "target": "table written: n.t -> n.other",
        "mode": "mode='append'.* -> mode='overwrite'",
        "columns": "its columns: .*double",
    }
    match change:
        case "function":
            arguments["factor"] = 3
        case "batch size":
            arguments["batch_size"] = 7
        case "snapshot":
            lake.write("n.source", {"id": [5_000], "x": [0.0]})
        case "target":
            arguments["name"] = "n.other"
        case "mode":
            arguments["mode"] = "overwrite"
        case "columns":
            lake.write("n.t", {"id": [1], "x": [1.0], "y": [1.0]}, evolve=True)
    with pytest.raises(CheckpointMismatch, match=told[change]) as caught:
        job(**arguments)
    assert str(journals(tmp_path)[0]) in caught.value.hint


def test_a_job_that_did_nothing_leaves_nothing(lake: ib.Lake, tmp_path: Path) -> None:
    def broken(batch: object) -> object:
        raise ValueError("no")

    for mode in ("create", "append"):
        with pytest.raises(FunctionError):
            lake.table("n.source").map_batches(broken, schema=SCHEMA).write(
                "n.t" if mode == "create" else "n.source", mode, checkpoint="j"
            )
        assert journals(tmp_path) == []
    assert lake.tables("n") == ["n.source"]
    assert not (tmp_path / "lake" / "n" / "t").exists()


def test_a_job_that_is_done_is_not_done_again(lake: ib.Lake) -> None:
    for _again in range(3):
        assert lake.table("n.source").filter(_.id < 100).write("n.source", checkpoint="j").count() == 2_100


@pytest.mark.parametrize("name", ["..", "a/b", "ä ö 🎉", "x" * 500, "a\nb\0c", "'; --", "%2F"])
def test_an_id_may_have_any_characters(lake: ib.Lake, tmp_path: Path, name: str) -> None:
    rows = lake.table("n.source").map_batches(Breaks(tmp_path), workers=1, schema=SCHEMA)
    with pytest.raises(FunctionError):
        rows.write("n.t", "create", checkpoint=name)
    assert len(journals(tmp_path)) == 1
    assert rows.write("n.t", "create", checkpoint=name).count() == 2_000
    assert rows.write("n.t", checkpoint=name).count() == 2_000
    assert journals(tmp_path) == []


def test_ids_that_look_alike_are_two_jobs(lake: ib.Lake) -> None:
    for name in ("a/b", "a_b"):
        count = lake.table("n.source").limit(10).write("n.source", checkpoint=name).count()
    assert count == 2_020


def test_options_that_do_not_go_together_are_refused(lake: ib.Lake) -> None:
    rows = lake.table("n.source")
    for options in ({"mode": "upsert", "on": "id"}, {"token": "t"}):
        with pytest.raises(ConfigError):
            rows.write("n.source", checkpoint="j", **options)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="empty"):
        rows.write("n.source", checkpoint="")


def test_the_second_who_runs_a_job_is_refused_while_the_first_lives(lake: ib.Lake, tmp_path: Path) -> None:
    caught: list[CheckpointBusy] = []

    def overtaken(batch: pa.RecordBatch) -> pa.RecordBatch:
        with ib.connect(tmp_path / "lake") as other, pytest.raises(CheckpointBusy) as found:
            other.table("n.source").write("n.t", "create", checkpoint="j")
        caught.append(found.value)
        return batch

    rows = lake.table("n.source").map_batches(overtaken, schema=SCHEMA)
    assert rows.write("n.t", "create", checkpoint="j").count() == 2_000
    assert caught


def test_an_empty_source_makes_an_empty_table(lake: ib.Lake, tmp_path: Path) -> None:
    lake.create("n.empty", SCHEMA)
    for number, rows in enumerate([lake.table("n.empty"), lake.table("n.source").filter(_.id < 0)]):
        assert rows.write(f"n.t{number}", "create", checkpoint=f"j{number}").count() == 0
        mapped = rows.map_batches(same, schema=SCHEMA).filter(_.x > 0)
        assert mapped.write(f"n.u{number}", "create", checkpoint=f"k{number}").count() == 0
    assert journals(tmp_path) == []


MODES: dict[str, dict[str, Any]] = {
    "append": {"mode": "append"},
    "overwrite": {"mode": "overwrite"},
    "where": {"mode": "overwrite", "where": _.id < 1_000},
    "dynamic": {"mode": "overwrite", "partitions": "dynamic"},
    "replace": {"mode": "replace", "sort_by": ["x desc"]},
    "branch": {"mode": "append", "branch": "b"},
    "evolve": {"mode": "append", "evolve": True},
}


@pytest.mark.parametrize("name", MODES)
def test_every_mode_does_the_same_with_a_checkpoint(lake: ib.Lake, tmp_path: Path, name: str) -> None:
    new = {**SCHEMA, "y": "long"} if name in ("evolve", "replace") else SCHEMA

    def changed(batch: pa.RecordBatch) -> pa.RecordBatch:
        batch = breaks(batch)
        return batch.append_column("y", batch["id"]) if "y" in new else batch

    breaks = Breaks(tmp_path)
    written = []
    for target, checkpoint in (("n.plain", None), ("n.job", "j")):
        lake.write(target, {"id": [7, 1_500, 9_000], "x": [0.0, 0.0, 0.0], "z": ["a", "b", "c"]}, "create",
                   partition_by=["truncate(1000, id)"])  # fmt: skip
        if name == "branch":
            made = lake.session.catalog.load(target)
            made.pyiceberg.manage_snapshots().create_branch(made.snapshot_id or 0, "b").commit()
        rows = lake.table("n.source").map_batches(changed, schema=new, workers=1).filter(_.id % 2 == 0)
        if checkpoint is not None:
            Path(breaks.mended).unlink()
            with pytest.raises(FunctionError):
                rows.write(target, checkpoint=checkpoint, **MODES[name])
        else:
            Path(breaks.mended).touch()
        written.append(rows.write(target, checkpoint=checkpoint, **MODES[name]))
    plain, job = written
    assert job.schema == plain.schema
    assert job.order_by("id", "x").to_arrow() == plain.order_by("id", "x").to_arrow()
    assert lake.history("n.job").count() == lake.history("n.plain").count()
    found = lake.session.catalog.load("n.job")
    assert find_leftovers(found, older_than_s=0) == []
    assert journals(tmp_path) == []


def test_every_kind_of_partition_value_goes_through_the_journal(lake: ib.Lake, tmp_path: Path) -> None:
    ids = list(range(2_000))
    columns = {
        "id": pa.array(ids),
        "b": pa.array([n % 2 == 0 for n in ids]),
        "s": pa.array([None if n % 3 else "ä" for n in ids]),
        "d": pa.array([decimal.Decimal(n % 2) for n in ids], pa.decimal128(9, 2)),
        "f": pa.array([float("nan") if n % 2 else -0.0 for n in ids]),
        "t": pa.array([datetime.datetime(2026, 1, 1 + n % 2) for n in ids], pa.timestamp("us")),
        "u": pa.array([uuid.UUID(int=n % 2).bytes for n in ids], pa.binary(16)).cast(pa.uuid()),
        "r": pa.array([bytes([n % 2]) for n in ids]),
    }
    lake.write("n.wide", pa.table(columns), "create", properties={"write.parquet.row-group-limit": "500"})
    by = ["b", "s", "d", "f", "day(t)", "u", "r"]
    rows = lake.table("n.wide").map_batches(Breaks(tmp_path), workers=1)
    with pytest.raises(FunctionError):
        rows.write("n.t", "create", checkpoint="j", partition_by=by)
    table = rows.write("n.t", "create", checkpoint="j", partition_by=by)
    plain = lake.table("n.wide").write("n.plain", "create", partition_by=by)
    assert str(table.order_by("id").to_pylist()) == str(plain.order_by("id").to_pylist())
    partitions = [
        {str(one["partition"]) for one in lake.table(f"{name}.files").to_pylist()} for name in ("n.t", "n.plain")
    ]
    assert partitions[0] == partitions[1]


@pytest.mark.parametrize("target", ["n.refused", "folder/"])
def test_refused_rows_come_once(lake: ib.Lake, tmp_path: Path, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def picky(batch: pa.RecordBatch) -> pa.RecordBatch:
        if any(n % 400 == 7 for n in batch["id"].to_pylist()):
            raise ValueError("no sevens")
        return batch

    rows = lake.table("n.source").map_batches(
        picky, schema=SCHEMA, batch_size=100, on_error="quarantine", quarantine=target
    )
    rows = rows.map_batches(Breaks(tmp_path), workers=1, schema=SCHEMA)
    with pytest.raises(FunctionError):
        rows.write("n.t", "create", checkpoint="j")
    assert list(tmp_path.glob("folder/*.parquet")) == []
    assert rows.write("n.t", "create", checkpoint="j").count() == 1_995
    refused = lake.read_parquet("folder/*.parquet") if "/" in target else lake.table(target)
    assert sorted(refused.select("id").to_arrow()["id"].to_pylist()) == [7, 407, 807, 1_207, 1_607]
    assert list(tmp_path.glob("folder/*.unfinished")) == []


def test_a_full_disk_ends_the_job_and_it_goes_on_when_there_is_room(lake: ib.Lake, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def filling(batch: pa.RecordBatch) -> pa.RecordBatch:
        if 1_200 in batch["id"].to_pylist() and not (tmp_path / "room").exists():
            resource.setrlimit(resource.RLIMIT_FSIZE, (400, hard))
        return batch

    rows = lake.table("n.source").map_batches(filling, schema=SCHEMA, batch_size=100, workers=1)
    try:
        with pytest.raises(WriteError):
            rows.write("n.t", "create", checkpoint="j")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    (tmp_path / "room").touch()
    assert rows.write("n.t", "create", checkpoint="j").to_arrow().to_pydict() == ROWS
    files = {str(path) for path in Path(lake.session.catalog.load("n.t").location).rglob("*.parquet")}
    assert files == {entry.path for entry in lake.session.catalog.load("n.t").files()}


def test_what_a_job_has_done_is_no_leftover_until_the_job_is_given_up(lake: ib.Lake, tmp_path: Path) -> None:
    rows = lake.table("n.source").map_batches(Breaks(tmp_path), workers=1, schema=SCHEMA)
    with pytest.raises(FunctionError):
        rows.write("n.source", checkpoint="j")
    table = lake.session.catalog.load("n.source")
    assert find_leftovers(table, older_than_s=0) == []
    (folder,) = journals(tmp_path)
    for path in folder.iterdir():
        path.unlink()
    assert [path for path in find_leftovers(table, older_than_s=0) if path.endswith(".parquet")]


def test_a_done_file_that_is_gone_or_changed_is_named(lake: ib.Lake, tmp_path: Path) -> None:
    rows = lake.table("n.source").map_batches(Breaks(tmp_path), workers=1, schema=SCHEMA)
    with pytest.raises(FunctionError):
        rows.write("n.t", "create", checkpoint="j")
    path = next((tmp_path / "lake" / "n" / "t").rglob("*.parquet"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(DataCorrupt, match=path.name):
        rows.write("n.t", "create", checkpoint="j")
    path.unlink()
    with pytest.raises(DataCorrupt, match=path.name):
        rows.write("n.t", "create", checkpoint="j")
    path.write_bytes(whole)
    assert rows.write("n.t", "create", checkpoint="j").count() == 2_000


def test_a_damaged_journal_is_named(lake: ib.Lake, tmp_path: Path) -> None:
    rows = lake.table("n.source").map_batches(Breaks(tmp_path), workers=1, schema=SCHEMA)
    with pytest.raises(FunctionError):
        rows.write("n.t", "create", checkpoint="j")
    entry = sorted(journals(tmp_path)[0].glob("*.json"))[-1]
    for damage in (b"", b"{", b"[1]", b'{"file": {"dict": [["path", "x"]]}}', b"\xff"):
        entry.write_bytes(damage)
        with pytest.raises(DataCorrupt, match=entry.name):
            rows.write("n.t", "create", checkpoint="j")


def test_a_table_made_by_another_meanwhile_is_told_and_the_work_is_kept(lake: ib.Lake, tmp_path: Path) -> None:
    rows = lake.table("n.source").map_batches(Breaks(tmp_path), workers=1, schema=SCHEMA)
    with pytest.raises(FunctionError):
        rows.write("n.t", "create", checkpoint="j")
    lake.write("n.t", {"id": [1], "x": [1.0]}, "create")
    with pytest.raises(TableExists):
        rows.write("n.t", "create", checkpoint="j")
    lake.drop("n.t")
    assert rows.write("n.t", "create", checkpoint="j").count() == 2_000


def test_in_another_catalog_the_journal_is_in_the_tables_folder(tmp_path: Path) -> None:
    engine = ib.LocalEngine(split_bytes=4_500, threads=2, spill_dir=str(tmp_path / "spill"))
    with ib.connect(uri=f"sqlite:///{tmp_path}/c.db", type="sql", warehouse=tmp_path.as_uri(), engine=engine) as lake:
        lake.write("n.source", ROWS, "create", properties={"write.parquet.row-group-limit": "500"})
        rows = lake.table("n.source").map_batches(Breaks(tmp_path), workers=1, schema=SCHEMA, batch_size=100)
        with pytest.raises(ConfigError, match="takes no checkpoint"):
            rows.write("n.t", "create", checkpoint="j")
        lake.create("n.t", SCHEMA)
        with pytest.raises(FunctionError):
            rows.write("n.t", checkpoint="j")
        assert len(list(tmp_path.glob("n/t/metadata/.jobs/*"))) == 1
        assert rows.write("n.t", checkpoint="j").to_arrow().to_pydict() == ROWS
        assert list(tmp_path.rglob(".jobs")) == []


def test_functions_in_processes_go_on_too(lake: ib.Lake, tmp_path: Path) -> None:
    mended = tmp_path / "mended"

    def breaks(batch: pa.RecordBatch) -> pa.RecordBatch:  # by value: a worker does not find this module
        if batch["id"][0].as_py() == 1_000 and not mended.exists():
            mended.touch()
            raise ValueError("broken")
        return batch

    rows = lake.table("n.source").map_batches(breaks, schema=SCHEMA, batch_size=250, workers=1, processes=True)
    with pytest.raises(FunctionError):
        rows.write("n.t", "create", checkpoint="j")
    assert rows.write("n.t", "create", checkpoint="j").to_arrow().to_pydict() == ROWS
