"""Estimates on Ray are those of one process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import iceblink as ib
from iceblink import causal as ci

ROWS = 150_000


@pytest.mark.usefixtures("ray_session")
def test_estimates_on_ray_are_those_of_one_process(tmp_path: Path) -> None:
    draw = np.random.default_rng(3)
    z, g = draw.normal(size=ROWS), draw.integers(0, 500, ROWS)
    t = 0.5 * z + draw.normal(size=ROWS)
    y = 2 * t + z + draw.normal(size=ROWS)
    rows = pa.table({"id": np.arange(ROWS), "g": g, "k": g % 3, "t": t, "z": z, "y": y})
    engine = ib.RayEngine(small_bytes=0, split_bytes=500_000, memory_bytes=2 << 30)
    with ib.connect(tmp_path / "lake") as local, ib.connect(tmp_path / "lake", engine=engine) as on_ray:
        local.write("n.t", rows, "create", properties={"write.parquet.row-group-limit": "20000"})
        for model in (ci.OLS("y ~ t + z + i(k)"), ci.LinearPLR("y", "t", ["z"], key="id")):
            here, there = (model.fit(lake.table("n.t")) for lake in (local, on_ray))
            np.testing.assert_array_equal(here.values, there.values)
            np.testing.assert_allclose(there.covariance, here.covariance, rtol=1e-13)
        here, there = (ci.OLS("y ~ t", cluster="g").fit(lake.table("n.t")) for lake in (local, on_ray))
        np.testing.assert_allclose(there.covariance, here.covariance, rtol=1e-10)  # groups are added in another order


@pytest.mark.usefixtures("ray_session")
def test_effects_are_judged_and_used_on_ray_as_in_one_process(tmp_path: Path) -> None:
    draw = np.random.default_rng(4)
    x, t = draw.normal(size=ROWS), draw.integers(0, 2, ROWS)
    y = x + t * (0.3 + 0.5 * x) + draw.normal(size=ROWS)
    rows = pa.table({"id": np.arange(ROWS), "t": t, "x": x, "y": y, "effect": np.round(x + draw.normal(size=ROWS), 2)})
    engine = ib.RayEngine(small_bytes=0, split_bytes=500_000, memory_bytes=2 << 30)
    found = []
    with ib.connect(tmp_path / "lake") as local, ib.connect(tmp_path / "lake", engine=engine) as on_ray:
        local.write("n.t", rows, "create", properties={"write.parquet.row-group-limit": "20000"})
        for lake in (local, on_ray):
            problem = ci.Problem(lake.table("n.t"), "y", "t", "x")
            judged = ci.DoublyRobust("id", 0.5).fit(problem).scored()
            curve = ci.TOC("effect", "score", key="id").fit(judged)
            spending = ci.Budget("effect", 1_000, "id").fit(lake.table("n.t"))
            found.append((str(spending), [*curve.areas.values, *curve.areas.errors]))
    assert found[1][0] == found[0][0]
    np.testing.assert_allclose(found[1][1], found[0][1], rtol=1e-10)
