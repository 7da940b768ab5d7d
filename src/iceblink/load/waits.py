"""How long a consumer waited for its batches, and what was read and made meanwhile."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, replace

from iceblink.config import MIB

REMEMBERED = 10_000  # waits, of which the quantiles are told
STALLED = 0.02
"""A consumer that waits for a smaller share of its time gains nothing from a faster loader."""


@dataclass(frozen=True)
class LoaderStats:
    """What a loader did since it was made.

    Parameters
    ----------
    steps, rows : int
        Handed over.
    seconds : float
        From the first batch asked for to the last one handed over [s].
    waited_s : float
        Of these, how long the consumer waited [s].
    wait_p50_s, wait_p99_s, wait_max_s : float
        Of the last 10,000 steps, but for the first batch of each epoch [s].
    first_batch_s : float
        How long the last epoch's first batch took [s].
    decoded_bytes, cached_bytes : int
        Rows that were decoded, and that were in the cache [bytes].
    cache_hits, cache_misses : int
        Row groups, about, that were in the cache, and that were not; without a cache there are none of either.
    decode_s : float
        Threads were busy with all this for so long together [s].
    finish_s : float
        Batches were made of columns, by the user's functions for example, for so long [s].
    replaced_rows : int
        That could not be read, or on which a function failed; `RowsReplaced` events say which.
    threads, workers : int
        That decode, and that make batches of columns.
    """

    steps: int = 0
    rows: int = 0
    seconds: float = 0.0
    waited_s: float = 0.0
    wait_p50_s: float = 0.0
    wait_p99_s: float = 0.0
    wait_max_s: float = 0.0
    first_batch_s: float = 0.0
    decoded_bytes: int = 0
    cached_bytes: int = 0
    cache_hits: int = 0
    cache_misses: int = 0
    decode_s: float = 0.0
    finish_s: float = 0.0
    replaced_rows: int = 0
    threads: int = 1
    workers: int = 1

    @property
    def stalled(self) -> float:
        """The share of the time in which the consumer waited."""
        return self.waited_s / self.seconds if self.seconds else 0.0

    @property
    def bottleneck(self) -> str:
        """What to make faster: the "consumer" if it seldom waits, else "decode", "transform" or "storage"."""
        if self.stalled < STALLED:
            return "consumer"
        decode = self.decode_s / self.threads
        finish = self.finish_s / self.workers
        return "storage" if max(decode, finish) < self.seconds / 2 else "decode" if decode > finish else "transform"

    def scalars(self) -> dict[str, float]:
        """Return what is worth a curve, by the names of TensorBoard and its like: ``"loader/wait_share"`` and so on.

        Waits are of the last 10,000 steps [ms], ``rows_per_s`` and the shares, from 0 to 1, of all the time.
        """
        asked = self.cache_hits + self.cache_misses
        return {
            "loader/rows_per_s": self.rows / self.seconds if self.seconds else 0.0,
            "loader/wait_share": self.stalled,
            "loader/wait_p50_ms": 1e3 * self.wait_p50_s,
            "loader/wait_p99_ms": 1e3 * self.wait_p99_s,
            "loader/cache_hit_share": self.cache_hits / asked if asked else 0.0,
            "loader/decoded_mib": self.decoded_bytes / MIB,
            "loader/replaced_rows": float(self.replaced_rows),
        }

    def __str__(self) -> str:
        asked = self.cache_hits + self.cache_misses
        return (
            f"{self.steps:,} steps, {self.rows:,} rows, waited {100 * self.stalled:.1f} % of {self.seconds:.1f} s; "
            f"wait p50 {1e3 * self.wait_p50_s:.2f} ms, p99 {1e3 * self.wait_p99_s:.2f} ms, "
            f"max {1e3 * self.wait_max_s:.1f} ms; first batch {self.first_batch_s:.2f} s; "
            + (f"cache hits {self.cache_hits:,} of {asked:,}; " if asked else "")
            + f"bottleneck: {self.bottleneck}"
        )


@dataclass
class Counts:
    """What was read and made of it, added up by the threads that do it; see `LoaderStats`."""

    decoded_bytes: int = 0
    cached_bytes: int = 0
    cache_hits: int = 0
    cache_misses: int = 0
    decode_s: float = 0.0
    finish_s: float = 0.0
    replaced_rows: int = 0


class Waits:
    """Counts as steps go by; told from the consumer's thread."""

    def __init__(self) -> None:
        self._waits: deque[float] = deque(maxlen=REMEMBERED)
        self.steps = self.rows = 0
        self.waited_s = self.first_batch_s = self.seconds = 0.0
        self._last: float | None = None

    def begun(self) -> None:
        """Take note that an epoch begins: the time between epochs is nobody's."""
        self._last = None

    def waited(self, since: float, rows: int) -> float:
        """Take note of a step that was asked for at a moment [s of `time.perf_counter`], and has come; return now."""
        now = time.perf_counter()
        if self._last is None:
            self.first_batch_s = now - since
        else:
            self._waits.append(now - since)
        self.seconds += now - (since if self._last is None else self._last)
        self.waited_s += now - since
        self._last = now
        self.steps += 1
        self.rows += rows
        return now

    def stats(self, counts: Counts, threads: int, workers: int) -> LoaderStats:
        """Return what was counted, here and by who reads."""
        waits = sorted(self._waits) or [0.0]
        p50, p99, most = (waits[int(share * (len(waits) - 1))] for share in (0.5, 0.99, 1.0))
        totals = self.totals(counts, threads, workers)
        return replace(totals, wait_p50_s=p50, wait_p99_s=p99, wait_max_s=most)

    def totals(self, counts: Counts, threads: int, workers: int) -> LoaderStats:
        """Return the same without quantiles, for which waits must be sorted."""
        return LoaderStats(
            self.steps, self.rows, self.seconds, self.waited_s, first_batch_s=self.first_batch_s,
            **vars(counts), threads=threads, workers=workers,
        )  # fmt: skip
