"""Which rows a step has: each row once, the same for any number of ranks, and from any step on."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import chain

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from iceblink.load.columns import Columns
from iceblink.load.order import Order, Quality, Rank, Shape, Tail
from iceblink.load.steps import PART_ROWS, Reading, steps

units = st.lists(st.integers(0, 40), min_size=1, max_size=12).filter(any)
qualities: st.SearchStrategy[Quality] = st.sampled_from(["none", "block", "window", "global"])


def flat(parts: Iterable[list[int]]) -> list[int]:
    return list(chain.from_iterable(parts))


def reader(unit_rows: Sequence[int]) -> Callable[[int], Columns]:
    firsts = np.cumsum([0, *unit_rows])

    def read(unit: int) -> Columns:
        rows = np.arange(firsts[unit], firsts[unit + 1])
        return {"row": rows, "name": pa.array([f"row {row}" for row in rows], pa.string())}

    return read


def batches(order: Order, unit_rows: Sequence[int], rank: Rank, first: int = 0, at_once: int = 3) -> list[list[int]]:
    found = []
    for columns in steps(order, rank, first, Reading(reader(unit_rows), 2, 1000, at_once)):
        rows = columns["row"].tolist()
        assert pa.array(columns["name"]).to_pylist() == [f"row {row}" for row in rows]
        found.append(rows)
    return found


def together(order: Order, unit_rows: Sequence[int], world: int, first: int = 0, at_once: int = 3) -> list[list[int]]:
    """Return the rows of each step of all ranks."""
    ranks = [batches(order, unit_rows, Rank(number, world), first, at_once) for number in range(world)]
    assert len({len(found) for found in ranks}) == 1, "ranks have the same number of steps"
    return [flat(parts) for parts in zip(*ranks, strict=True)]


@settings(deadline=None)
@given(
    unit_rows=units,
    lanes=st.sampled_from([1, 2, 3, 4, 6, 12]),
    quality=qualities,
    tail=st.sampled_from(["keep", "drop", "pad"]),
    seed=st.integers(0, 5),
    data=st.data(),
)
def test_the_rows_of_a_step_depend_on_nobody(
    unit_rows: list[int], lanes: int, quality: Quality, tail: Tail, seed: int, data: st.DataObject
) -> None:
    order = Order(unit_rows, Shape(12, lanes, quality, tail, seed), epoch=data.draw(st.integers(0, 2)))
    alone = together(order, unit_rows, 1)
    rows = sum(unit_rows)
    assert len(alone) == order.steps
    assert [len(found) for found in alone] == [order.rows_of(step) for step in range(order.steps)]
    counts = Counter(flat(alone))
    if tail == "keep":
        assert counts == Counter(range(rows))
    elif tail == "drop":
        assert set(counts.values()) <= {1}
        assert len(counts) == rows - rows % 12
    else:
        assert set(counts) == set(range(rows))
        kept = flat(alone)[: len(alone) * 12 - sum(map(order.repeated, range(order.steps)))]
        assert sorted(kept) == list(range(rows))
    world = data.draw(st.sampled_from([1, 2, 3, 4, 6, 12]))
    assume(tail != "keep" or not 0 < rows % 12 < world)  # refused when a loader is made
    at_once = data.draw(st.integers(1, 5))
    assert together(order, unit_rows, world, at_once=at_once) == alone
    first = data.draw(st.integers(0, order.steps))
    assert together(order, unit_rows, world, first, at_once) == alone[first:]


@given(units, st.integers(1, 9))
def test_without_a_shuffle_rows_come_as_they_lie(unit_rows: list[int], batch_rows: int) -> None:
    order = Order(unit_rows, Shape(batch_rows, 1, "none", "keep", 0), 0)
    assert flat(batches(order, unit_rows, Rank(0, 1))) == list(range(sum(unit_rows)))


@pytest.mark.parametrize("quality", ["block", "window", "global"])
def test_epochs_and_seeds_have_orders_of_their_own(quality: Quality) -> None:
    unit_rows = [50] * 8

    def rows(seed: int, epoch: int) -> list[list[int]]:
        return batches(Order(unit_rows, Shape(8, 4, quality, "keep", seed), epoch), unit_rows, Rank(0, 1))

    assert rows(0, 0) == rows(0, 0)
    assert len({str(rows(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_a_batch_comes_of_as_many_units_as_there_are_lanes() -> None:
    unit_rows = [100] * 32
    order = Order(unit_rows, Shape(16, 8, "window", "keep", 0), 0)
    found = batches(order, unit_rows, Rank(0, 1))
    assert {len({row // 100 for row in rows}) for rows in found} == {8}


def test_a_unit_longer_than_a_part_is_whole() -> None:
    unit_rows = [PART_ROWS * 3 + 1]
    order = Order(unit_rows, Shape(7, 1, "block", "keep", 0), 0)
    assert sorted(flat(batches(order, unit_rows, Rank(0, 1)))) == list(range(unit_rows[0]))


def test_a_resumed_rank_reads_only_what_it_needs() -> None:
    unit_rows = [100] * 40
    read: list[int] = []

    def counting(unit: int) -> Columns:
        read.append(unit)
        return reader(unit_rows)(unit)

    order = Order(unit_rows, Shape(16, 4, "window", "keep", 0), 0)
    made = steps(order, Rank(0, 4), order.steps - 2, Reading(counting, 1, 1000, 1))
    assert len(list(made)) == 2
    assert len(read) <= 2  # of the one lane of four that this rank has


def test_whoever_leaves_early_ends_the_threads() -> None:
    before = set(threading.enumerate())
    order = Order([1000] * 50, Shape(16, 4, "window", "keep", 0), 0)
    made = steps(order, Rank(0, 1), 0, Reading(reader([1000] * 50), 2, 1000, 2))
    next(made)
    assert set(threading.enumerate()) > before
    made.close()
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("quality", ["none", "block", "window", "global"])
def test_an_error_of_reading_comes_where_its_rows_would(quality: Quality) -> None:
    def failing(unit: int) -> Columns:
        if unit == 7:
            raise ValueError("unit 7")
        return reader([10] * 8)(unit)

    order = Order([10] * 8, Shape(4, 1, quality, "keep", 0), 0)
    with pytest.raises(ValueError, match="unit 7"):
        list(steps(order, Rank(0, 1), 0, Reading(failing, 2, 1000, 1)))
