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
def test_one_model_for_all_arms_and_clusters_of_units_on_ray(tmp_path: Path) -> None:
    draw = np.random.default_rng(4)
    unit, time = np.repeat(np.arange(600), 5), np.tile(np.arange(1, 6), 600)
    first = draw.choice([3.0, 4.0, np.nan], 600)[unit]
    arm, x = (time >= first) * 1, draw.normal(size=3_000)
    y = arm * (1 + x) + x + draw.normal(size=3_000)
    rows = pa.table({"y": y, "arm": arm, "x": x, "unit": unit, "time": time, "first": first, "place": unit % 30})
    engine = ib.RayEngine(small_bytes=0, split_bytes=20_000, memory_bytes=2 << 30)
    with ib.connect(tmp_path / "lake") as local, ib.connect(tmp_path / "lake", engine=engine) as on_ray:
        local.write("n.t", rows, "create", properties={"write.parquet.row-group-limit": "1000"})
        found = []
        for lake in (local, on_ray):
            data = lake.table("n.t")
            modelled = ci.RegressionAdjustment().fit(ci.Problem(data, "y", "arm", "x", interactions="x"))
            stages = ci.Staggered("y", "unit", "time", "first", cluster="place").read(data).two_stage()
            found.append(np.concatenate([modelled.values, modelled.errors, stages.values, stages.errors]))
        np.testing.assert_allclose(found[1], found[0], rtol=1e-10)
