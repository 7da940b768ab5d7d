"""Engines whose statements run in stages over the threads of this process, however little data there is."""

from __future__ import annotations

from typing import Any

import pytest

from iceblink.config import Settings
from iceblink.run.distributed import kept, staged, tables
from iceblink.run.distributed.engine import DistributedEngine
from iceblink.run.pipeline.local_backend import local_backend


def staged_engine(small_bytes: int = 0, broadcast_bytes: int = 0, **given: Any) -> DistributedEngine:
    """Return an engine that exchanges rows wherever it may, or sends the smaller side of joins to all."""
    settings = Settings.from_environment(**given)
    return DistributedEngine(settings, lambda: local_backend(settings), False, small_bytes, broadcast_bytes)


def divide_everything(patch: pytest.MonkeyPatch, rounds: int = 1) -> None:
    """Let a few rows be large enough for many partitions and tasks, and be divided in one or two rounds."""
    patch.setattr(kept, "PIECE_S", 0.0 if rounds == 1 else 1.0)
    patch.setattr(kept, "ROUND_S", 0.0)
    patch.setattr(kept, "LARGE_BYTES", 64)
    patch.setattr(kept, "PARTITION_BYTES", 256 if rounds == 1 else 2048)  # about as many as there are tasks
    patch.setattr(kept, "PIECE_BYTES", 64)
    patch.setattr(staged, "FEW_BYTES", 0)
    patch.setattr(tables, "LEAST_BYTES", 256)
    patch.setattr(tables, "TASK_BYTES", 4096)
