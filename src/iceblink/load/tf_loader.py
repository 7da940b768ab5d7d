"""Batches as TensorFlow tensors: a `tf.data.Dataset` whose signature the columns tell."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import tensorflow as tf

from iceblink.errors import BatchContractBroken, ConfigError
from iceblink.load.batches import Ragged
from iceblink.load.columns import MASK, Layout
from iceblink.load.loader import PADDED, Loader, Setup
from iceblink.load.mixed_steps import SOURCE
from iceblink.load.opening import Options
from iceblink.types import show_type


class TfLoader(Loader):
    """A `Loader` with a `dataset` for ``model.fit``; a bare loop over it gives the same batches.

    Lists of any length are ``tf.RaggedTensor``, strings and bytes are string tensors, and the number of rows is static
    unless the last batch may be short.
    """

    def __init__(self, setup: Setup, signature: Any) -> None:
        super().__init__(setup)
        self._signature = signature

    @cached_property
    def dataset(self) -> Any:
        """The ``tf.data.Dataset`` of batches; each iteration is the loader's next epoch, or the rest of one.

        `state_dict` counts the batches that TensorFlow took. What follows them here takes one at a time, for the loader
        reads ahead itself; behind ``prefetch``, and ``map`` with ``num_parallel_calls``, more are taken than used. Its
        cardinality is unknown, as the rest of an epoch is shorter.
        """
        options = tf.data.Options()
        options.experimental_optimization.inject_prefetch = False
        options.experimental_optimization.map_parallelization = False
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF  # ranks share
        made = tf.data.Dataset.from_generator(self.__iter__, output_signature=self._signature)
        return made.with_options(options)

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"signature": self._signature}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._signature = state["signature"]


def to_tf(opened: Callable[..., Setup], batch_size: int, signature: Any, given: Mapping[str, Any]) -> TfLoader:
    """Return a loader for TensorFlow of what is opened with options; see `Dataset.to_tf`.

    Raises
    ------
    ConfigError
        A column has no tensor, or nobody knows what a function returns.
    """
    where = "to_tf"
    options = Options.of(batch_size, given, where)
    if signature is None and (options.transform or options.collate):
        raise ConfigError(
            "what a function returns is not known",
            where,
            "signature= says it, in the words of tf.data.Dataset.from_generator; or loader.dataset.map(function)",
        )
    setup = opened(options, where, tensors)
    return TfLoader(setup, signature_of(setup, options.ragged) if signature is None else signature)


def signature_of(setup: Setup, ragged: Ragged) -> dict[str, Any]:
    """Return what a batch is made of.

    Raises
    ------
    ConfigError
        A column has no tensor.
    """
    rows = None if setup.shape.tail == "keep" else setup.shape.batch_rows // setup.rank.world
    found: dict[str, Any] = {}
    for layout in setup.layouts:
        found |= _specs(layout, rows, ragged, setup)
    if setup.shape.tail == "pad":
        found[PADDED] = tf.TensorSpec([rows], tf.bool)
    if setup.mixture is not None:
        found[SOURCE] = tf.TensorSpec([rows], tf.int32)
    return found


def _specs(layout: Layout, rows: int | None, ragged: Ragged, setup: Setup) -> dict[str, Any]:
    name, mask = layout.name, MASK.format(layout.name)
    match layout.kind:
        case "numbers" | "tensor":
            masks = {mask: tf.TensorSpec([rows], tf.bool)} if layout.masked else {}
            return {name: tf.TensorSpec([rows, *layout.shape], layout.dtype), **masks}
        case "ragged" if ragged == "pad":
            return {name: tf.TensorSpec([rows, None], layout.dtype), mask: tf.TensorSpec([rows, None], tf.bool)}
        case "ragged":
            return {name: tf.RaggedTensorSpec([rows, None], layout.dtype, 1, tf.int64)}
        case "text":
            return {name: tf.TensorSpec([rows], tf.string)}
        case _:
            dtype = show_type(setup.units.schema.field(name).type)
            raise ConfigError(f"TensorFlow has no tensor for column {name!r}, {dtype}", setup.where, "columns=[...]")


def tensors(batch: Any) -> Any:
    """Return a batch of tensors: of arrays, of pairs of values and offsets, and of lists of strings or bytes.

    Raises
    ------
    BatchContractBroken
        A null among strings.
    """
    match batch:
        case dict():
            return {name: tensors(_without_nulls(name, value)) for name, value in batch.items()}
        case (np.ndarray() as values, np.ndarray() as offsets):
            return tf.RaggedTensor.from_row_splits(values, offsets, validate=False)
        case tuple():
            return tuple(map(tensors, batch))
        case list():
            return tf.constant(batch, tf.string)
        case _:
            return tf.convert_to_tensor(batch)


def _without_nulls(name: str, value: Any) -> Any:
    texts = value.to_pylist() if isinstance(value, pa.Array) else value
    if isinstance(texts, list) and None in texts:
        raise BatchContractBroken(
            f"column {name!r} has nulls, which a tensor of strings has no place for",
            "to_tf",
            f"fill them before, _.{name}.fill_null(''), or filter them out",
        )
    return texts
