"""Loaders for TensorFlow; run by test_apart.py."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import tensorflow as tf

import iceblink as ib
from iceblink.errors import BatchContractBroken, ConfigError

ROWS, GROUP_ROWS, BATCH = 300, 20, 16
STEPS = -(-ROWS // BATCH)


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ib.Dataset]:
    monkeypatch.setattr("iceblink.load.units.PACKED_ROWS", GROUP_ROWS)
    rows = {
        "id": range(ROWS),
        "text": [f"røw {number}" for number in range(ROWS)],
        "data": [b"\xff" + str(number).encode() for number in range(ROWS)],
        "emb": pa.array([[number, number + 0.5] for number in range(ROWS)], pa.list_(pa.float32())),
        "tags": pa.array([list(range(number % 4)) for number in range(ROWS)], pa.list_(pa.int32())),
        "maybe": [None if number % 7 == 0 else number / 2 for number in range(ROWS)],
    }
    with ib.connect(tmp_path / "lake") as lake:
        yield lake.write("n.t", rows, "create", properties={"write.parquet.row-group-limit": str(GROUP_ROWS)})


def loader(table: ib.Dataset, **options: Any) -> Any:
    return table.to_tf(BATCH, shuffle=True, quality="window", nulls="mask", **options)


def ids(batches: Any) -> list[list[int]]:
    return [batch["id"].numpy().tolist() for batch in batches]


def test_an_iteration_of_the_dataset_is_an_epoch(table: ib.Dataset) -> None:
    made = loader(table)
    found = [ids(made.dataset), ids(made.dataset)]
    assert [sorted(chain.from_iterable(epoch)) for epoch in found] == [list(range(ROWS))] * 2
    assert found[0] != found[1]
    bare = table.to_numpy(BATCH, shuffle=True, quality="window", columns=["id"])
    assert found == [[batch["id"].tolist() for batch in bare] for _epoch in range(2)]


@pytest.mark.parametrize("tail", [{}, {"drop_last": True}, {"pad": True}])
@pytest.mark.parametrize("ragged", [{}, {"ragged": "pad"}])
def test_batches_are_what_the_signature_says(table: ib.Dataset, tail: dict[str, bool], ragged: dict[str, str]) -> None:
    made = loader(table, **tail, **ragged)
    spec = made.dataset.element_spec
    rows = BATCH if tail else None
    assert spec["id"] == tf.TensorSpec([rows], tf.int64)
    assert spec["emb"] == tf.TensorSpec([rows, 2], tf.float32)
    assert spec["text"] == spec["data"] == tf.TensorSpec([rows], tf.string)
    assert spec["maybe_valid"] == tf.TensorSpec([rows], tf.bool)
    assert ("padded" in spec) == ("pad" in tail)
    for batch in made.dataset:
        assert all(spec[name].is_compatible_with(value) for name, value in batch.items())
        numbers = batch["id"].numpy()
        assert [text.decode() for text in batch["text"].numpy()] == [f"røw {number}" for number in numbers]
        assert batch["data"].numpy().tolist() == [b"\xff" + str(number).encode() for number in numbers]
        assert batch["emb"].numpy()[:, 1].tolist() == [number + 0.5 for number in numbers]
        assert batch["maybe_valid"].numpy().tolist() == [bool(number % 7) for number in numbers]
        tags = (
            tf.RaggedTensor.from_tensor(batch["tags"], batch["tags_valid"].numpy().sum(1)) if ragged else batch["tags"]
        )
        assert tags.to_list() == [list(range(number % 4)) for number in numbers]


def test_the_state_is_what_tensorflow_took(table: ib.Dataset) -> None:
    undisturbed, made = loader(table), loader(table)
    first, second = ids(undisturbed), ids(undisturbed)
    taken = list(islice(made.dataset.map(lambda batch: batch["id"]), 5))
    assert len(taken) == 5
    state = json.loads(json.dumps(made.state_dict()))
    assert state["step"] == 5
    resumed = loader(table)
    resumed.load_state_dict(state)
    assert [ids(resumed.dataset), ids(resumed.dataset)] == [first[5:], second]


def test_keras_fits_epoch_after_epoch(table: ib.Dataset) -> None:
    made = table.to_tf(BATCH, columns=["id", "emb"], shuffle=True)
    seen: list[tuple[int, int]] = []

    class Saved(tf.keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, step: int, logs: Any = None) -> None:
            state = made.state_dict()
            seen.append((state["epoch"], state["step"]))

    model = tf.keras.Sequential([tf.keras.layers.Dense(1)])
    model.compile(optimizer="sgd", loss="mse")
    batches = made.dataset.map(lambda batch: (batch["emb"] / ROWS, batch["id"] / ROWS))
    batches = batches.apply(tf.data.experimental.assert_cardinality(len(made)))
    model.fit(batches, epochs=2, shuffle=False, verbose=0, callbacks=[Saved()])
    assert seen == [(epoch, step) for epoch in range(2) for step in range(1, STEPS + 1)]


def test_a_function_needs_a_signature(table: ib.Dataset) -> None:
    def doubled(batch: dict[str, Any]) -> Any:
        return batch["id"] * 2, batch["text"]

    with pytest.raises(ConfigError, match="signature="):
        loader(table, transform=doubled)
    signature = tf.TensorSpec([None], tf.int64), tf.TensorSpec([None], tf.string)
    made = loader(table, transform=doubled, signature=signature)
    assert sum(int(tf.reduce_sum(numbers)) for numbers, _texts in made.dataset) == ROWS * (ROWS - 1)


def test_what_has_no_tensor_is_told(table: ib.Dataset) -> None:
    with pytest.raises(ConfigError, match="'words'"):
        table.mutate(words=ib._.text.split(" ")).to_tf(BATCH)
    missing = table.mutate(text=ib._.text.nullif("røw 3")).select("text").to_tf(BATCH)
    with pytest.raises(BatchContractBroken, match="'text' has nulls"):
        list(missing)
    with pytest.raises(tf.errors.OpError, match="'text' has nulls"):
        list(missing.dataset)


def test_a_mixture_is_a_dataset_of_its_own_signature(table: ib.Dataset) -> None:
    sources = {"low": table.filter(ib._.id < 200), "high": table.filter(ib._.id >= 200)}
    options: dict[str, Any] = {"columns": ["id", "text", "tags"], "shuffle": True}
    mixed = ib.mix(sources, {"low": 3, "high": 1})
    made = mixed.to_tf(BATCH, **options)
    assert made.dataset.element_spec["source"] == tf.TensorSpec([BATCH], tf.int32)
    batches = list(made.dataset)
    assert len(batches) == len(made)
    for batch in batches:
        assert all(made.dataset.element_spec[name].is_compatible_with(value) for name, value in batch.items())
        numbers = batch["id"].numpy()
        assert batch["source"].numpy().tolist() == [int(number >= 200) for number in numbers]
        assert batch["tags"].to_list() == [list(range(number % 4)) for number in numbers]
    assert ids(batches) == [batch["id"].tolist() for batch in mixed.to_numpy(BATCH, **options)]
    undisturbed = mixed.to_tf(BATCH, **options)
    resumed = mixed.to_tf(BATCH, **options)
    assert len(list(islice(undisturbed.dataset, 3))) == 3
    resumed.load_state_dict(undisturbed.state_dict())
    assert ids(resumed.dataset) == ids(batches)[3:]
