"""Pages of a list: together they are the list, whatever comes and goes meanwhile."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iceblink.lake.served.refusal import Refusal
from iceblink.rest.pages import page

NAMES = st.sets(st.text(min_size=1, max_size=3), max_size=12)


@given(names=NAMES, coming=NAMES, going=NAMES, size=st.integers(1, 5))
def test_pages_have_each_name_that_stays_once_and_in_order(
    names: set[str], coming: set[str], going: set[str], size: int
) -> None:
    token: str | None = ""
    seen: list[str] = []
    there = sorted(names)
    while token is not None:
        shown, token = page(there, token, str(size))
        assert len(shown) <= size
        seen += shown
        there = sorted((names | coming) - going)
    assert seen == sorted(set(seen))
    assert names - going <= set(seen) <= names | coming


def test_without_a_token_there_is_one_page() -> None:
    assert page([("a",), ("b",)], None, "1") == ([("a",), ("b",)], None)


@given(st.text(max_size=20))
def test_a_token_of_others_is_refused_or_harmless(token: str) -> None:
    with suppress(Refusal):
        shown, _ = page(["a", "b"], token, "1")
        assert set(shown) <= {"a", "b"}


@pytest.mark.parametrize("size", ["0", "-1", "x", "", "1e3", "٣", "9" * 30])
def test_a_size_that_is_no_number_is_refused(size: str) -> None:
    with pytest.raises(Refusal):
        page(["a"], "", size)
