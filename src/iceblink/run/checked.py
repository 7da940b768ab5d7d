"""Checks of what is read run beside the work on it, and no row is handed out before they are done."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import islice

import pyarrow as pa


def checked(
    batches: Generator[pa.RecordBatch, None, None], checks: Sequence[Callable[[], None]]
) -> Generator[pa.RecordBatch, None, None]:
    """Yield `batches` when all `checks` have passed; the first batch is made meanwhile.

    Parameters
    ----------
    batches : generator of pa.RecordBatch
        Closed with this one.
    checks : sequence of callable
        Called in a thread of their own, one after the other.

    Raises
    ------
    IceblinkError
        What a check raised, whatever `batches` may have raised: a check knows which bytes are wrong.
    """
    with closing(batches):
        if checks:
            pool = ThreadPoolExecutor(1, "iceblink-checks")
            running = [pool.submit(check) for check in checks]
            first: list[pa.RecordBatch] = []
            failed: Exception | None = None
            try:
                try:
                    first = list(islice(batches, 1))
                except Exception as error:
                    failed = error
                for check in running:
                    check.result()
            finally:
                pool.shutdown(cancel_futures=True)  # who is interrupted waits for one check at most
            if failed is not None:
                raise failed
            yield from first
        yield from batches
