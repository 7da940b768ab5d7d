"""Columns of one step as a batch: dicts of NumPy arrays, and what has rows of any length as the user wants it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from iceblink.errors import BatchContractBroken, FunctionError
from iceblink.load.columns import MASK, Columns, Layout

Ragged: TypeAlias = Literal["values", "pad", "nested"]
Text: TypeAlias = Literal["list", "arrow"]


@dataclass(frozen=True)
class Transformed:
    """What a batch is before there are tensors: arrays, and what the user makes of them; it pickles if that does.

    Parameters
    ----------
    layouts : mapping of str to Layout
    ragged : {"values", "pad", "nested"}
    text : {"list", "arrow"}
    transform : callable or None
        A user's function over the dict of NumPy arrays.
    """

    layouts: Mapping[str, Layout]
    ragged: Ragged
    text: Text
    transform: Callable[[dict[str, Any]], Any] | None = None

    def __call__(self, columns: Columns, step: int) -> Any:
        """Return it of the columns of a step.

        Raises
        ------
        FunctionError
            The user's function raised.
        """
        batch = numpy_batch(columns, self.layouts, self.ragged, self.text)
        return batch if self.transform is None else _called(self.transform, batch, "transform", step)


@dataclass(frozen=True)
class Finish:
    """How a batch is made of columns, ahead of whoever asks for it.

    Parameters
    ----------
    transformed : callable
        Makes arrays of the columns, and what the user makes of those.
    convert : callable or None
        Makes tensors of the dict's values.
    collate : callable or None
        A user's function over the whole batch.
    move : callable or None
        Takes the batch to its device.
    """

    transformed: Callable[[Columns, int], Any]
    convert: Callable[[Any], Any] | None = None
    collate: Callable[[Any], Any] | None = None
    move: Callable[[Any], Any] | None = None

    def __call__(self, columns: Columns, step: int) -> Any:
        """Return the batch of a step.

        Raises
        ------
        FunctionError
            One of the user's functions raised, or ended the process that it ran in.
        """
        batch = self.transformed(columns, step)
        if self.convert is not None:
            batch = self.convert(batch)
        if self.collate is not None:
            batch = _called(self.collate, batch, "collate", step)
        return batch if self.move is None else self.move(batch)


def _called(function: Callable[[Any], Any], batch: Any, name: str, step: int) -> Any:
    try:
        return function(batch)
    except Exception as error:
        raise FunctionError(f"{type(error).__name__}: {error}", f"{name}, step {step:,}") from error


def numpy_batch(columns: Columns, layouts: Mapping[str, Layout], ragged: Ragged, text: Text) -> dict[str, Any]:
    """Return a batch: arrays, lists of str or bytes, Arrow arrays of what NumPy has no type for.

    Ragged columns are pairs of values, shape (all values,), and offsets, shape (rows + 1,); padded they are arrays
    of shape (rows, longest) and a mask beside them.
    """
    batch: dict[str, Any] = {}
    for name, column in columns.items():
        if isinstance(column, np.ndarray):
            batch[name] = column
        elif layouts[name].kind == "ragged":
            values, offsets = values_and_offsets(column, name)
            if ragged == "pad":  # "nested" is for those who have such tensors, and made of the pair
                batch[name], batch[MASK.format(name)] = _padded(values, offsets)
            else:
                batch[name] = values, offsets
        elif layouts[name].kind == "text" and text == "list":
            batch[name] = column.to_pylist()
        else:
            batch[name] = column
    return batch


def values_and_offsets(lists: pa.Array, name: str) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the values of all lists, copied, and where each list begins and the last one ends; a null is empty.

    Raises
    ------
    BatchContractBroken
        A null is inside of one.
    """
    values = lists.flatten()
    if values.null_count:
        raise BatchContractBroken(f"column {name!r} has nulls inside its lists", "", "fill them before")
    lengths = lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return np.array(values.to_numpy(zero_copy_only=False)), offsets  # a copy: whoever has it may write to it


def _padded(values: NDArray[Any], offsets: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    lengths = np.diff(offsets)
    mask = np.arange(int(lengths.max(initial=0))) < lengths[:, None]
    padded = np.zeros(mask.shape, values.dtype)
    padded[mask] = values
    return padded, mask
