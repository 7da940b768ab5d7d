"""Batches on a GPU: those of the CPU, copied beside what it computes, whatever becomes of their memory."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pytest
import torch

import iceblink as ib
from iceblink.errors import ConfigError, FunctionError, OutOfMemoryBudget

pytestmark = pytest.mark.gpu

ROWS, WIDTH, BATCH_ROWS = 40_000, 256, 1_000
SPIN = 20_000_000  # cycles of a GPU: about ten milliseconds
MIB = 1 << 20


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ib.Dataset]:
    ids = np.arange(ROWS)
    dense = np.random.default_rng(7).standard_normal((ROWS, WIDTH), dtype="f4")
    rows = pa.table(
        {
            "id": ids,
            "emb": pa.FixedSizeListArray.from_arrays(pa.array(dense.ravel()), WIDTH),
            "maybe": pa.array([None if number % 7 == 0 else number / 2 for number in ids], pa.float64()),
            "tags": pa.array([list(range(number % 4)) for number in ids], pa.list_(pa.int32())),
            "text": [f"row {number}" for number in ids],
        }
    )
    with ib.connect(tmp_path_factory.mktemp("lake")) as lake:
        yield lake.write("n.t", rows, "create", properties={"write.parquet.row-group-limit": "2000"})


def loader(table: ib.Dataset, **options: Any) -> Any:
    return table.to_torch(BATCH_ROWS, shuffle=True, nulls="mask", **options)


def plain(value: Any) -> Any:
    """Return a batch as Python's own values, and hold that each tensor is where `device` says."""
    match value:
        case torch.Tensor() if value.is_nested:
            return [item.tolist() for item in value.unbind()]
        case torch.Tensor():
            return value.tolist()
        case dict():
            return {name: plain(item) for name, item in value.items()}
        case tuple() | list():
            return [plain(item) for item in value]
        case _:
            return value


def tensors(value: Any) -> list[torch.Tensor]:
    match value:
        case torch.Tensor():
            return [value]
        case dict():
            return tensors(list(value.values()))
        case tuple() | list():
            return [tensor for item in value for tensor in tensors(item)]
        case _:
            return []


class Pair(NamedTuple):
    numbers: torch.Tensor
    others: list[Any]


def paired(batch: dict[str, Any]) -> Pair:
    return Pair(batch["emb"][:, ::2], [batch["id"], batch["text"]])  # a view that is not contiguous


def doubled(batch: dict[str, Any]) -> dict[str, Any]:
    return {**batch, "emb": batch["emb"] * 2}


def made_there(batch: dict[str, Any]) -> dict[str, Any]:
    return {"id": batch["id"], "emb": batch["emb"].cuda() * 2 if torch.cuda.is_available() else batch["emb"] * 2}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"ragged": "pad"},
        {"ragged": "nested"},
        {"collate": paired},
        {"collate": made_there},
        {"transform": doubled, "workers": 3},
        {"transform": doubled, "workers": 2, "processes": True},
    ],
    ids=["plain", "padded", "nested", "collated", "collated on the GPU", "in threads", "in processes"],
)
def test_batches_of_all_epochs_are_those_of_the_cpu(table: ib.Dataset, options: dict[str, Any]) -> None:
    there, here = loader(table, device="cuda", **options), loader(table, **options)
    for _epoch in range(3):
        for got, wanted in zip(there, here, strict=True):
            assert {tensor.device.type for tensor in tensors(got)} == {"cuda"}
            assert plain(got) == plain(wanted)


def test_a_job_goes_on_behind_the_batches_that_it_was_given(table: ib.Dataset) -> None:
    wanted = [batch["id"].tolist() for batch in loader(table)]
    first = loader(table, device="cuda")
    passing = iter(first)
    found = [next(passing)["id"].tolist() for _step in range(7)]
    then = loader(table, device="cuda")
    then.load_state_dict(first.state_dict())
    assert found + [batch["id"].tolist() for batch in then] == wanted


def test_a_pass_that_is_left_lets_go_of_the_memory(table: ib.Dataset) -> None:
    there, here = loader(table, device="cuda"), loader(table)
    before = torch.cuda.memory_allocated()
    for _epoch in range(2):
        for batch in there:
            del batch
            break
        there.close()
        torch.cuda.synchronize()
        assert torch.cuda.memory_allocated() == before
    assert [batch["id"].tolist() for batch in there] == [batch["id"].tolist() for batch in here]


def test_a_collate_that_fails_ends_the_pass_and_not_the_loader(table: ib.Dataset) -> None:
    failing = True

    def collate(batch: dict[str, Any]) -> Any:
        if failing and batch["id"][0] == wanted[5][0]:
            raise ValueError("no")
        return batch["id"]

    wanted = [batch["id"].tolist() for batch in loader(table)]
    there = loader(table, device="cuda", collate=collate)
    found = []
    with pytest.raises(FunctionError, match="ValueError: no"):
        found += [batch.tolist() for batch in there]
    there.close()
    failing = False
    there.load_state_dict({**there.state_dict(), "step": 0})
    assert [batch.tolist() for batch in there] == wanted


