"""What is remembered weighs no more than it may, and what was not used for longest goes first."""

from __future__ import annotations

from collections import OrderedDict

from hypothesis import given
from hypothesis import strategies as st

from iceblink.lake.remembered import Remembered

steps = st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.integers(1, 12)), max_size=40)


@given(steps)
def test_it_agrees_with_a_model(steps: list[tuple[bool, int, int]]) -> None:
    remembered: Remembered[int, list[int]] = Remembered(10)
    model: OrderedDict[int, list[int]] = OrderedDict()
    for asks, key, weight in steps:
        if asks:
            assert remembered.get(key) == model.get(key)
            if key in model:
                model.move_to_end(key)
        elif weight <= 10:
            value = [weight]
            remembered.put(key, value, weight)
            model.pop(key, None)
            model[key] = value
            while sum(value[0] for value in model.values()) > 10:
                model.popitem(last=False)


def test_nothing_is_left_after_clearing() -> None:
    remembered: Remembered[str, int] = Remembered(2)
    remembered.put("a", 1)
    remembered.clear()
    assert remembered.get("a") is None
    remembered.put("b", 2)
    remembered.put("c", 3)
    assert (remembered.get("b"), remembered.get("c")) == (2, 3)
