"""The demo's model: what it learns from, and what it says of flights it has not seen the like of."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from iceblink.demo.data import open_csv
from iceblink.demo.model import KEYS, NUMBERS, WORDS, DelayModel, Scorer


@pytest.fixture
def flights() -> pa.Table:
    """Flights of which the windy ones are late."""
    rng = np.random.default_rng(0)
    wind = rng.uniform(0, 40, 2000)
    columns = {name: rng.integers(0, 9, 2000) for name in (*KEYS, "month", *NUMBERS)}
    return pa.table(
        {**columns, **{word: rng.choice(["AA", "BB"], 2000) for word in WORDS}, "wind_speed": wind, "late": wind > 20}
    )


def test_the_model_learns_what_makes_flights_late(flights: pa.Table) -> None:
    batch = flights.combine_chunks().to_batches()[0]
    agrees = (DelayModel(flights).risk(batch) > 0.5) == batch["late"].to_numpy(zero_copy_only=False)
    assert agrees.mean() > 0.99


def test_unknown_words_and_nulls_are_scored_too(flights: pa.Table) -> None:
    model = DelayModel(flights)
    odd = flights.slice(0, 2).to_pylist()
    odd[0]["carrier"], odd[1]["wind_speed"] = "ZZ", None
    batch = pa.RecordBatch.from_pylist(odd, schema=flights.schema)
    assert np.isnan(model.features(batch)).sum() == 2
    assert ((model.risk(batch) >= 0) & (model.risk(batch) <= 1)).all()


def test_a_scorer_loads_the_model_and_keeps_the_rows(flights: pa.Table, tmp_path: Path) -> None:
    DelayModel(flights).save(tmp_path / "model.pkl")
    batch = flights.combine_chunks().to_batches()[0]
    scored = partial(Scorer, tmp_path / "model.pkl")()(batch)
    assert scored.column_names == [*KEYS, "month", "hour", "late", "risk"]
    assert scored["flight"] == batch["flight"]


def test_the_flights_have_their_types_and_nulls() -> None:
    flights = open_csv("flights").read_all()
    assert flights.num_rows == 336_776
    assert flights.schema.field("time_hour").type == pa.timestamp("us", "UTC")
    assert flights["arr_delay"].null_count == 9_430
    assert flights["tailnum"].null_count == 2_512
