"""The demo, on the real flights: what it leaves in the lake and in the folder."""

from __future__ import annotations

from pathlib import Path

import pytest

import iceblink as ib
from iceblink import _
from iceblink.demo.main import run_demo


@pytest.mark.slow
def test_the_demo_scores_flights_in_two_commits_and_draws_them(tmp_path: Path) -> None:
    run_demo(tmp_path)
    assert (tmp_path / "flights.png").read_bytes().startswith(b"\x89PNG")
    assert "data:image/png;base64," in (tmp_path / "flights.html").read_text()
    with ib.connect(tmp_path / "lake") as lake:
        flights = lake.table("nyc.flights")
        assert flights.count() == 336_776
        first, second = (
            lake.table("nyc.risk", snapshot=row["snapshot_id"]) for row in lake.history("nyc.risk").to_pylist()
        )
        assert first.count() == second.count() == flights.filter(_.month >= 10).count()
        keys = ["time_hour", "carrier", "flight", "origin", "month"]
        moved = first.join(second.select(*keys, now=_.risk), on=keys).filter(_.risk != _.now)
        assert moved.select("month").distinct().to_pylist() == [{"month": 12}]
