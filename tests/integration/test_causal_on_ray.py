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
def test_doubt_on_ray_is_that_of_one_process(tmp_path: Path) -> None:
    draw = np.random.default_rng(4)
    x, m, t = draw.normal(size=(3, 70_000))
    rows = pa.table({"id": np.arange(len(x)), "x": x, "t": t + x, "m": m + t + x, "y": m + t + x})
    engine = ib.RayEngine(small_bytes=0, split_bytes=500_000, memory_bytes=2 << 30)
    with ib.connect(tmp_path / "lake") as local, ib.connect(tmp_path / "lake", engine=engine) as on_ray:
        local.write("n.t", rows, "create", properties={"write.parquet.row-group-limit": "20000"})
        here, there = (
            ci.refute(ci.OLS("y ~ t + x"), lake.table("n.t"), ["placebo", "subset"], treatment="t", key="id", draws=2)
            for lake in (local, on_ray)
        )
        assert here.effects().equals(there.effects())
        bounds = [
            ci.sensitivity(ci.LinearPLR("y", "t", ["x"], key="id"), lake.table("n.t")).bounds(0.1, 0.1)
            for lake in (local, on_ray)
        ]
        np.testing.assert_allclose(bounds[0].interval, bounds[1].interval, rtol=1e-12)
