"""Batches as JAX arrays, on one device or sharded over those of all processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from iceblink.errors import BatchContractBroken, ConfigError
from iceblink.load.loader import Loader, Setup
from iceblink.load.opening import Options


def to_jax(opened: Callable[..., Setup], batch_size: int, device: Any, given: Mapping[str, Any]) -> Loader:
    """Return a loader for JAX of what is opened with options; see `Dataset.to_jax`.

    Raises
    ------
    ConfigError
        Batches of the processes would not make one global array.
    """
    if jax.distributed.is_initialized():
        given = {"rank": jax.process_index(), "world": jax.process_count(), **given}
    options = Options.of(batch_size, given, "to_jax")
    setup = opened(options, "to_jax", Arrays(device))
    if isinstance(device, jax.sharding.Sharding):
        _must_be_global(setup, options)
    return Loader(setup)


def _must_be_global(setup: Setup, options: Options) -> None:
    if setup.shape.tail == "keep":
        raise ConfigError(
            "a short last batch cannot be cut like the others", setup.where, "drop_last=True, or pad=True fills it up"
        )
    ragged = next((layout.name for layout in setup.layouts if layout.kind == "ragged"), None)
    if ragged is not None and options.transform is None:
        raise ConfigError(
            f"lists of any length make no global array: column {ragged!r}",
            setup.where,
            "columns=[...] without it, or transform= gives it one length",
        )


@dataclass(frozen=True)
class Arrays:
    """Makes JAX arrays of a batch of arrays.

    Parameters
    ----------
    device : jax.Device, jax.sharding.Sharding or None
        With a sharding, the arrays are global, and this process has its part of the rows.
    """

    device: Any

    def __call__(self, batch: Any) -> Any:
        """Return the batch; what is not an array of NumPy, text and bytes, stays as it is.

        Raises
        ------
        BatchContractBroken
            A number that JAX would cut to 32 bits.
        """
        match batch:
            case dict():
                return {name: self(_that_fits(name, value)) for name, value in batch.items()}
            case tuple():
                return tuple(map(self, batch))
            case np.ndarray() if isinstance(self.device, jax.sharding.Sharding):
                return jax.make_array_from_process_local_data(self.device, batch)
            case np.ndarray():
                return jax.device_put(batch, self.device)
            case _:
                return batch


def _that_fits(name: str, value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.dtype.kind in "iu" and value.size:
        kept = np.iinfo(jax.dtypes.canonicalize_dtype(value.dtype))
        if kept.bits < 8 * value.itemsize and (value.min() < kept.min or value.max() > kept.max):
            raise BatchContractBroken(
                f"column {name!r} has {value.dtype} that are more than 32 bits, and JAX would cut them off",
                "to_jax",
                "jax.config.update('jax_enable_x64', True), or leave the column out: columns=[...]",
            )
    return value
