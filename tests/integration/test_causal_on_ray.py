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
def test_a_result_on_ray_comes_from_the_same_snapshot(tmp_path: Path) -> None:
    draw = np.random.default_rng(5)
    x, t = draw.normal(size=3_000), draw.integers(0, 2, 3_000)
    rows = {"id": np.arange(3_000), "x": x, "t": t, "y": x + t + draw.normal(size=3_000)}
    engine = ib.RayEngine(small_bytes=0, split_bytes=20_000, memory_bytes=2 << 30)
    with ib.connect(tmp_path / "lake") as local, ib.connect(tmp_path / "lake", engine=engine) as on_ray:
        local.write("n.t", rows, "create", properties={"write.parquet.row-group-limit": "1000"})
        here, there = (
            ci.LinearPLR("y", "t", ["x"], key="id", folds=2).fit(lake.table("n.t").filter(ib._.x < 1))
            for lake in (local, on_ray)
        )
    assert there.provenance == here.provenance
    assert here.provenance.sources[0].name == "n.t"
    assert there.summary().splitlines()[-1] == here.summary().splitlines()[-1]


def test_models_are_fitted_on_ray_as_in_one_process(tmp_path: Path) -> None:
    draw = np.random.default_rng(4)
    count = 70_000  # more than a block
    x = draw.normal(size=count)
    d = 0.5 * x + draw.normal(size=count)
    rows = pa.table({"id": np.arange(count), "x": x, "d": d, "y": d + x**2 + draw.normal(size=count)})
    trees = ci.models.XGBoost(rounds=5, depth=2, threads=1)
    engine = ib.RayEngine(small_bytes=0, split_bytes=500_000, memory_bytes=2 << 30)
    with ib.connect(tmp_path / "lake") as local, ib.connect(tmp_path / "lake", engine=engine) as on_ray:
        local.write("n.t", rows, "create", properties={"write.parquet.row-group-limit": "20000"})
        model = ci.PLR("y", "d", ["x"], key="id", folds=2, outcome_model=trees)
        here, there = (model.fit(lake.table("n.t")) for lake in (local, on_ray))
        np.testing.assert_allclose(there.values, here.values, rtol=1e-12)
        np.testing.assert_allclose(there.covariance, here.covariance, rtol=1e-12)
