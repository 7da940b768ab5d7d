"""Property tests assert no time, and in CI draw the same examples each time; all tests share one Ray."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from iceblink.config import MIB, Settings

if TYPE_CHECKING:
    from iceblink.run.ray.session import Session

settings.register_profile("iceblink", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("iceblink")


@pytest.fixture(scope="session")
def ray_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """Start Ray for the first test that wants it, with a small object store."""
    from iceblink.run.ray.session import Session

    folder: Path = tmp_path_factory.mktemp("ray-spill")
    session = Session(Settings(threads=2, memory_bytes=500 * MIB, spill_dir=str(folder)))
    yield session
    session.close()
