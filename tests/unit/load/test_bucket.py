"""Steps of rows alike: the rows of each window once, whoever takes them and from whichever step on."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
import pyarrow as pa
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from iceblink.load.bucket import lengths_of
from iceblink.load.columns import Columns
from iceblink.load.course import course
from iceblink.load.order import Order, Quality, Rank, Shape, Tail
from iceblink.load.sequences import Bucket
from iceblink.load.steps import Reading

BATCH_ROWS = 12


def length(row: int) -> int:
    return row * 7919 % 11


def made(order: Order, unit_rows: Sequence[int], rank: Rank, first: int = 0) -> list[list[int]]:
    firsts = np.cumsum([0, *unit_rows])

    def read(unit: int) -> Columns:
        rows = np.arange(firsts[unit], firsts[unit + 1])
        return {"row": rows, "ids": pa.array([[int(row)] * length(int(row)) for row in rows], pa.list_(pa.int64()))}

    found = []
    for columns in course(order, rank, first, Reading(read, 2, 1000, 3)):
        rows = columns["row"].tolist()
        assert pa.array(columns["ids"]).to_pylist() == [[row] * length(row) for row in rows]
        found.append(rows)
    return found


def together(order: Order, unit_rows: Sequence[int], world: int, first: int = 0) -> list[list[int]]:
    ranks = [made(order, unit_rows, Rank(number, world), first) for number in range(world)]
    assert len({len(found) for found in ranks}) == 1, "ranks have the same number of steps"
    return [list(chain.from_iterable(parts)) for parts in zip(*ranks, strict=True)]


@settings(max_examples=50)
@given(
    unit_rows=st.lists(st.integers(0, 60), min_size=1, max_size=8).filter(any),
    quality=st.sampled_from(["none", "block", "window", "global"]),
    tail=st.sampled_from(["keep", "drop", "pad"]),
    shares=st.sampled_from([1, 2, 3, 4, 6, 12]),
    world=st.sampled_from([1, 2, 3, 4, 6, 12]),
    steps=st.integers(1, 5),
    data=st.data(),
)
def test_rows_are_sorted_inside_of_windows_and_shares(
    unit_rows: list[int], quality: Quality, tail: Tail, shares: int, world: int, steps: int, data: st.DataObject
) -> None:
    assume(tail != "keep" or not 0 < sum(unit_rows) % BATCH_ROWS < max(world, shares))  # refused when a loader is made
    lanes = data.draw(st.sampled_from([1, 2, 4, 12]))
    plain = Shape(BATCH_ROWS, lanes, quality, tail, data.draw(st.integers(0, 3)))
    unsorted = made(Order(unit_rows, plain, 1), unit_rows, Rank(0, 1))
    order = Order(unit_rows, Shape(**{**vars(plain), "shares": shares, "bucket": Bucket("ids", steps)}), 1)
    found = together(order, unit_rows, shares)
    rows = BATCH_ROWS // shares
    for begin in range(0, order.whole_steps, steps):
        window, before = found[begin : begin + steps], unsorted[begin : begin + steps]
        window, before = window[: order.whole_steps - begin], before[: order.whole_steps - begin]
        for share in range(0, BATCH_ROWS, rows):
            was = sorted((row for step in before for row in step[share : share + rows]), key=length)
            expected = [was[start : start + rows] for start in range(0, len(was), rows)]
            assert sorted(step[share : share + rows] for step in window) == sorted(expected)
    assert found[order.whole_steps :] == unsorted[order.whole_steps :]
    first = data.draw(st.integers(0, order.steps))
    assert together(order, unit_rows, world, first) == found[first:]


def test_the_steps_of_a_window_come_in_an_order_of_their_own_and_all_ranks_in_the_same() -> None:
    unit_rows = [400] * 6
    order = Order(unit_rows, Shape(12, 4, "window", "drop", 0, 2, Bucket("ids", 20)), 0)
    ranks = [made(order, unit_rows, Rank(number, 2)) for number in range(2)]
    longest = [[max(map(length, step)) for step in found] for found in ranks]
    assert longest[0][:20] != sorted(longest[0][:20])
    assert max(abs(one - other) for one, other in zip(*longest, strict=True)) <= 2


def test_padding_gets_less() -> None:
    unit_rows = [400] * 6

    def padding(bucket: Bucket | None) -> int:
        order = Order(unit_rows, Shape(8, 4, "window", "drop", 0, 1, bucket), 0)
        lengths = [list(map(length, step)) for step in made(order, unit_rows, Rank(0, 1))]
        return sum(max(step) * len(step) - sum(step) for step in lengths)

    assert padding(Bucket("ids", 16)) * 4 < padding(None)


def test_lengths_are_those_of_lists_and_text_and_numbers_themselves() -> None:
    assert lengths_of(pa.array([[1, 2], None, []], pa.list_(pa.int8()))).tolist() == [2, 0, 0]
    assert lengths_of(pa.array([[1, 2], [3]], pa.large_list(pa.int8()))).tolist() == [2, 1]
    assert lengths_of(pa.array(["ü", None])).tolist() == [2, 0]
    assert lengths_of(np.array([3, 1])).tolist() == [3, 1]
