"""Loaders for JAX, on four devices that are one CPU; run by test_apart.py."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"

import jax

import iceblink as ib
from iceblink.errors import BatchContractBroken, ConfigError

ROWS, BATCH = 300, 16
RANK = """
import json, sys
import jax

port, rank, lake = sys.argv[1:]
jax.distributed.initialize(f"127.0.0.1:{port}", 2, int(rank))
import iceblink as ib

mesh = jax.make_mesh((jax.device_count(),), ("data",))
sharded = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
table = ib.connect(lake).table("n.t")
steps = []
for batch in table.to_jax(8, columns=["id", "emb"], shuffle=True, drop_last=True, device=sharded):
    assert batch["emb"].shape == (16, 2)
    steps.append([number for shard in batch["id"].addressable_shards for number in shard.data.tolist()])
print(json.dumps(steps))
"""


@pytest.fixture
def table(tmp_path: Path) -> Iterator[ib.Dataset]:
    rows = {
        "id": range(ROWS),
        "text": [f"row {number}" for number in range(ROWS)],
        "emb": pa.array([[number, number + 0.5] for number in range(ROWS)], pa.list_(pa.float32())),
        "tags": pa.array([list(range(number % 4)) for number in range(ROWS)], pa.list_(pa.int32())),
    }
    with ib.connect(tmp_path / "lake") as lake:
        yield lake.write("n.t", rows, "create")


@pytest.fixture
def sharded() -> Any:
    mesh = jax.make_mesh((4,), ("data",))
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))


def test_batches_are_arrays_of_jax(table: ib.Dataset) -> None:
    made = table.to_jax(BATCH, shuffle=True)
    first = list(made)
    assert sorted(chain.from_iterable(batch["id"].tolist() for batch in first)) == list(range(ROWS))
    for batch in first:
        values, offsets = batch["tags"]
        assert all(isinstance(array, jax.Array) for array in (batch["id"], batch["emb"], values, offsets))
        assert batch["text"] == [f"row {number}" for number in batch["id"].tolist()]
        assert jax.numpy.diff(offsets).tolist() == [number % 4 for number in batch["id"].tolist()]
    passing = iter(made)
    next(passing)
    resumed = table.to_jax(BATCH, shuffle=True)
    resumed.load_state_dict(made.state_dict())
    assert [batch["id"].tolist() for batch in resumed] == [batch["id"].tolist() for batch in passing]


def test_batches_are_put_on_a_device(table: ib.Dataset) -> None:
    device = jax.devices()[2]
    assert next(iter(table.to_jax(BATCH, device=device)))["emb"].devices() == {device}


def test_batches_are_sharded(table: ib.Dataset, sharded: Any) -> None:
    made = table.to_jax(BATCH, columns=["id", "emb", "text"], drop_last=True, device=sharded)
    total = jax.jit(lambda emb: emb.sum())
    for step, batch in enumerate(made):
        assert batch["emb"].shape == (BATCH, 2)
        assert batch["emb"].sharding == sharded
        assert [shard.data.tolist() for shard in batch["id"].addressable_shards] == [
            list(range(step * BATCH + 4 * part, step * BATCH + 4 * part + 4)) for part in range(4)
        ]
        assert float(total(batch["emb"])) == sum(2 * number + 0.5 for number in batch["id"].tolist())


def test_a_mixture_is_sharded(table: ib.Dataset, sharded: Any) -> None:
    sources = {"low": table.filter(ib._.id < 200), "high": table.filter(ib._.id >= 200)}
    mixed = ib.mix(sources, {"low": 3, "high": 1})
    options: dict[str, Any] = {"columns": ["id", "emb"], "shuffle": True}
    batches = list(mixed.to_jax(BATCH, device=sharded, **options))
    for batch in batches:
        assert {array.sharding for array in batch.values()} == {sharded}
        assert batch["source"].tolist() == [int(number >= 200) for number in batch["id"].tolist()]
    assert [batch["id"].tolist() for batch in batches] == [
        batch["id"].tolist() for batch in mixed.to_numpy(BATCH, **options)
    ]


def test_processes_share_the_rows_of_global_arrays(table: ib.Dataset, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(port), str(rank), tmp_path / "lake"],
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    steps = [json.loads(rank.communicate(timeout=300)[0]) for rank in ranks]
    whole = table.to_numpy(16, columns=["id"], shuffle=True, drop_last=True)
    assert [first + second for first, second in zip(*steps, strict=True)] == [batch["id"].tolist() for batch in whole]


def test_what_makes_no_global_array_is_told(table: ib.Dataset, sharded: Any) -> None:
    with pytest.raises(ConfigError, match="drop_last"):
        table.to_jax(BATCH, columns=["id"], device=sharded)
    with pytest.raises(ConfigError, match="'tags'"):
        table.to_jax(BATCH, drop_last=True, device=sharded)


def test_numbers_are_not_cut(table: ib.Dataset, request: pytest.FixtureRequest) -> None:
    far = table.mutate(id=ib._.id + 2**40)
    with pytest.raises(BatchContractBroken, match="jax_enable_x64"):
        list(far.to_jax(BATCH, columns=["id"]))
    jax.config.update("jax_enable_x64", True)
    request.addfinalizer(lambda: jax.config.update("jax_enable_x64", False))
    assert next(iter(far.to_jax(BATCH, columns=["id"])))["id"].tolist()[0] == 2**40
