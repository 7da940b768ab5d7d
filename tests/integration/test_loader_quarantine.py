"""Rows that a loader cannot give are kept, once, with where they lie; and the batches are those of ``skip``."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch.utils.data import DataLoader

import iceblink as ib
from iceblink import _
from iceblink.errors import ConfigError, FunctionError, SchemaMismatch, WriteError
from iceblink.lake.leftovers import find_leftovers

ROWS, GROUP_ROWS, BATCH = 1000, 50, 25
SEVENS = [number for number in range(ROWS) if number % 100 == 7]
KEPT: dict[str, Any] = {"on_error": "quarantine", "quarantine": "n.bad"}


@pytest.fixture
def table(lake: ib.Lake, monkeypatch: pytest.MonkeyPatch) -> ib.Dataset:
    """Twenty row groups, each a unit."""
    monkeypatch.setattr("iceblink.load.units.PACKED_ROWS", GROUP_ROWS)
    rows = {
        "id": np.arange(ROWS),
        "maybe": pa.array([None if number % 100 == 7 else number / 2 for number in range(ROWS)], pa.float64()),
        "wide": [b"x" * 400] * ROWS,
    }
    return lake.write("n.t", rows, "create", properties={"write.parquet.row-group-limit": str(GROUP_ROWS)})


def picky(batch: dict[str, Any]) -> dict[str, Any]:
    if (np.asarray(batch["id"]) % 100 == 7).any():
        raise ValueError("seven")
    return batch


def loader(table: ib.Dataset, **options: Any) -> Any:
    return table.to_numpy(BATCH, shuffle=True, quality="window", **{"columns": ["id"]} | options)


def ids(batches: Any) -> list[list[int]]:
    return [np.asarray(batch["id"]).tolist() for batch in batches]


def file_of(tmp_path: Path) -> Path:
    (file,) = Path(tmp_path, "my lake ü").rglob("*.parquet")
    return file


def damage(file: Path, group: int) -> None:
    """Change a byte of the column `wide` of a row group."""
    found = pq.ParquetFile(file).metadata.row_group(group)
    column = found.column(found.num_columns - 1)
    data = bytearray(file.read_bytes())
    data[column.data_page_offset + 40] ^= 255
    file.write_bytes(data)


def bad(lake: ib.Lake, *columns: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = lake.table("n.bad").select(*columns).to_arrow().sort_by(columns[0]).to_pylist()
    return found


@pytest.mark.parametrize("quality", ["block", "window", "global"])
def test_rows_that_a_function_fails_on_are_kept_whole_with_place_and_step(
    lake: ib.Lake, table: ib.Dataset, quality: Any, tmp_path: Path
) -> None:
    file = file_of(tmp_path)
    options: dict[str, Any] = {"shuffle": True, "quality": quality, "transform": picky}
    expected = ids(table.to_numpy(BATCH, on_error="skip", nulls="mask", **options))
    steps = {
        number: step
        for step, batch in enumerate(ids(table.to_numpy(BATCH, **options | {"transform": None}, nulls="mask")))
        for number in batch
    }
    assert ids(table.to_numpy(BATCH, nulls="mask", **KEPT, **options)) == expected
    names = ["id", "maybe", "wide", "iceblink_error", "iceblink_file", "iceblink_row", "iceblink_rows"]
    assert bad(lake, *names, "iceblink_epoch", "iceblink_step", "iceblink_operator") == [
        {
            "id": number,
            "maybe": None,
            "wide": b"x" * 400,
            "iceblink_error": "ValueError: seven",
            "iceblink_file": str(file),
            "iceblink_row": number,
            "iceblink_rows": 1,
            "iceblink_epoch": 0,
            "iceblink_step": steps[number],
            "iceblink_operator": "to_numpy",
        }
        for number in SEVENS
    ]
    (told,) = {row["iceblink_traceback"] for row in bad(lake, "iceblink_traceback")}
    assert "in picky" in told
    assert "iceblink/load" not in told


def test_rows_are_kept_once_however_many_passes_there_are(lake: ib.Lake, table: ib.Dataset) -> None:
    one, skipping = loader(table, transform=picky, **KEPT), loader(table, transform=picky, on_error="skip")
    for _epoch in range(3):
        assert ids(one) == ids(skipping)
    assert [row["id"] for row in bad(lake, "id")] == SEVENS
    assert lake.history("n.bad").count() == 1
    assert one.stats().replaced_rows == 3 * len(SEVENS)
    assert one.state_dict() == skipping.state_dict()


def test_rows_that_have_no_place_in_a_tensor_are_kept(lake: ib.Lake, table: ib.Dataset) -> None:
    chosen: dict[str, Any] = {"columns": ["maybe", "id"]}
    assert ids(loader(table, **chosen, **KEPT)) == ids(loader(table, **chosen, on_error="skip"))
    rows = bad(lake, "id", "iceblink_row", "iceblink_step", "iceblink_error")
    assert [(row["id"], row["iceblink_row"], row["iceblink_step"]) for row in rows] == [(n, n, None) for n in SEVENS]
    assert {row["iceblink_error"].partition(" nulls")[0] for row in rows} == {"column 'maybe' has 1"}


@pytest.mark.parametrize("place", ["table", "folder"])
def test_a_file_damaged_in_mid_epoch_is_kept_as_a_stretch_of_it(
    lake: ib.Lake, table: ib.Dataset, place: str, tmp_path: Path
) -> None:
    file, target = file_of(tmp_path), "n.bad" if place == "table" else f"{tmp_path}/refused"
    options: dict[str, Any] = {"columns": ["id", "wide"], "transform": picky, "memory": 1 << 17, "prefetch": 1}
    one = loader(table, on_error="quarantine", quarantine=target, **options)
    passing = iter(one)
    first = ids([next(passing)])
    damage(file, 3)
    damage(file, 19)
    first += ids(passing)
    second = loader(table, on_error="skip", **options)
    second.set_epoch(1)
    assert ids(one) == ids(second)
    found = lake.table("n.bad").to_arrow() if place == "table" else pq.read_table(target)
    rows = [row for row in found.to_pylist() if row["id"] is None]
    assert sorted((row["iceblink_row"], row["iceblink_rows"]) for row in rows) == [(150, 50), (950, 50)]
    assert {row["iceblink_file"] for row in rows} == {str(file)}
    assert all("wide" in row["iceblink_error"] or "checksum" in row["iceblink_error"] for row in rows)
    assert {row["wide"] for row in rows} == {None}
    assert [len(batch) for batch in first] == [BATCH] * (ROWS // BATCH)
    readable = {number for number in SEVENS if number // GROUP_ROWS not in (3, 19)}
    assert {row["id"] for row in found.to_pylist()} - {None} == readable


def test_a_row_that_stands_in_for_another_is_kept_as_itself(lake: ib.Lake, table: ib.Dataset, tmp_path: Path) -> None:
    damage(file_of(tmp_path), 3)  # the rows of group 4, 207 among them, come in their place

    ids(loader(table, columns=["id", "wide"], transform=picky, **KEPT))
    rows = bad(lake, "id", "iceblink_row", "iceblink_rows")
    assert [(row["id"], row["iceblink_row"]) for row in rows if row["id"] is not None] == [(n, n) for n in SEVENS]
    assert [(row["iceblink_row"], row["iceblink_rows"]) for row in rows if row["id"] is None] == [(150, 50)]


def test_a_pass_that_is_left_keeps_what_it_met(lake: ib.Lake, table: ib.Dataset) -> None:
    one = loader(table, transform=picky, prefetch=1, **KEPT)
    for batch in one:
        if len(set(batch["id"].tolist())) < BATCH:
            break
    met = {row["id"] for row in bad(lake, "id")}
    assert met
    assert met <= set(SEVENS)
    passing = iter(one)
    next(passing)
    one.close()
    assert list(passing) == []
    assert one.epoch == 0
    ids(one)
    assert [row["id"] for row in bad(lake, "id")] == SEVENS
    assert find_leftovers(lake.session.catalog.load("n.bad"), older_than_s=0) == []


def test_an_epoch_that_fails_keeps_what_it_met(lake: ib.Lake, table: ib.Dataset) -> None:
    with pytest.raises(FunctionError, match="seven"):
        ids(loader(table.filter(_.id % 100 == 7), transform=picky, **KEPT))
    assert "n.bad" not in lake.tables()

    def broken(batch: dict[str, Any]) -> dict[str, Any]:
        if 900 in batch["id"]:
            raise KeyboardInterrupt
        return picky(batch)

    with pytest.raises(KeyboardInterrupt):
        ids(table.to_numpy(BATCH, columns=["id"], transform=broken, **KEPT))
    assert [row["id"] for row in bad(lake, "id")] == SEVENS[:-1]


def test_ranks_commit_side_by_side(lake: ib.Lake, table: ib.Dataset) -> None:
    def rank(number: int, **options: Any) -> Any:
        return loader(table, transform=picky, rank=number, world=2, **options)

    expected = [ids(rank(number, on_error="skip")) for number in range(2)]
    found: list[list[list[int]]] = [[], []]
    ranks = [rank(number, **KEPT) for number in range(2)]
    threads = [
        threading.Thread(target=lambda number=number: found[number].extend(ids(ranks[number]))) for number in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == expected
    assert [row["id"] for row in bad(lake, "id")] == SEVENS
    assert lake.history("n.bad").count() == 2


@pytest.mark.slow
def test_workers_of_a_data_loader_commit_their_own(lake: ib.Lake, table: ib.Dataset) -> None:
    one = table.to_torch(BATCH, columns=["id"], shuffle=True, transform=picky, **KEPT)
    wrapped = DataLoader(one, batch_size=None, num_workers=2, multiprocessing_context="spawn")
    assert ids(wrapped) == ids(table.to_torch(BATCH, columns=["id"], shuffle=True, transform=picky, on_error="skip"))
    assert [row["id"] for row in bad(lake, "id")] == SEVENS


def test_a_resumed_job_gives_the_batches_of_skip(table: ib.Dataset) -> None:
    whole = ids(loader(table, transform=picky, on_error="skip"))
    killed = loader(table, transform=picky, on_error="skip")
    passing = iter(killed)
    for _step in range(7):
        next(passing)
    resumed = loader(table, transform=picky, **KEPT)
    resumed.load_state_dict(killed.state_dict())
    assert ids(resumed) == whole[7:]


def test_of_filtered_rows_the_file_is_known_and_of_computed_rows_the_number(
    lake: ib.Lake, table: ib.Dataset, tmp_path: Path
) -> None:
    file = file_of(tmp_path)
    ids(loader(table.filter(_.id % 2 == 1).mutate(twice=_.id * 2), columns=["twice", "id"], transform=picky, **KEPT))
    rows = bad(lake, "id", "twice", "iceblink_file", "iceblink_row")
    assert {row["iceblink_file"] for row in rows} == {str(file)}
    assert [(row["id"], row["twice"], row["iceblink_row"]) for row in rows] == [(n, 2 * n, None) for n in SEVENS]
    lake.drop("n.bad")
    ids(loader(table.map_batches(lambda batch: batch).filter(_.id > 49), transform=picky, **KEPT))
    rows = bad(lake, "id", "iceblink_file", "iceblink_row")
    assert [(row["id"], row["iceblink_file"], row["iceblink_row"]) for row in rows] == [
        (number, None, number - 50) for number in SEVENS[1:]
    ]


def test_a_mixture_has_one_quarantine(lake: ib.Lake, table: ib.Dataset) -> None:
    other = lake.write("n.u", {"id": range(1000, 1200), "wide": [b"y" * 400] * 200}, "create")
    sources = {"t": table.select("id", "wide"), "u": other}
    weights = {"t": 5, "u": 1}

    def made(**options: Any) -> Any:
        return ib.mix(sources, weights).to_numpy(BATCH, shuffle=True, transform=picky, **options)

    assert ids(made(**KEPT)) == ids(made(on_error="skip"))
    rows = bad(lake, "id", "iceblink_operator", "iceblink_file")
    assert {row["iceblink_operator"] for row in rows} == {"to_numpy, t", "to_numpy, u"}
    assert len({row["id"] for row in rows}) == len(rows) > len(SEVENS) - 2
    assert all((row["id"] < 1000) == ("/t/" in row["iceblink_file"]) for row in rows)


def test_sequences_are_kept_with_the_file_of_their_documents(lake: ib.Lake) -> None:
    documents = {"ids": pa.array([[number] * 8 for number in range(64)], pa.list_(pa.int32()))}
    made = lake.write("n.docs", documents, "create")

    def without_ten(batch: dict[str, Any]) -> dict[str, Any]:
        if (batch["ids"] == 10).any():
            raise ValueError("ten")
        return batch

    list(made.to_numpy(4, sequences=ib.Pack("ids", 16), transform=without_ten, **KEPT))
    (row,) = bad(lake, "iceblink_file", "iceblink_row", "ids")
    assert row["ids"] == [10] * 8 + [11] * 8
    assert row["iceblink_file"].endswith(".parquet")
    assert row["iceblink_row"] is None


def test_very_many_rows_are_committed_under_way(
    lake: ib.Lake, table: ib.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("iceblink.load.refused.WAITING", 4)
    ids(loader(table, transform=picky, **KEPT))
    assert [row["id"] for row in bad(lake, "id")] == SEVENS
    assert lake.history("n.bad").count() == 3


def test_a_quarantine_that_cannot_be_written_is_told_and_tried_again(
    lake: ib.Lake, table: ib.Dataset, tmp_path: Path
) -> None:
    target = tmp_path / "refused"
    one = loader(table, transform=picky, on_error="quarantine", quarantine=f"{target}/")
    target.write_text("in the way")
    passing = iter(one)
    with pytest.raises(WriteError):
        list(passing)
    target.unlink()
    ids(one)
    assert sorted(pq.read_table(target)["id"].to_pylist()) == SEVENS
    assert [path.suffix for path in target.iterdir()] == [".parquet"]


SCRIPT = """
import os, signal, sys
import iceblink as ib

