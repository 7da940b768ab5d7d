"""Outputs of a good size: what is joined, what is cut, and that no row and no count is lost."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, pairwise

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iceblink.run.pipeline.backend import Output
from iceblink.run.pipeline.outputs import sized
from iceblink.run.pipeline.pieces import OPEN
from iceblink.scan.batch import Batch


def output(rows: range, consumed: int, kind: str = "rows") -> Output:
    return Output(kind, Batch(pa.RecordBatch.from_pydict({"x": pa.array(rows, pa.int64())}), "f", 0), consumed)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def small_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iceblink.run.pipeline.outputs.SMALL_BYTES", 8 * 10)
    monkeypatch.setattr("iceblink.run.pipeline.outputs.LARGE_BYTES", 8 * 40)


@given(lengths=st.lists(st.integers(0, 200), max_size=12), kinds=st.lists(st.booleans(), min_size=12, max_size=12))
def test_rows_are_kept_and_sizes_are_good(lengths: list[int], kinds: list[bool]) -> None:
    given_ = []
    start = 0
    for number, (length, good) in enumerate(zip(lengths, kinds, strict=False), start=1):
        given_.append(output(range(start, start + length), number, "rows" if good or not length else "rejected"))
        start += length
    made = list(sized(given_, now=lambda: 0.0))
    assert [x for one in made for x in one.data.data["x"].to_pylist()] == list(range(start))
    assert all(one.data.data.num_rows <= 49 for one in made)
    assert all(a.consumed <= b.consumed for a, b in pairwise(made))
    if made:
        full = [number for number, length in enumerate(lengths, start=1) if length]
        assert made[-1].consumed >= max(full, default=len(lengths))
    assert bool(made) == bool(lengths)
    for one, next_one in pairwise(made):
        assert one.data.data.num_rows >= 10 or one.kind != next_one.kind


def test_slow_calls_are_not_kept_waiting() -> None:
    clock = count()
    made = sized((output(range(n, n + 1), n + 1) for n in range(3)), now=lambda: float(next(clock)))
    assert [one.consumed for one in made] == [1, 2, 3]


def test_what_a_generator_yields_waits_only_behind_what_came_quickly() -> None:
    now = 0.0
    asked = []

    def yielded() -> Iterator[Output]:
        nonlocal now
        for number, took_s in enumerate([0.0, 0.0, 0.001, 1.0, 0.0, 0.0, 0.0]):
            asked.append(number)
            now += took_s
            yield output(range(number, number + 1), OPEN)

    made = sized(yielded(), now=lambda: now)
    assert [(one.data.data["x"].to_pylist(), asked[-1]) for one in made] == [
        ([0], 0),
        ([1, 2, 3], 3),
        ([4], 4),
        ([5, 6], 6),
    ]


def test_the_parts_of_a_cut_output_say_so_only_at_the_end() -> None:
    made = list(sized([output(range(5), 1), output(range(5, 100), 7)], now=lambda: 0.0))
    assert [one.consumed for one in made] == [0, 0, 0, 7]


def test_outputs_are_drawn_only_when_they_are_asked_for() -> None:
    drawn = 0

    def many() -> Iterator[Output]:
        nonlocal drawn
        for number in count(1):
            drawn = number
            yield output(range(20), number)

    made = sized(many(), now=lambda: 0.0)
    for number in range(1, 4):
        assert next(made).consumed == number == drawn
