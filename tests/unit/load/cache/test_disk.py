from __future__ import annotations

import os
import pickle
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest

from iceblink.errors import ConfigError
from iceblink.load.cache.disk import Cache
from iceblink.load.cache.shelf import IDLE_S
from iceblink.load.cache.tier import entry_key


def rows(value: int = 0) -> pa.Table:
    return pa.table({"x": pa.array([value] * 1000, pa.int64())})


def never() -> pa.Table:
    raise AssertionError("the rows were there")


def fill(cache: Cache, *values: int) -> int:
    """Ask for rows by value, and return how many were there."""
    before = cache.stats().hits
    for value in values:
        assert cache.fetch(f"k{value}", lambda value=value: rows(value)).equals(rows(value))  # type: ignore[misc]
    return cache.stats().hits - before


def entries(folder: Path) -> set[str]:
    return {path.stem for path in folder.glob("*.rows")}


@pytest.fixture(scope="module")
def entry_bytes(tmp_path_factory: pytest.TempPathFactory) -> int:
    cache = Cache(tmp_path_factory.mktemp("one"))
    fill(cache, 0)
    return cache.stats().bytes


def test_rows_are_made_once_and_mapped_afterwards(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "made" / "here")
    assert cache.get("k") is None
    first = cache.fetch("k", rows)
    assert first.equals(rows())
    before = pa.total_allocated_bytes()
    again = cache.fetch("k", never)
    assert pa.total_allocated_bytes() == before, "mapped, not read"
    assert again.equals(rows())
    assert again.equals(Cache(cache.folder).get("k")), "whoever asks"
    stats = cache.stats()
    assert (stats.hits, stats.misses, stats.not_kept) == (1, 2, 0)
    assert stats.bytes == os.path.getsize(cache.folder / "k.rows")


def test_what_cannot_be_made_is_not_kept_and_the_next_one_tries(tmp_path: Path) -> None:
    def fails() -> pa.Table:
        raise OSError("the lake is gone")

    cache = Cache(tmp_path)
    with pytest.raises(OSError, match="the lake is gone"):
        cache.fetch("k", fails)
    assert not list(tmp_path.glob("k*"))
    assert cache.fetch("k", rows).equals(rows())
    assert cache.stats().not_kept == 0


def test_a_cache_travels_as_its_folder_and_limit(tmp_path: Path) -> None:
    cache = Cache(tmp_path, "3 MiB")
    cache.fetch("k", rows)
    copy = pickle.loads(pickle.dumps(cache))
    assert (copy.folder, copy.limit_bytes) == (tmp_path, 3 << 20)
    assert copy.fetch("k", never).equals(rows())


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError) as caught:
        Cache(tmp_path / "file" / "below")
    assert caught.value.where
    assert caught.value.hint


@pytest.mark.parametrize("limit", ["much", 0, -1])
def test_a_limit_that_is_no_size_is_told(tmp_path: Path, limit: str | int) -> None:
    with pytest.raises(ConfigError):
        Cache(tmp_path, limit)


