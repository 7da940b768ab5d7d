"""One thread for linear algebra: workers are many already, and sums in one order are the same bits everywhere."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController

_lock = threading.Lock()
_inside = 0
_limited: Any = None


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()  # looks at every library that is loaded: once


@contextmanager
def one_thread() -> Iterator[None]:
    """Let BLAS use one thread until the last of those who are inside has left."""
    global _inside, _limited
    with _lock:
        _inside += 1
        if _inside == 1:
            _limited = _controller().limit(limits=1, user_api="blas")
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _limited.restore_original_limits()
