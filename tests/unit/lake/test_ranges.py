"""Ranges of files: requests that are few and not too large, and bytes that are those of the file."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iceblink.lake.ranges import Opened, Range, coalesced

SIZE = 400
CONTENT = bytes(number % 251 for number in range(SIZE))
RANGES = st.lists(
    st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)).map(lambda ends: (min(ends), max(ends))), max_size=12
)


@given(ranges=RANGES, near=st.integers(0, 50), request_bytes=st.integers(1, 200))
def test_requests_cover_all_ranges_and_little_more(ranges: list[Range], near: int, request_bytes: int) -> None:
    requests = coalesced(ranges, near, request_bytes)
    wanted = {place for start, end in ranges for place in range(start, end)}
    fetched = [place for start, end in requests for place in range(start, end)]
    assert len(fetched) == len(set(fetched))
    assert fetched == sorted(fetched)
    assert wanted <= set(fetched)
    for start, end in requests:
        assert end - start <= max(2 * request_bytes, 1)
    for place in set(fetched) - wanted:  # a gap that was read over: between two ranges that are near
        before = max((one for one in wanted if one < place), default=None)
        after = min((one for one in wanted if one > place), default=None)
        assert before is not None
        assert after is not None
        assert after - before - 1 <= near


@given(ranges=RANGES, reads=RANGES)
def test_parts_read_as_the_file_does(ranges: list[Range], reads: list[Range]) -> None:
    asked: list[Range] = []

    def fetch(offset: int, nbytes: int) -> pa.Buffer:
        asked.append((offset, nbytes))
        return pa.py_buffer(CONTENT[offset : offset + nbytes])

    parts = Opened("s3://b/f", SIZE, fetch).parts(ranges)
    assert parts.nbytes == sum(nbytes for _, nbytes in asked)
    for start, end in ranges:
        before = len(asked)
        assert parts.fetch(start, end - start).to_pybytes() == CONTENT[start:end]
        assert len(asked) == before or start == end  # what was fetched is not fetched again
    with parts.native() as file:
        assert file.size() == SIZE
        for start, end in reads:
            assert file.read_at(end - start, start) == CONTENT[start:end]


def test_what_spans_parts_is_put_together_and_what_lies_in_one_is_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iceblink.lake.ranges.coalesced", lambda ranges: coalesced(ranges, 0, 100))
    whole = pa.py_buffer(CONTENT)
    opened = Opened("s3://b/f", SIZE, lambda offset, nbytes: whole.slice(offset, nbytes))
    parts = opened.parts([(0, SIZE)])
    assert parts.fetch(50, 300).to_pybytes() == CONTENT[50:350]
    assert parts.fetch(110, 50).address == whole.address + 110
