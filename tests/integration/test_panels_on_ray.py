"""Fixed effects and panels on real Ray: the digits of one process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import iceblink as ib
from iceblink import causal as ci
from iceblink.causal.estimates import Estimates
from iceblink.causal.regression import projections
from iceblink.run.ray.session import Session

UNITS, PERIODS = 300, 5


@pytest.fixture(scope="module")
def lakes(ray_session: Session, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ib.Lake, ib.Lake]]:
    """The same table in one process and on Ray, where rows are exchanged however few there are."""
    folder: Path = tmp_path_factory.mktemp("lake")
    draw = np.random.default_rng(0)
    unit, time = np.repeat(np.arange(UNITS), PERIODS), np.tile(np.arange(PERIODS), UNITS) + 2001
    first = draw.choice([2003, 2004, 0], UNITS)[unit]
    treated = (first > 0) & (time >= first)
    x = draw.normal(size=len(unit))
    y = x + treated + draw.normal(size=UNITS)[unit] + 0.1 * time + draw.normal(size=len(unit))
    region = np.array([f"Gegend {at}" for at in unit % 7])
    columns: dict[str, Any] = {"y": y, "x": x, "unit": unit, "time": time, "first": first, "treated": treated}
    table = pa.table({**columns, "region": region, "once": treated & (first == 2003)})
    engine = ib.RayEngine(small_bytes=0, broadcast_bytes=0, memory_bytes=2 << 30)
    with ib.connect(folder) as local:
        local.write("n.t", table.slice(0, 700), "create")
        local.write("n.t", table.slice(700))
        yield local, ib.connect(folder, engine=engine)
        engine.close()


def close(left: Estimates, right: Estimates) -> None:
    assert (left.names, left.rows) == (right.names, right.rows)
    np.testing.assert_allclose(left.values, right.values, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(left.errors, right.errors, rtol=1e-10)


@pytest.mark.parametrize("few", [64, 0], ids=["dummies", "conjugate gradients"])
def test_fixed_effects(lakes: tuple[ib.Lake, ib.Lake], monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    monkeypatch.setattr(projections, "FEW_LEVELS", few)
    model = ci.FixedEffects("y ~ x + treated | unit + time", cluster="region")
    close(*(model.fit(lake.table("n.t")) for lake in lakes))


def test_staggered_adoption(lakes: tuple[ib.Lake, ib.Lake]) -> None:
    model = ci.Staggered("y", "unit", "time", "first")
    local, on_ray = (model.read(lake.table("n.t")) for lake in lakes)
    close(local.group_time().aggregate("dynamic"), on_ray.group_time().aggregate("dynamic"))
    close(local.event_study(), on_ray.event_study())


def test_synthetic_did(lakes: tuple[ib.Lake, ib.Lake]) -> None:
    model = ci.SyntheticDiD("y", "region", "time", "once", replications=5)
    data = [lake.sql("SELECT * REPLACE (region = 'Gegend 0' AND time > 2003 AS once) FROM n.t") for lake in lakes]
    close(*(model.fit(one) for one in data))
