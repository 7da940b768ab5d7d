"""Read-ahead: things come in order, what they need is fetched before, and never too much of it."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from iceblink.scan.ahead import ReadAhead


@given(sizes=st.lists(st.integers(0, 9), max_size=30), limit=st.integers(1, 30))
def test_things_come_in_order_with_what_was_fetched_for_them(sizes: list[int], limit: int) -> None:
    asked: list[int] = []
    reading: ReadAhead[int, int] = ReadAhead(lambda place: -place, lambda place: sizes[place], limit)
    with reading as ahead:

        def places() -> Iterator[int]:
            for place in range(len(sizes)):
                asked.append(place)
                yield place

        came = []
        for place, fetched in ahead.over(places()):
            assert (fetched is None) == (sizes[place] == 0)
            assert fetched is None or fetched.result() == -place
            came.append(place)
            waiting = [sizes[other] for other in asked[len(came) :]]
            assert sum(waiting[:-1]) <= limit + max(sizes)
    assert came == list(range(len(sizes)))


def test_what_has_nothing_to_fetch_is_not_held_back() -> None:
    reading: ReadAhead[int, None] = ReadAhead(lambda item: None, lambda item: 0, 1)
    with reading as ahead:
        endless = iter(int, 1)
        items = ahead.over(endless)
        assert [next(items) for _ in range(3)] == [(0, None)] * 3
