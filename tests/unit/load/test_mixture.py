"""Rows by weight: each source's as if it were alone, a share's counts known at once, the same for any ranks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, count

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from iceblink.load.columns import Columns
from iceblink.load.course import course
from iceblink.load.mixture import MixedOrder, Mixture, Source, dealt, steps_before
from iceblink.load.order import Order, Quality, Rank, Shape
from iceblink.load.sequences import Bucket
from iceblink.load.steps import Reading, steps

BATCH_ROWS = 12
weights = st.lists(st.floats(0.001, 1), min_size=1, max_size=5)


def reading(unit_rows: Sequence[int]) -> Reading:
    firsts = np.cumsum([0, *unit_rows])

    def read(unit: int) -> Columns:
        return {"row": np.arange(firsts[unit], firsts[unit + 1])}

    return Reading(read, 2, 1000, 3)


@given(weights, st.sampled_from([1, 2, 5, 8]), st.integers(0, 10**12))
def test_rows_are_dealt_by_weight(parts: list[float], shares: int, begin: int) -> None:
    counts = dealt(parts, shares, begin + np.arange(100))
    assert (counts.sum(axis=0) == begin + np.arange(100)).all()
    assert set(np.diff(counts, axis=2).ravel()) <= {0, 1}
    for source, weight in enumerate(parts):
        exact = np.arange(100) * (weight / sum(parts))
        assert np.abs(counts[source] - counts[source][:, :1] - exact).max() < len(parts) + 1


@given(weights, st.sampled_from([1, 2, 8]), st.integers(0, 10**6))
def test_weights_hold_in_the_long_run(parts: list[float], shares: int, rows: int) -> None:
    counts = dealt(parts, shares, np.array([rows]))
    for source, weight in enumerate(parts):
        assert np.abs(counts[source] - rows * (weight / sum(parts))).max() < len(parts) + rows * len(parts) * 2**-20


def test_a_step_of_all_ranks_is_divided_by_weight_where_that_of_one_rank_cannot_be() -> None:
    counts = dealt([0.3, 0.7], 10, np.arange(1000))
    of_steps = np.diff(counts, axis=2).sum(axis=1)  # one row for each rank
    assert (np.abs(of_steps[0] - 3) <= 1).all()


@settings(max_examples=50)
@given(
    parts=st.lists(st.floats(0.05, 1), min_size=1, max_size=3),
    unit_rows=st.lists(st.integers(5, 60), min_size=6, max_size=6),
    quality=st.sampled_from(["none", "block", "window", "global"]),
    shares=st.sampled_from([1, 2, 4, 12]),
    bucket=st.none() | st.builds(Bucket, st.just("row"), st.integers(1, 4)),
    data=st.data(),
)
def test_each_source_comes_as_if_it_were_alone(
    parts: list[float], unit_rows: list[int], quality: Quality, shares: int, bucket: Bucket | None, data: st.DataObject
) -> None:
    each = len(unit_rows) // len(parts)
    sources = []
    for number, weight in enumerate(parts):
        rows = sum(unit_rows[number * each : (number + 1) * each])
        assume(rows >= shares)
        share_rows = data.draw(st.integers(1, min(4, rows // shares)))
        shape = Shape(shares * share_rows, shares, quality, "drop", 0, shares)
        sources.append(Source(f"s{number}", weight / sum(parts), number * each, (number + 1) * each, shape))
    mixture = Mixture(tuple(sources), data.draw(st.integers(1, 12)))
    rows_of_units = np.array(unit_rows[: each * len(parts)])
    plain = MixedOrder(rows_of_units, Shape(BATCH_ROWS, 1, quality, "drop", 3, shares), mixture, epoch=1)
    expected = list(by_hand(plain, unit_rows))
    assert together(plain, unit_rows, data.draw(st.sampled_from([1, 2, 3, 4, 6, 12]))) == expected
    order = MixedOrder(rows_of_units, Shape(BATCH_ROWS, 1, quality, "drop", 3, shares, bucket), mixture, epoch=1)
    alone = together(order, unit_rows, 1)
    assert sorted(chain.from_iterable(alone)) == sorted(chain.from_iterable(expected))
    first = data.draw(st.integers(0, order.steps - 1))
    assert together(order, unit_rows, data.draw(st.sampled_from([1, 2, 3, 4, 6, 12])), first) == alone[first:]


def together(order: MixedOrder, unit_rows: Sequence[int], world: int, first: int = 0) -> list[list[int]]:
    ends = [sum(unit_rows[: source.last_unit]) for source in order.mixture.sources]
    ranks = []
    for number in range(world):
        found = []
        for columns in course(order, Rank(number, world), first, reading(unit_rows)):
            assert columns["source"].tolist() == np.searchsorted(ends, columns["row"], side="right").tolist()
            found.append(columns["row"].tolist())
        ranks.append(found)
    return [list(chain.from_iterable(parts)) for parts in zip(*ranks, strict=True)]


def by_hand(order: MixedOrder, unit_rows: Sequence[int]) -> Iterator[list[int]]:
    """Walk from the very first step to those of this epoch."""
    shape, sources = order.shape, order.mixture.sources

    def line(source: Source, share: int) -> Iterator[int]:
        begin = sum(unit_rows[: source.first_unit])
        mine = unit_rows[source.first_unit : source.last_unit]
        for epoch in count():
            alone: Order = order.source(source, epoch)
            for columns in steps(alone, Rank(share, shape.shares), 0, reading(mine)):
                yield from (begin + row for row in columns["row"].tolist())

    rows = shape.batch_rows // shape.shares
    lines = [[line(source, share) for source in sources] for share in range(shape.shares)]
    for step in range((order.epoch + 1) * order.steps):
        counts = dealt(order.mixture.weights, shape.shares, step * rows + np.arange(rows + 1))
        turns = np.diff(counts, axis=2).argmax(axis=0)
        found = [next(lines[share][source]) for share in range(shape.shares) for source in turns[share]]
        if step >= order.epoch * order.steps:
            yield found


@given(weights, st.sampled_from([1, 3]), st.integers(1, 9), st.integers(0, 500), st.data())
def test_an_epoch_ends_before_a_row_comes_twice(
    parts: list[float], shares: int, share_rows: int, rows: int, data: st.DataObject
) -> None:
    source = data.draw(st.integers(0, len(parts) - 1))
    found = steps_before(source, parts, shares, share_rows, rows)
    taken = dealt(parts, shares, np.array([found * share_rows, (found + 1) * share_rows]))[source].max(axis=0)
    assert taken[0] <= rows < taken[1]
