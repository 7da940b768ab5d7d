"""Nodes count the codes that their rows may have, neighbours as one bin where they are too many."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from iceblink.causal.forests.windows import Windows


@given(
    ends=st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)).map(sorted), min_size=1, max_size=4),
    width=st.integers(3, 600),
)
def test_a_code_is_in_the_bin_that_arithmetic_says(ends: list[list[int]], width: int) -> None:
    first, last = np.array(ends)[:, :1], np.array(ends)[:, 1:]
    windows = Windows.of(first, last, width)
    every = windows.bins(np.zeros(len(ends), np.intp), 502)
    for node, (begin, end) in enumerate(ends):
        joined = next(2**bits for bits in range(10) if (end - begin) // 2**bits < width - 1)
        codes = np.array([*range(begin, end + 1), 501], np.uint16)
        bins = [*((code - begin) // joined for code in range(begin, end + 1)), width - 1]
        places = windows.places(0, np.full(len(codes), node), codes, 501)
        assert places.tolist() == [node * width + at for at in bins]
        assert every[node, codes].tolist() == bins