def picky(batch):
    if (batch["id"] % 100 == 7).any():
        raise ValueError("seven")
    return batch

table = ib.connect(sys.argv[1]).table("n.t")
passing = iter(table.to_numpy(25, columns=["id"], transform=picky, on_error="quarantine", quarantine="n.bad"))
for _step in range(10):
    next(passing)
if sys.argv[2] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize("end", ["killed", "forgotten"])
def test_a_process_that_ends_inside_of_a_pass_leaves_nothing(lake: ib.Lake, end: str, tmp_path: Path) -> None:
    folder = tmp_path / "my lake ü"
    before = set(folder.rglob("*"))
    run = subprocess.run([sys.executable, "-c", SCRIPT, str(folder), end], capture_output=True, text=True)
    assert run.returncode == (0 if end == "forgotten" else -signal.SIGKILL), run.stderr
    assert ("refused rows are not kept" in run.stderr) == (end == "forgotten")
    assert lake.tables() == ["n.t"]
    assert {path for path in set(folder.rglob("*")) - before if path.suffix not in (".db-wal", ".db-shm")} == set()


def test_what_cannot_be_is_said_when_the_loader_is_made(lake: ib.Lake, table: ib.Dataset) -> None:
    for wrong in ({"on_error": "quarantine"}, {"quarantine": "n.bad"}, {"on_error": "skip", "quarantine": "n.bad"}):
        with pytest.raises(ConfigError, match="go together"):
            loader(table, **wrong)
    with pytest.raises(ConfigError, match="did you mean 'quarantine'"):
        loader(table, on_error="quarantin", quarantine="n.bad")
    lake.write("n.bad", {"id": [1]}, "create")
    with pytest.raises(SchemaMismatch, match=r"n\.bad cannot take"):
        loader(table, **KEPT)
    with pytest.raises(SchemaMismatch, match=r"n\.bad cannot take"):
        ib.mix({"t": table}, {"t": 1}).to_numpy(BATCH, **KEPT)


def test_tensors_fail_in_collate_and_are_kept(lake: ib.Lake, table: ib.Dataset) -> None:
    def collate(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return picky(batch)["id"]

    found = list(table.to_torch(BATCH, columns=["id"], collate=collate, **KEPT))
    assert sorted(set(chain.from_iterable(batch.tolist() for batch in found)) ^ set(range(ROWS))) == SEVENS
    assert [row["id"] for row in bad(lake, "id")] == SEVENS
