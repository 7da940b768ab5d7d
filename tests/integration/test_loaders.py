"""A table as batches for a model: every row once, resumed by any number of ranks, and mistakes told at once."""

from __future__ import annotations

import json
import random
import threading
import time
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import iceblink as ib
from iceblink import _
from iceblink.errors import (
    BatchContractBroken,
    ColumnNotFound,
    ConfigError,
    DataCorrupt,
    FunctionError,
    IceblinkError,
    PlanError,
)
from iceblink.events import observing
from iceblink.load.replace import RowsReplaced

ROWS = 1_200
GROUP_ROWS = 50
QUALITIES = ["none", "block", "window", "global"]


def rows(first: int, count: int) -> pa.Table:
    ids = np.arange(first, first + count)
    return pa.table(
        {
            "id": ids,
            "text": [f"row {number}" for number in ids],
            "emb": pa.array([[number, number + 0.5] for number in ids], pa.list_(pa.float32())),
            "tags": pa.array([list(range(number % 4)) for number in ids], pa.list_(pa.int32())),
            "maybe": pa.array([None if number % 7 == 0 else number / 2 for number in ids], pa.float64()),
            "wide": [b"x" * 400] * count,  # so that row groups are not packed together
        }
    )


@pytest.fixture
def table(lake: ib.Lake, monkeypatch: pytest.MonkeyPatch) -> ib.Dataset:
    """Twenty-four row groups, each a unit."""
    monkeypatch.setattr("iceblink.load.units.PACKED_ROWS", GROUP_ROWS)
    lake.write("n.t", rows(0, ROWS), "create", properties={"write.parquet.row-group-limit": str(GROUP_ROWS)})
    return lake.table("n.t")


def ids(loader: Any) -> list[list[int]]:
    found = []
    for batch in loader:
        assert batch["text"] == [f"row {number}" for number in batch["id"].tolist()]
        assert batch["emb"][:, 1].tolist() == [number + 0.5 for number in batch["id"].tolist()]
        found.append(batch["id"].tolist())
    return found


def flat(parts: Any) -> list[int]:
    return list(chain.from_iterable(parts))


def loader(table: ib.Dataset, batch_size: int = 24, quality: str = "window", **options: Any) -> Any:
    columns = options.pop("columns", ["id", "text", "emb"])
    if quality != "none":
        options |= {"shuffle": True, "quality": quality}
    return table.to_torch(batch_size, columns=columns, **options)


@pytest.mark.parametrize("quality", QUALITIES)
def test_an_epoch_has_every_row_once_and_the_next_another_order(table: ib.Dataset, quality: str) -> None:
    made = loader(table, quality=quality)
    first, second = ids(made), ids(made)
    assert sorted(flat(first)) == sorted(flat(second)) == list(range(ROWS))
    assert len(made) == len(first) == len(second) == ROWS // 24
    assert (first == second) == (quality == "none")
    assert made.epoch == 2
    assert "24 units" in repr(made)


