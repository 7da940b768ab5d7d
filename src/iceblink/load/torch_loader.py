"""Batches as PyTorch tensors: shared with NumPy on the CPU, copied to a GPU beside what it computes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from iceblink.errors import ConfigError
from iceblink.load.batches import Ragged
from iceblink.load.loader import Loader, Setup


class TorchLoader(Loader, IterableDataset[Any]):  # type: ignore[misc]
    """A `Loader` that `torch.utils.data.DataLoader` takes with ``batch_size=None``; it needs none."""

    def __init__(self, setup: Setup) -> None:
        Loader.__init__(self, setup)

    def __iter__(self) -> Iterator[Any]:
        """Begin the epoch, or go on with it; a worker of a DataLoader makes every so manyth step of it."""
        worker = get_worker_info()
        if worker is None:
            return super().__iter__()
        if os.getpid() != self._process:
            raise ConfigError(
                "a worker of a DataLoader was forked from a process that has threads, and would hang",
                "to_torch",
                "num_workers=0 (the loader reads ahead in threads), or multiprocessing_context='spawn'",
            )
        return self._begin(worker.id, worker.num_workers)

    @property
    def sampler(self) -> Self:
        """The loader: Lightning tells the epoch to what a loader draws its rows with, and that is this one itself."""
        return self

    def _handed(self, batch: Any) -> Any:
        return batch.arrived() if isinstance(batch, Copied) else batch


@dataclass(frozen=True)
class Copied:
    """A batch on its way to a GPU, and the end of the way."""

    batch: Any
    event: Any
    device: torch.device

    def arrived(self) -> Any:
        """Return the batch; what the caller's stream computes next waits for it, this thread does not."""
        stream = torch.cuda.current_stream(self.device)
        stream.wait_event(self.event)
        mapped(partial(_used, stream=stream), self.batch)
        return self.batch


def _used(tensor: torch.Tensor, stream: Any) -> torch.Tensor:
    tensor.record_stream(stream)  # so that its memory is not given to another one before that
    return tensor


class Tensors:
    """Makes tensors of a batch of arrays, and moves them to a device.

    Parameters
    ----------
    ragged : {"values", "pad", "nested"}
        Nested tensors have the jagged layout.
    device : str, torch.device or None
    """

    def __init__(self, ragged: Ragged, device: Any) -> None:
        self._ragged = ragged
        self._device = None if device is None else torch.device(device)
        self._stream: Any = None

    def __call__(self, batch: Any) -> Any:
        """Return the batch of tensors; what is neither an array nor holds any stays as it is."""
        made = self._made(batch)
        if self._device is None or self._device.type == "cpu":
            return made
        if self._device.type != "cuda":
            return mapped(lambda tensor: tensor.to(self._device), made)
        if self._stream is None:
            self._stream = torch.cuda.Stream(self._device)
        with torch.cuda.stream(self._stream):
            moved = mapped(lambda tensor: tensor.pin_memory().to(self._device, non_blocking=True), made)
        return Copied(moved, self._stream.record_event(), self._device)

    def _made(self, value: Any) -> Any:
        match value:
            case np.ndarray():
                return torch.from_numpy(value)
            case dict():
                return {name: self._made(item) for name, item in value.items()}
            case (np.ndarray(), np.ndarray()) if self._ragged == "nested":
                values, offsets = map(torch.from_numpy, value)
                return torch.nested.nested_tensor_from_jagged(values, offsets)
            case tuple():
                return tuple(map(self._made, value))
            case _:
                return value


def mapped(function: Any, value: Any) -> Any:
    """Return a batch with a function applied to each tensor in it."""
    match value:
        case torch.Tensor():
            return function(value)
        case dict():
            return {name: mapped(function, item) for name, item in value.items()}
        case tuple() | list():
            return type(value)(mapped(function, item) for item in value)
        case _:
            return value
