"""Values of ranks are found exactly, of any numbers, in any number of blocks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import iceblink as ib
from iceblink import causal as ci
from iceblink.causal.experiments import quantiles
from iceblink.causal.experiments.quantiles import ordered, restored

FLOATS = st.floats(allow_nan=False)


@given(values=st.lists(FLOATS, min_size=1))
def test_numbers_are_ordered_as_their_floats_are(values: list[float]) -> None:
    floats = np.array(values)
    found = ordered(floats)
    np.testing.assert_array_equal(restored(found), floats)
    np.testing.assert_array_equal(np.sort(floats), restored(np.sort(found)))
    assert ordered(np.array([0.0]))[0] == ordered(np.array([-0.0]))[0]


@pytest.mark.parametrize("few", [0, 10, 1_000_000])
def test_quantiles_are_those_of_sorted_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    monkeypatch.setattr(quantiles, "FEW_ROWS", few)
    monkeypatch.setattr(quantiles, "BLOCK_ROWS", 500)
    count = 3_000
    draw = np.random.default_rng(9)
    values = {
        "wide": draw.normal(size=count) * np.exp(20 * draw.normal(size=count)),
        "ties": draw.integers(-3, 3, count),
        "ends": np.where(draw.random(count) < 0.1, np.inf, draw.normal(size=count)),
    }
    arm, part = draw.integers(0, 2, count), draw.integers(0, 3, count)
    shares = (0.05, 0.5, 0.95)
    metrics = [ci.Quantile(name, share) for name in values for share in shares if name != "ends" or share < 0.9]
    with ib.connect(tmp_path) as lake:
        found = ci.ABTest("arm", 1, metrics, segments="part").fit(
            lake.from_arrow(pa.table({"arm": arm, "part": part, **values}))
        )
    for metric in metrics:
        for cut in (None, 0, 1, 2):
            one = found.effect(metric.name, by=None if cut is None else "part", segment=cut)
            told, variance = {}, 0.0
            for side in (0, 1):
                mine = np.sort(values[metric.column][(arm == side) & ((part == cut) | (cut is None))])
                n, reach = len(mine), 1.959963984540054 * np.sqrt(len(mine) * metric.share * (1 - metric.share))
                told[side] = mine[int(np.ceil(n * metric.share - 1e-9)) - 1]
                low, high = int(np.floor(n * metric.share - reach)), int(np.ceil(n * metric.share + reach)) + 1
                variance += ((mine[high - 1] - mine[low - 1]) / (2 * 1.959963984540054)) ** 2
            assert (one.control, one.value) == (told[1], told[0])
            assert one.std_error == pytest.approx(np.sqrt(variance), rel=1e-12)
