"""Rows that must be read more than once are kept in a file that disappears with its last reader."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pyarrow as pa

from iceblink.errors import WriteError
from iceblink.plan.nodes import Memory, Plan
from iceblink.run.local_engine import LocalEngine


def staged(engine: LocalEngine, plan: Plan) -> Memory:
    """Run `plan` and return its rows as a memory-mapped Arrow file: any size, little memory.

    Raises
    ------
    WriteError
        The disk of ``spill_dir`` is full.
    """
    if isinstance(plan, Memory):
        return plan
    folder = Path(engine.settings.spill_dir)
    folder.mkdir(parents=True, exist_ok=True)
    handle, path = tempfile.mkstemp(prefix="staged-", suffix=".arrow", dir=folder)
    try:
        with os.fdopen(handle, "wb") as sink, pa.ipc.new_file(sink, plan.schema) as writer:
            for batch in engine.batches(plan):
                writer.write_batch(batch.data)
        rows = pa.ipc.open_file(pa.memory_map(path)).read_all()
    except OSError as error:
        raise WriteError(f"cannot stage rows: {error}", str(folder), "free space, or set ICEBLINK_SPILL_DIR") from error
    finally:
        os.unlink(path)  # the map keeps the bytes until the table is gone
    return Memory(rows.schema, rows, label="new_rows")