@pytest.mark.parametrize("quality", QUALITIES)
@pytest.mark.parametrize("tail", [{"drop_last": True}, {"pad": True}])
def test_a_job_killed_at_any_time_goes_on_with_any_number_of_ranks(
    table: ib.Dataset, quality: str, tail: dict[str, Any], tmp_path: Path
) -> None:
    tail = {**tail, "cache": tmp_path / "cache"} if tail.get("pad") else tail
    chosen = table.filter(_.id % 3 != 1) if quality == "window" else table
    chance = random.Random(quality)
    state = loader(chosen, 24, quality, seed=5, rank=0, world=2, **tail).state_dict()
    undisturbed = loader(chosen, 48, quality, **tail)
    undisturbed.load_state_dict(state)
    expected = [ids(undisturbed) for _epoch in range(2)]
    found: list[list[list[int]]] = [[], []]
    while True:
        world = chance.choice([1, 2, 3, 4, 8])
        ranks = [loader(chosen, 48 // world, quality, rank=rank, world=world, **tail) for rank in range(world)]
        for one in ranks:
            one.load_state_dict(json.loads(json.dumps(state)))
        passes = [iter(one) for one in ranks]
        epoch, steps = ranks[0].epoch, chance.randrange(1, 24)
        if epoch == 2:
            break
        for _step in range(steps):
            parts = [next(one, None) for one in passes]
            if parts[0] is None:
                assert parts == [None] * world
                break
            found[epoch].append(flat(part["id"].tolist() for part in parts if part is not None))
        states = [one.state_dict() for one in ranks]
        assert all(one == states[0] for one in states), "any rank's state serves all"
        state = states[0]
        for one in passes:
            one.close()
    assert found == expected
    assert len(json.dumps(state)) < 1000


def test_a_state_is_loaded_before_or_during_a_pass(table: ib.Dataset) -> None:
    one = loader(table)
    passing = iter(one)
    for _step in range(30):
        next(passing)
    state = one.state_dict()
    rest = ids(passing)
    other = loader(table, seed=9)  # the state's seed goes before its own
    passing = iter(other)
    next(passing)
    other.load_state_dict(state)
    assert ids(passing) == rest
    other.load_state_dict(state)
    assert ids(other) == rest
    assert ids(other) == ids(one), "and the next epoch is the same"


def test_a_pass_left_early_begins_anew(table: ib.Dataset) -> None:
    one = loader(table)
    expected = ids(loader(table))
    left = iter(one)
    next(left)
    assert ids(one) == expected
    with pytest.raises(PlanError, match="another pass"):
        next(left)


def test_a_loop_that_is_left_leaves_no_thread(table: ib.Dataset) -> None:
    before = set(threading.enumerate())
    made = loader(table)
    for _batch in made:
        break
    assert set(threading.enumerate()) <= before
    assert made.state_dict()["step"] == 1


def test_batches_before_an_error_are_handed_over(table: ib.Dataset) -> None:
    def until_ten(batch: dict[str, Any]) -> dict[str, Any]:
        seen.append(batch)
        if len(seen) == 11:
            raise ValueError("the eleventh")
        return batch

    seen: list[dict[str, Any]] = []
    found: list[Any] = []
    with pytest.raises(FunctionError, match="eleventh"):
        found.extend(loader(table, transform=until_ten))
    assert len(found) == 10


def test_epochs_are_chosen(table: ib.Dataset) -> None:
    one, other = loader(table), loader(table)
    ids(one)
    second = ids(one)
    other.set_epoch(1)
    assert ids(other) == second


def test_a_state_of_another_dataset_is_refused_with_the_difference(lake: ib.Lake, table: ib.Dataset) -> None:
    state = loader(table).state_dict()
    pinned = lake.table("n.t", snapshot=lake.history("n.t").to_pylist()[-1]["snapshot_id"])
    loader(pinned).load_state_dict(state)
    lake.write("n.t", rows(ROWS, 10), "append")
    for other, differing in (
        (lake.table("n.t"), "table n.t"),
        (table.filter(_.id > 5), "statement"),
    ):
        with pytest.raises(PlanError, match=differing):
            loader(other).load_state_dict(state)
    with pytest.raises(PlanError, match="columns"):
        loader(table, columns=["id", "text", "emb", "wide"]).load_state_dict(state)
    with pytest.raises(PlanError, match="batch_size=24"):
        loader(table, 25).load_state_dict(state)
    with pytest.raises(PlanError, match="no state"):
        loader(table).load_state_dict({})
    ids(loader(pinned))


def test_ranks_are_even_with_fewer_row_groups_than_ranks(lake: ib.Lake) -> None:
    lake.write("n.small", rows(0, 100), "create")
    small = lake.table("n.small")
    ranks = [ids(loader(small, 3, rank=rank, world=8, drop_last=True)) for rank in range(8)]
    assert {len(found) for found in ranks} == {100 // 24}
    assert len(set(flat(map(flat, ranks)))) == 96
    with pytest.raises(ConfigError, match="wait for ever"):
        loader(small, 3, rank=0, world=8)
    with pytest.raises(ConfigError, match="no step"):
        loader(small, 101, drop_last=True)


def test_padding_is_told(table: ib.Dataset) -> None:
    last = list(loader(table, 64, pad=True))[-1]
    assert len(last["id"]) == 64
    assert int(last["padded"].sum()) == 64 - ROWS % 64
    assert not last["padded"][: ROWS % 64].any()


def test_ranks_come_from_the_environment(table: ib.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert ids(loader(table, 12)) == ids(loader(table, 12, rank=1, world=2))
    monkeypatch.setenv("RANK", "first")
    with pytest.raises(ConfigError, match="first"):
        loader(table)


def test_columns_have_the_types_of_arrays(table: ib.Dataset) -> None:
    batch = next(iter(table.to_numpy(6, nulls={"maybe": -1})))
    assert batch["id"].dtype == np.int64
    assert batch["emb"].dtype == np.float32
    assert batch["emb"].shape == (6, 2)
    assert batch["emb"].flags.writeable
    assert batch["maybe"].tolist() == [-1, 0.5, 1, 1.5, 2, 2.5]
    values, offsets = batch["tags"]
    assert values.tolist() == [0, 0, 1, 0, 1, 2, 0]
    assert offsets.tolist() == [0, 0, 1, 3, 6, 6, 7]
    assert batch["wide"] == [b"x" * 400] * 6
    padded = next(iter(table.to_numpy(6, columns=["tags"], ragged="pad", text="arrow")))
    assert padded["tags"].tolist() == [[0, 0, 0], [0, 0, 0], [0, 1, 0], [0, 1, 2], [0, 0, 0], [0, 0, 0]]
    assert padded["tags_valid"].sum(axis=1).tolist() == [0, 1, 2, 3, 0, 1]
    arrow = next(iter(table.to_torch(6, columns=["text"], text="arrow")))
    assert arrow["text"].to_pylist() == [f"row {number}" for number in range(6)]
    nested = next(iter(table.to_torch(6, columns=["tags"], ragged="nested")))["tags"]
    assert [part.tolist() for part in nested.unbind()] == [[], [0], [0, 1], [0, 1, 2], [], [0]]


def test_nulls_are_refused_masked_or_filled(table: ib.Dataset) -> None:
    with pytest.raises(BatchContractBroken, match=r"'maybe' has . nulls") as caught:
        list(loader(table, columns=["id", "maybe"]))
    assert "row group" in caught.value.where
    batch = next(iter(table.to_numpy(8, columns=["id", "maybe"], nulls={"maybe": "mask"})))
    assert batch["maybe_valid"].tolist() == [False] + [True] * 6 + [False]
    assert "id_valid" not in batch


def test_a_list_of_another_length_is_told_with_its_place(lake: ib.Lake, table: ib.Dataset) -> None:
    lake.write("n.t", rows(ROWS, 5).set_column(2, "emb", pa.array([[1.0]] * 5, pa.list_(pa.float32()))), "append")
    uneven = lake.table("n.t").filter(_.id >= ROWS - 10)
    with pytest.raises(BatchContractBroken, match="a list of"):
        list(uneven.to_numpy(10, columns=["id", "emb"]))
    batch = next(iter(uneven.to_numpy(15, columns=["emb"], tensors={"emb": False})))
    assert sorted(np.diff(batch["emb"][1])) == [1] * 5 + [2] * 10


def test_whatever_is_a_dataset_can_be_loaded(lake: ib.Lake, table: ib.Dataset) -> None:
    grouped = lake.sql("SELECT id % 10 AS k, count(*) AS n FROM n.t GROUP BY k ORDER BY k")
    assert flat(batch["k"].tolist() for batch in grouped.to_torch(4)) == list(range(10))
    doubled = table.select("id").map_batches(
        lambda batch: {"id": batch["id"] * 2}, schema={"id": "long"}, batch_format="numpy"
    )
    one = doubled.to_torch(24, shuffle=True)
    passing = iter(one)
    next(passing)
    state = one.state_dict()
    rest = [batch["id"].tolist() for batch in passing]
    again = doubled.to_torch(24, shuffle=True)
    again.load_state_dict(state)
    assert [batch["id"].tolist() for batch in again] == rest
    memory = lake.from_arrow(rows(0, 10))
    assert ids(memory.to_numpy(3, nulls="mask")) == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]


def test_functions_of_the_user_are_called_on_each_batch(table: ib.Dataset) -> None:
    made = loader(table, transform=lambda batch: {"sum": batch["emb"].sum(axis=1)}, collate=lambda batch: batch["sum"])
    assert float(sum(batch.sum() for batch in made)) == sum(2 * number + 0.5 for number in range(ROWS))

    def broken(batch: dict[str, Any]) -> None:
        raise KeyError("label")

    with pytest.raises(FunctionError, match="label") as caught:
        list(loader(table, transform=broken))
    assert "transform, step 0" in caught.value.where


def test_batches_go_to_their_device_behind_the_users_functions(table: ib.Dataset) -> None:
    def collate(batch: dict[str, Any]) -> tuple[Any, list[str]]:
        assert batch["id"].device.type == "cpu"
        return batch["id"], batch["text"]

    numbers, text = next(iter(loader(table, device="meta", collate=collate)))  # a device that is in every PyTorch
    assert numbers.device.type == "meta"
    assert text == [f"row {number}" for number in next(iter(loader(table)))["id"].tolist()]
    for absent in ("gpuu", "cuda:99"):
        with pytest.raises(ConfigError, match=absent):
            loader(table, device=absent)


def test_named_tuples_go_to_their_device_as_such(table: ib.Dataset) -> None:
    class Pair(NamedTuple):
        numbers: torch.Tensor
        text: list[str]

    batch = next(iter(loader(table, device="meta", collate=lambda batch: Pair(batch["id"], batch["text"]))))
    assert isinstance(batch, Pair)
    assert batch.numbers.device.type == "meta"


def test_a_second_job_decodes_nothing(table: ib.Dataset, tmp_path: Path) -> None:
    cache = ib.Cache(tmp_path / "cache")
    first = ids(loader(table, cache=cache))
    misses = cache.stats().misses
    assert misses == 24
    assert ids(loader(table, cache=cache)) == first
    assert cache.stats().misses == misses


def test_an_append_uses_what_the_cache_has(lake: ib.Lake, table: ib.Dataset, tmp_path: Path) -> None:
    cache = ib.Cache(tmp_path / "cache")
    ids(loader(table, cache=cache))
    lake.write("n.t", rows(ROWS, 24), "append")
    misses = cache.stats().misses
    assert sorted(flat(ids(loader(lake.table("n.t"), cache=cache)))) == list(range(ROWS + 24))
    assert cache.stats().misses == misses + 1


def test_all_rows_are_permuted_from_the_cache(table: ib.Dataset, tmp_path: Path) -> None:
    few: dict[str, Any] = {"memory": "6 KiB", "quality": "global"}
    with pytest.raises(ConfigError, match="permutation of all rows"):
        loader(table, **few)
    assert ids(loader(table, cache=tmp_path / "cache", **few)) == ids(loader(table, quality="global"))
    with pytest.raises(ConfigError, match="permutation of all rows"):
        loader(table, cache=ib.Cache(tmp_path / "small", limit="12 KiB"), **few)


@pytest.mark.parametrize("quality", QUALITIES)
def test_a_file_damaged_under_way_is_named(table: ib.Dataset, quality: str, tmp_path: Path) -> None:
    made = loader(table, quality=quality)
    (file,) = Path(tmp_path, "my lake ü").rglob("*.parquet")
    data = bytearray(file.read_bytes())
    for place in range(4, len(data) * 9 // 10, 97):
        data[place] ^= 255
    file.write_bytes(data)
    with pytest.raises(DataCorrupt) as caught:
        list(made)
    assert str(file) in caught.value.where


@pytest.mark.parametrize("quality", QUALITIES)
def test_a_damaged_row_group_is_replaced_and_counts_stay(table: ib.Dataset, quality: str, tmp_path: Path) -> None:
    (file,) = Path(tmp_path, "my lake ü").rglob("*.parquet")
    group = pq.ParquetFile(file).metadata.row_group(3)
    column = group.column(group.num_columns - 1)
    assert column.path_in_schema == "wide"
    data = bytearray(file.read_bytes())
    data[column.data_page_offset + 40] ^= 255
    file.write_bytes(data)
    told: list[RowsReplaced] = []
    with observing(lambda event: told.append(event) if isinstance(event, RowsReplaced) else None):
        made = loader(table, quality=quality, columns=["id", "text", "emb", "wide"], on_error="skip")
        found = ids(made)
    lost = set(range(3 * GROUP_ROWS, 4 * GROUP_ROWS))
    assert sorted(flat(found)) == sorted([*set(range(ROWS)) - lost, *range(4 * GROUP_ROWS, 5 * GROUP_ROWS)])
    assert len(found) == len(made)
    assert made.stats().replaced_rows == sum(event.rows for event in told) >= GROUP_ROWS
    assert all("row group 3" in event.where for event in told)
    assert ids(loader(table, quality=quality, columns=["id", "text", "emb", "wide"], on_error="skip")) == found


def test_rows_that_a_function_fails_on_are_replaced_and_named(table: ib.Dataset) -> None:
    def picky(batch: dict[str, Any]) -> dict[str, Any]:
        if (batch["id"] % 100 == 7).any():
            raise ValueError("seven")
        return batch

    told: list[RowsReplaced] = []
    with observing(lambda event: told.append(event) if isinstance(event, RowsReplaced) else None):
        made = loader(table, transform=picky, on_error="skip")
        found = ids(made)
    assert [len(batch) for batch in found] == [24] * (ROWS // 24)
    kept = [number for number in range(ROWS) if number % 100 != 7]
    assert set(flat(found)) == set(kept)
    assert made.stats().replaced_rows == len(told) == ROWS // 100
    assert all("row 7 of" in event.where and "seven" in event.error for event in told)
    with pytest.raises(FunctionError, match="seven"):
        list(loader(table.filter(_.id % 100 == 7), transform=picky, on_error="skip"))


def test_rows_that_have_no_place_in_a_tensor_are_replaced(table: ib.Dataset) -> None:
    made = table.to_numpy(24, columns=["id", "maybe"], on_error="skip")
    found = flat(batch["id"].tolist() for batch in made)
    assert len(found) == ROWS
    assert set(found) == {number for number in range(ROWS) if number % 7}


def test_nothing_is_loaded_of_nothing(lake: ib.Lake) -> None:
    lake.write("n.empty", rows(0, 1).slice(0, 0), "create")
    empty = lake.table("n.empty")
    made = empty.to_torch(4, shuffle=True)
    assert len(made) == 0
    assert list(made) == list(made) == []
    lake.write("n.one", rows(1, 1), "create")
    assert ids(lake.table("n.one").to_torch(4, shuffle=True, nulls="mask")) == [[1]]


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"columns": ["idd"]}, ColumnNotFound, "idd"),
        ({"batch_size": 0}, ConfigError, "at least one row"),
        ({"rank": 1}, ConfigError, "belong together"),
        ({"rank": 2, "world": 2}, ConfigError, "rank 2"),
        ({"quality": "best"}, ConfigError, "best"),
        ({"pad": True, "drop_last": True}, ConfigError, "both"),
        ({"nulls": "zero"}, ConfigError, "zero"),
        ({"nulls": {"no": 0}}, ConfigError, "no column 'no'"),
        ({"ragged": "nest"}, ConfigError, "nest"),
        ({"on_error": "quarantine"}, ConfigError, "quarantine"),
        ({"memory": "lots"}, ConfigError, "lots"),
        ({"prefetch": 0}, ConfigError, "0"),
        ({"workers": 0}, ConfigError, "workers=0"),
        ({"cache": "/proc/none"}, ConfigError, "/proc/none"),
    ],
)
def test_what_cannot_be_is_said_when_the_loader_is_made(
    table: ib.Dataset, options: dict[str, Any], error: type[IceblinkError], said: str
) -> None:
    with pytest.raises(error) as caught:
        loader(table, **options)
    assert said in str(caught.value)


def test_an_option_that_there_is_not_is_named(table: ib.Dataset) -> None:
    with pytest.raises(ConfigError, match="did you mean 'columns'"):
        table.to_numpy(4, colums=["id"])


def test_functions_run_in_several_threads_and_batches_keep_their_order(table: ib.Dataset) -> None:
    together = threading.Barrier(3)

    def meeting(batch: dict[str, Any]) -> dict[str, Any]:
        together.wait()  # passes when three are here at the same time
        return batch

    assert ROWS // 25 % 3 == 0
    assert ids(loader(table, 25, transform=meeting, workers=3)) == ids(loader(table, 25))


def test_waits_are_measured(table: ib.Dataset) -> None:
    made = loader(table)
    ids(made)
    stats = made.stats()
    assert (stats.steps, stats.rows) == (len(made), ROWS)
    assert 0 <= stats.wait_p50_s <= stats.wait_p99_s <= stats.wait_max_s <= stats.waited_s <= stats.seconds
    assert stats.decoded_bytes > 0
    assert f"{ROWS:,} rows" in str(stats)

    def slowly(batch: dict[str, Any]) -> dict[str, Any]:
        time.sleep(0.01)
        return batch

    slow = loader(table.limit(100), transform=slowly)
    ids(slow)
    assert slow.stats().bottleneck == "transform"
