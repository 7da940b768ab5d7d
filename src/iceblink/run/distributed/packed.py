"""What is no rows and goes to a worker or comes from one: a pickle in a row."""

from __future__ import annotations

import pickle
from typing import Any

import pyarrow as pa

from iceblink.scan.batch import Batch

PACKED = pa.schema([pa.field("packed", pa.binary())])


def packed(value: object) -> Batch:
    """Return a value as one row."""
    return Batch(pa.record_batch([pa.array([pickle.dumps(value)], pa.binary())], schema=PACKED), "", 0)


def unpacked(batch: Batch) -> Any:
    """Return the value again, of a batch of one row."""
    return pickle.loads(batch.data.column(0)[0].as_buffer())
