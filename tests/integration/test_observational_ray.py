"""An observational study on real Ray has the digits that it has in one process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import iceblink as ib
from iceblink import causal as ci
from iceblink.run.ray.session import Session


@pytest.fixture
def lakes(ray_session: Session, tmp_path: Path) -> Iterator[tuple[ib.Lake, ib.Lake]]:
    """The same table in one process and on Ray."""
    draw = np.random.default_rng(1)
    x, g = draw.normal(size=3_000), draw.integers(0, 3, 3_000)
    t = draw.uniform(size=3_000) < 1 / (1 + np.exp(g - 1 - x))
    table = pa.table({"y": x + g + t + draw.normal(size=3_000), "t": t, "x": x, "g": g, "c": np.arange(3_000) // 5})
    engine = ib.RayEngine(small_bytes=0, broadcast_bytes=0, memory_bytes=2 << 30)
    with ib.connect(tmp_path / "lake") as local:
        local.write("n.t", table.slice(0, 1_000), mode="create")
        local.write("n.t", table.slice(1_000))
        yield local, ib.connect(tmp_path / "lake", engine=engine)
    engine.close()


def test_ray_has_the_same_digits(lakes: tuple[ib.Lake, ib.Lake]) -> None:
    found = []
    for lake in lakes:
        problem = ci.Problem(lake.table("n.t"), "y", "t", "x + i(g)", cluster="c")
        effects = ci.RegressionAdjustment().fit(problem)
        found.append(np.concatenate([effects.values, effects.errors]))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-10)
