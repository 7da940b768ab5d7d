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

from iceblink.errors import ConfigError, OutOfMemoryBudget
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

    def _beginning(self) -> None:
        if isinstance(move := self._setup.finish.move, Move):
            move.begin()

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


@dataclass(frozen=True)
class Tensors:
    """Makes tensors of a batch of arrays; nested ones of ragged columns have the jagged layout."""

    ragged: Ragged

    def __call__(self, value: Any) -> Any:
        """Return the batch of tensors; what is neither an array nor holds any stays as it is."""
        match value:
            case np.ndarray():
                return torch.from_numpy(value)
            case dict():
                return {name: self(item) for name, item in value.items()}
            case (np.ndarray(), np.ndarray()) if self.ragged == "nested":
                values, offsets = map(torch.from_numpy, value)
                return torch.nested.nested_tensor_from_jagged(values, offsets)
            case tuple():
                return tuple(map(self, value))
            case _:
                return value


class Move:
    """Takes batches to a device, to a GPU by a stream of its own.

    Raises
    ------
    ConfigError
        There is no such GPU.
    """

    def __init__(self, device: Any) -> None:
        self._device = torch.device(device)
        self._stream: Any = None  # made by the process that uses it
        if self._device.type == "cuda" and (self._device.index or 0) >= torch.cuda.device_count():
            raise ConfigError(
                f"there is no device {str(self._device)!r}: PyTorch sees {torch.cuda.device_count()} GPUs here",
                "to_torch",
            )

    def begin(self) -> None:
        """Settle which GPU it is: "cuda" is the one that the thread of the training loop has chosen for itself."""
        if self._device.type == "cuda":
            index = torch.cuda.current_device() if self._device.index is None else self._device.index
            if self._stream is None or self._stream.device.index != index:
                self._stream = torch.cuda.Stream(index)

    def __call__(self, batch: Any) -> Any:
        """Return the batch, or to a GPU the batch on its way.

        Raises
        ------
        OutOfMemoryBudget
            The GPU has no room for it.
        """
        if self._stream is None:
            return mapped(lambda tensor: tensor.to(self._device), batch)
        made = torch.cuda.current_stream(self._stream.device)
        try:
            with torch.cuda.stream(self._stream):
                moved = mapped(partial(_copied, stream=self._stream, made=made), batch)
                event = self._stream.record_event()
        except torch.OutOfMemoryError as error:
            raise OutOfMemoryBudget(
                f"{self._stream.device} has no room for a batch: {str(error).partition(' Including')[0]}",
                "to_torch",
                "batches that wait are on the device, too: a smaller batch_size or prefetch, or a smaller model",
            ) from error
        return Copied(moved, event, self._stream.device)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_stream": None}


def _copied(tensor: torch.Tensor, stream: Any, made: Any) -> torch.Tensor:
    if tensor.device.type != "cpu":  # `collate` put it there, by this thread's stream
        stream.wait_stream(made)
        tensor.record_stream(stream)
        return tensor.to(stream.device, non_blocking=True)
    return tensor.pin_memory().to(stream.device, non_blocking=True)


def made_and_moved(ragged: Ragged, device: Any) -> tuple[Tensors, Move | None]:
    """Return what makes tensors, and what moves them.

    Raises
    ------
    ConfigError
        There is no such device.
    """
    try:
        return Tensors(ragged), None if device is None else Move(device)
    except RuntimeError as error:
        raise ConfigError(str(error).splitlines()[0], "to_torch", "device='cuda:0', for example") from error


def mapped(function: Any, value: Any) -> Any:
    """Return a batch with a function applied to each tensor in it."""
    match value:
        case torch.Tensor():
            return function(value)
        case dict():
            return {name: mapped(function, item) for name, item in value.items()}
        case tuple() | list():
            items = [mapped(function, item) for item in value]
            return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
        case _:
            return value
