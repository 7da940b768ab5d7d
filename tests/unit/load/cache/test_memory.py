from __future__ import annotations

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest

from iceblink.errors import ConfigError
from iceblink.load.cache.memory import MemoryCache


def rows(value: int = 0) -> pa.Table:
    return pa.table({"x": pa.array([value] * 1000, pa.int64())})


SIZE = rows().get_total_buffer_size()


def fill(cache: MemoryCache, *values: int) -> int:
    """Ask for rows by value, and return how many were there."""
    before = cache.stats().hits
    for value in values:
        assert cache.fetch(f"k{value}", lambda value=value: rows(value)).equals(rows(value))  # type: ignore[misc]
    return cache.stats().hits - before


def test_rows_are_made_once() -> None:
    cache = MemoryCache("1 MiB")
    assert cache.get("k1") is None
    assert fill(cache, 1, 1, 2) == 1
    kept = cache.get("k1")
    assert kept is not None
    assert kept.equals(rows(1))
    stats = cache.stats()
    assert (stats.hits, stats.misses, stats.bytes) == (2, 3, 2 * SIZE)


def test_a_cycle_over_twice_the_limit_is_answered_in_half() -> None:
    cache = MemoryCache(10 * SIZE)
    assert [fill(cache, *range(20)) for _ in range(9)] == [0, *[10] * 8]
    assert (cache.stats().bytes, cache.stats().evicted) == (10 * SIZE, 0)


def test_other_rows_have_room_after_some_epochs_and_the_oldest_go_first() -> None:
    cache = MemoryCache(5 * SIZE)
    fill(cache, *range(5))
    assert [fill(cache, *range(5, 9)) for _ in range(12)][-1] == 4
    assert cache.stats().evicted == 4
    assert cache.stats().bytes == 5 * SIZE
    assert cache.get("k4") is not None


def test_a_table_larger_than_the_limit_is_not_kept() -> None:
    cache = MemoryCache(SIZE - 1)
    assert fill(cache, 1, 1) == 0
    assert (cache.stats().not_kept, cache.stats().bytes) == (2, 0)


def test_threads_that_ask_at_once_make_rows_once_even_if_they_are_not_kept() -> None:
    cache, start, made = MemoryCache(1), threading.Barrier(2), []

    def make() -> pa.Table:
        made.append(1)
        start.wait()  # the other one asks now
        while cache._requests < 2:
            pass
        return rows()

    def ask_later() -> pa.Table:
        start.wait()
        return cache.fetch("k", make)

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.submit(cache.fetch, "k", make), pool.submit(ask_later)
        assert first.result().equals(rows())
        assert second.result().equals(rows())
    assert made == [1]


def test_what_cannot_be_made_goes_to_who_asked_and_the_next_one_tries() -> None:
    def fails() -> pa.Table:
        raise OSError("the lake is gone")

    cache = MemoryCache("1 MiB")
    with pytest.raises(OSError, match="the lake is gone"):
        cache.fetch("k1", fails)
    assert fill(cache, 1, 1) == 1


def test_it_travels_empty() -> None:
    cache = MemoryCache("1 MiB")
    fill(cache, 1)
    copy = pickle.loads(pickle.dumps(cache))
    assert (copy.limit_bytes, copy.stats().bytes) == (1 << 20, 0)


def test_a_limit_that_is_no_size_is_told() -> None:
    with pytest.raises(ConfigError):
        MemoryCache("much")
