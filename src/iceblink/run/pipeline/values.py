"""Any value as a row that goes to another process and back: a pickle, and the arrays in it beside it, as they are."""

from __future__ import annotations

import pickle
from typing import Any

import cloudpickle
import numpy as np
import pyarrow as pa

from iceblink.scan.batch import Batch


def as_row(value: object) -> Batch:
    """Return a value as one row, whose columns are its pickle and the memory of its arrays, without a copy.

    Raises
    ------
    Exception
        Whatever a value raises that cannot be pickled.
    """
    arrays: list[pickle.PickleBuffer] = []
    data = cloudpickle.dumps(value, protocol=5, buffer_callback=arrays.append)
    columns = [_column(memory) for memory in (data, *(array.raw() for array in arrays))]
    return Batch(pa.RecordBatch.from_arrays(columns, [str(place) for place in range(len(columns))]), "", 0)


def of_row(batch: Batch) -> Any:
    """Return the value again; its arrays are copies, which may be written to."""
    data, *arrays = (column.buffers()[2] for column in batch.data.columns)
    return pickle.loads(data, buffers=[bytearray(memoryview(array)) for array in arrays])


def _column(memory: bytes | memoryview) -> pa.Array:
    data = pa.py_buffer(memory)
    offsets = pa.py_buffer(np.array([0, data.size], np.int64))
    return pa.Array.from_buffers(pa.large_binary(), 1, [None, offsets, data])