def test_the_key_of_an_entry_tells_parts_apart() -> None:
    assert len({entry_key(*parts) for parts in [("ab", "c"), ("a", "bc"), ("abc",), ("abc", ""), ()]}) == 5
    assert entry_key("ä", "b") == entry_key("ä", "b")
    assert entry_key("../x").isalnum()


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:-1],
        lambda whole: os.urandom(len(whole)),
        lambda whole: whole[:5000] + bytes([whole[5000] ^ 4]) + whole[5001:],
        lambda whole: whole[:-1] + bytes([whole[-1] ^ 1]),
    ],
    ids=["empty", "half", "last byte", "garbage", "a bit of a row", "a bit of the seal"],
)
def test_a_damaged_entry_is_removed_and_made_again(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    Cache(tmp_path).fetch("k", rows)
    entry = tmp_path / "k.rows"
    whole = entry.read_bytes()
    entry.write_bytes(damage(whole))
    cache = Cache(tmp_path)
    assert cache.get("k") is None
    assert not entry.exists()
    assert cache.fetch("k", rows).equals(rows())
    assert entry.read_bytes() == whole
    assert (cache.stats().damaged, cache.stats().misses) == (1, 2)


def test_threads_that_ask_at_once_make_rows_once(tmp_path: Path) -> None:
    cache, start, made = Cache(tmp_path), threading.Barrier(8), []

    def ask(_: int) -> pa.Table:
        start.wait()
        return cache.fetch("k", lambda: made.append(1) or rows())  # type: ignore[func-returns-value]

    with ThreadPoolExecutor(8) as pool:
        assert all(table.equals(rows()) for table in pool.map(ask, range(8)))
    assert made == [1]
    assert (cache.stats().hits, cache.stats().misses) == (7, 1)


# --- other processes

PROCESS = """
import fcntl, io, os, resource, signal, sys
import pyarrow as pa
import iceblink.load.cache.shelf as shelf
from iceblink.load.cache.disk import Cache

def rows(size=1000):
    return pa.table({"x": pa.array([0] * size, pa.int64())})

def say(*words):
    print(*words, flush=True)

def die():
    os.kill(os.getpid(), signal.SIGKILL)

cache = Cache(sys.argv[1])
"""


@contextmanager
def process(folder: Path, script: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", PROCESS + script, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        try:
            yield running
        finally:
            running.kill()


def line(running: subprocess.Popen[str]) -> str:
    assert running.stdout is not None
    return running.stdout.readline().strip()


def test_a_process_waits_for_another_that_makes_what_it_asks_for(tmp_path: Path) -> None:
    makes = """
cache.fetch("k", lambda: (say("making"), sys.stdin.readline(), rows())[-1])
say("done")
"""
    waits = """
lock = fcntl.flock
def told(file, how):
    try:
        lock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        say("waiting")
        lock(file, how)
fcntl.flock = told
cache.fetch("k", lambda: (say("making"), rows())[-1])
say(cache.stats().hits)
"""
    with process(tmp_path, makes) as first:
        assert line(first) == "making"
        Cache(tmp_path)
        assert (tmp_path / "k.rows-unfinished").exists(), "no orphan: somebody is at it"
        with process(tmp_path, waits) as second:
            assert line(second) == "waiting"
            assert first.stdin is not None
            first.stdin.write("go\n")
            first.stdin.flush()
            assert line(first) == "done"
            assert line(second) == "1"


@pytest.mark.parametrize(
    "script",
    [
        "cache.fetch('k', die)",
        """
class Dies(io.BufferedWriter):
    def write(self, piece):
        super().write(piece)
        self.flush()
        if self.tell() > 4000:
            die()
shelf.open = lambda file, mode, buffering, closefd: Dies(io.FileIO(file, "r+", closefd), buffering)
cache.fetch('k', rows)
""",
        "os.utime = lambda *_, **more: die() if isinstance(_[0], int) else None; cache.fetch('k', rows)",
    ],
    ids=["while the rows are made", "while they are written", "before they are seen"],
)
def test_a_killed_process_leaves_nothing_that_is_seen_or_stays(tmp_path: Path, script: str) -> None:
    with process(tmp_path, script) as killed:
        assert killed.wait() == -9
    assert (tmp_path / "k.rows-unfinished").exists()
    assert not (tmp_path / "k.rows").exists()
    cache = Cache(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"rows-ledger"}, "what it left is removed"
    assert cache.get("k") is None
    assert cache.fetch("k", rows).equals(rows())


def test_rows_are_made_over_what_a_killed_process_left(tmp_path: Path, entry_bytes: int) -> None:
    cache = Cache(tmp_path, entry_bytes)
    (tmp_path / "k1.rows-unfinished").write_bytes(b"half" * 10_000)
    (tmp_path / "rows-ledger").write_bytes(b"")
    fill(cache, 1)
    assert entries(tmp_path) == {"k1"}, "what was left does not count as used"
    assert Cache(tmp_path).get("k1") is not None


def test_a_disk_that_takes_no_more_costs_the_entries_alone(tmp_path: Path) -> None:
    script = """
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
small, large = cache.fetch("small", rows), cache.fetch("large", lambda: rows(5000))
say(small.num_rows, large.num_rows, cache.stats().not_kept, cache.get("small") is not None)
say(*os.listdir(cache.folder))
"""
    with process(tmp_path, script) as full:
        assert line(full) == "1000 5000 1 True"
        names = line(full).split()
    assert {"rows-ledger", "small.rows"} < set(names)
    assert not any("large" in name for name in names)


def test_a_folder_taken_away_costs_the_entries_alone(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    fill(cache, 1)
    for path in cache.folder.iterdir():
        path.unlink()
    cache.folder.rmdir()
    assert fill(cache, 1, 2) == 0
    assert cache.stats().not_kept == 2


# --- room


def test_the_entry_used_longest_ago_goes_first(tmp_path: Path, entry_bytes: int) -> None:
    fill(Cache(tmp_path), 1, 2, 3)
    for age, name in enumerate(["k2", "k3", "k1"]):
        os.utime(tmp_path / f"{name}.rows", (age, age))
    cache = Cache(tmp_path, 3 * entry_bytes)
    assert fill(cache, 2, 4) == 1
    assert entries(tmp_path) == {"k1", "k2", "k4"}
    assert (cache.stats().evicted, cache.stats().bytes) == (1, 3 * entry_bytes)


def test_an_evicted_table_that_is_mapped_is_read_on(tmp_path: Path, entry_bytes: int) -> None:
    mapped = Cache(tmp_path).fetch("k1", lambda: rows(1))
    fill(Cache(tmp_path, entry_bytes), 2)
    assert entries(tmp_path) == {"k2"}
    assert mapped.equals(rows(1))


@pytest.mark.parametrize("shuffled", [False, True])
def test_a_cycle_over_twice_the_limit_is_answered_in_half(tmp_path: Path, entry_bytes: int, shuffled: bool) -> None:
    cache, order = Cache(tmp_path, 10 * entry_bytes), list(range(20))
    fill(cache, *order)
    for epoch in range(1, 9):
        if shuffled:
            random.Random(epoch).shuffle(order)
        assert fill(cache, *order) == 10, epoch
    assert cache.stats().evicted == 0


def test_ranks_that_share_a_cycle_keep_what_the_other_uses(tmp_path: Path, entry_bytes: int) -> None:
    ranks, order = [Cache(tmp_path, 10 * entry_bytes) for _ in range(2)], list(range(20))
    hits = []
    for epoch in range(9):
        random.Random(epoch).shuffle(order)
        hits.append(fill(ranks[0], *order[:10]) + fill(ranks[1], *order[10:]))
    assert hits == [0, *[10] * 8]


def test_a_job_that_turns_to_other_rows_has_room_for_them_after_some_epochs(tmp_path: Path, entry_bytes: int) -> None:
    cache = Cache(tmp_path, 5 * entry_bytes)
    fill(cache, *range(5))
    hits = [fill(cache, *range(5, 10)) for _ in range(12)]
    assert hits[0] == 0
    assert hits[-1] == 5


def test_entries_go_for_another_job_once_theirs_has_ended(tmp_path: Path, entry_bytes: int) -> None:
    first, second = Cache(tmp_path, 2 * entry_bytes), Cache(tmp_path, 2 * entry_bytes)
    fill(first, 1, 2)
    fill(second, 3, 4)
    assert entries(tmp_path) == {"k1", "k2"}
    assert second.stats().not_kept == 2
    del first
    fill(second, 3, 4)
    assert entries(tmp_path) == {"k3", "k4"}
    assert second.stats().evicted == 2


def test_a_killed_job_keeps_nothing_from_going(tmp_path: Path, entry_bytes: int) -> None:
    fill(Cache(tmp_path), 1)
    left = tmp_path / "left.rows-job"
    left.touch()
    os.utime(left, (left.stat().st_atime, 0))  # it needs all that was ever used, and nobody holds it
    fill(Cache(tmp_path, entry_bytes), 2)
    assert entries(tmp_path) == {"k2"}
    assert not left.exists()


def test_an_idle_job_keeps_nothing_from_going(tmp_path: Path, entry_bytes: int) -> None:
    idle = Cache(tmp_path)
    fill(idle, 1)
    (job,) = tmp_path.glob("*.rows-job")
    told = job.stat()
    os.utime(job, (told.st_atime - IDLE_S - 60, told.st_mtime))
    fill(Cache(tmp_path, entry_bytes), 2)
    assert entries(tmp_path) == {"k2"}
    assert fill(idle, 1) == 0


def test_each_cache_of_a_folder_keeps_its_own_limit(tmp_path: Path, entry_bytes: int) -> None:
    large, small = Cache(tmp_path, 4 * entry_bytes), Cache(tmp_path, 2 * entry_bytes)
    fill(large, 1, 2, 3)
    fill(small, 4)
    assert small.stats().not_kept == 1
    fill(large, 5)
    assert entries(tmp_path) == {"k1", "k2", "k3", "k5"}
    del large
    fill(small, 6)
    assert small.stats().bytes <= 2 * entry_bytes
    assert "k6" in entries(tmp_path)


def test_a_table_larger_than_the_limit_drives_nothing_out(tmp_path: Path, entry_bytes: int) -> None:
    fill(Cache(tmp_path), 1, 2)
    cache = Cache(tmp_path, 3 * entry_bytes)
    assert cache.fetch("large", lambda: pa.concat_tables([rows()] * 9)).num_rows == 9000
    assert entries(tmp_path) == {"k1", "k2"}
    assert (cache.stats().not_kept, cache.stats().evicted) == (1, 0)


def test_threads_of_several_caches_keep_the_limit(tmp_path: Path, entry_bytes: int) -> None:
    caches = [Cache(tmp_path, 5 * entry_bytes) for _ in range(3)]
    with ThreadPoolExecutor(6) as pool:
        for used in pool.map(lambda n: (fill(caches[n % 3], n // 2), caches[0].stats().bytes)[1], range(60)):
            assert used <= 5 * entry_bytes
    assert len(entries(tmp_path)) == 5


def test_a_ledger_that_says_nothing_is_written_anew(tmp_path: Path, entry_bytes: int) -> None:
    fill(Cache(tmp_path), 1, 2)
    cache = Cache(tmp_path, 3 * entry_bytes)
    (tmp_path / "rows-ledger").write_bytes(b"\xff\0")
    fill(cache, 3)
    assert entries(tmp_path) == {"k1", "k2", "k3"}
    fill(cache, 4)
    assert cache.stats().bytes == 3 * entry_bytes


def test_an_entry_is_touched_in_each_round_and_not_at_each_request(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    fill(cache, 1, 2)
    first = (tmp_path / "k1.rows").stat().st_mtime_ns
    fill(cache, 1, 2, 1, 2)
    assert (tmp_path / "k1.rows").stat().st_mtime_ns == first
    fill(cache, 1)
    assert (tmp_path / "k1.rows").stat().st_mtime_ns > first
