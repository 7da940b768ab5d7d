"""Property tests assert no time, and in CI draw the same examples each time; all tests share one Ray.

What starts a Ray, or listens to a clock, is marked `alone`: such tests run one after the other, the rest side by side.
"""

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

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy is imported: threads of BLAS would wait for each other

settings.register_profile("iceblink", deadline=None, derandomize="CI" in os.environ, max_examples=50)
settings.load_profile("iceblink")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what shares the Ray or the HDFS of the test session, and what `make test` leaves to other targets."""
    for item in items:
        if "ray_session" in getattr(item, "fixturenames", ()) or item.get_closest_marker("hdfs"):
            item.add_marker("alone")
        if any(map(item.get_closest_marker, ("hdfs_pair", "hive", "gpu"))):
            item.add_marker("by_hand")


@pytest.fixture(scope="session")
def ray_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """Start Ray for the first test that wants it, with a small object store."""
    from iceblink.run.ray.session import Session

    assert "PYTEST_XDIST_WORKER" not in os.environ, "a Ray that starts beside busy tests is too late: run with -m alone"
    folder: Path = tmp_path_factory.mktemp("ray-spill")
    session = Session(Settings(threads=2, memory_bytes=500 * MIB, spill_dir=str(folder)))
    yield session
    session.close()