def test_a_gpu_that_is_full_is_told_and_the_loader_goes_on_later(table: ib.Dataset) -> None:
    there, here = (table.to_torch(ROWS // 2, columns=["emb"], device=device) for device in ("cuda", None))  # of 20 MB
    torch.cuda.empty_cache()
    room = torch.cuda.memory_reserved() + 8 * MIB
    torch.cuda.set_per_process_memory_fraction(room / torch.cuda.get_device_properties(0).total_memory)
    try:
        with pytest.raises(OutOfMemoryBudget, match="cuda:0 has no room"):
            next(iter(there))
        there.close()
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    for got, wanted in zip(there, here, strict=True):
        assert got["emb"].cpu().equal(wanted["emb"])


@pytest.mark.parametrize("of_its_own", [False, True], ids=["default stream", "another stream"])
def test_memory_is_not_used_again_before_the_stream_has_read_it(table: ib.Dataset, of_its_own: bool) -> None:
    weights = torch.randn(WIDTH, device="cuda", dtype=torch.float64)
    wanted = torch.stack([(batch["emb"].double().cuda() @ weights).sum() for batch in loader(table)])
    stream = torch.cuda.Stream() if of_its_own else torch.cuda.current_stream()
    stream.wait_stream(torch.cuda.current_stream())
    sums = []
    with torch.cuda.stream(stream):
        for batch in loader(table, columns=["emb"], device="cuda"):
            torch.cuda._sleep(SPIN)  # while this is on, batches that come later are copied
            sums.append((batch["emb"].double() @ weights).sum())
            del batch
        found = torch.stack(sums)
    stream.synchronize()
    torch.testing.assert_close(found, wanted)


def test_a_stream_waits_for_what_is_still_on_its_way(table: ib.Dataset) -> None:
    def late(batch: dict[str, Any]) -> list[torch.Tensor]:
        there = batch["emb"].cuda() * 2
        torch.cuda._sleep(SPIN)  # what is copied to the GPU has to wait for what was made there
        return [there, batch["emb"]]

    aside = torch.cuda.Stream()
    wanted = torch.stack([batch["emb"].double().sum() for batch in loader(table, columns=["emb"])])
    with torch.cuda.stream(aside):
        batches = loader(table, columns=["emb"], device="cuda", collate=late)
        found = torch.stack([torch.stack([part.double().sum() for part in batch]) for batch in batches])
    aside.synchronize()
    torch.testing.assert_close(found.cpu(), torch.stack([2 * wanted, wanted], 1))


def test_batches_are_copied_while_the_gpu_computes(table: ib.Dataset) -> None:
    aside, there = torch.cuda.Stream(), loader(table, columns=["emb"], device="cuda", prefetch=1)
    with torch.cuda.stream(aside):
        for batch in there:  # what is done for the first time, pinned memory for example, waits for the GPU
            batch["emb"].sum().item()
        passing = iter(there)
        next(passing)
    torch.cuda.synchronize()
    torch.cuda._sleep(100 * SPIN)
    computed = torch.cuda.Event()
    computed.record()
    with torch.cuda.stream(aside):
        for _step in range(10):  # of which most were not ahead
            next(passing)["emb"].sum().item()
    assert not computed.query(), "copies waited for what was computed"


def test_the_training_loop_waits_for_no_copy(table: ib.Dataset) -> None:
    passing = iter(loader(table, columns=["emb", "id"], device="cuda"))
    next(passing)
    with pytest.warns(UserWarning, match="prototype"):
        torch.cuda.set_sync_debug_mode("warn")
    try:
        for batch in passing:
            batch["emb"].sum()  # a warning would be an error of the test
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_loader_that_has_begun_can_go_to_another_process(table: ib.Dataset) -> None:
    there = loader(table, device="cuda")
    first = next(iter(there))["id"].tolist()
    other = pickle.loads(pickle.dumps(there))
    assert next(iter(other))["id"].tolist() == first


def test_a_data_loader_takes_them(table: ib.Dataset) -> None:
    wrapped = torch.utils.data.DataLoader(loader(table, device="cuda"), batch_size=None)
    assert [batch["id"].tolist() for batch in wrapped] == [batch["id"].tolist() for batch in loader(table)]


@pytest.mark.parametrize("at", [torch.cuda.device_count, lambda: 99])
def test_a_gpu_that_is_not_there_is_told_at_once(table: ib.Dataset, at: Callable[[], int]) -> None:
    with pytest.raises(ConfigError, match="no device"):
        loader(table, device=f"cuda:{at()}")
