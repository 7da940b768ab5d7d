"""How a worker ended, in words."""

from __future__ import annotations

import signal

from iceblink.run.pipeline.messages import GPU_LOST, OUT_OF_MEMORY, UNHEARD

_CRASHES = {signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE}


def ending(status: int) -> str:
    """Say an exit status in words; that of a kill is the signal, negative."""
    if status == OUT_OF_MEMORY:
        return "ran out of memory (MemoryError)"
    if status == UNHEARD:
        return "closed the connection to its parent"
    if status == GPU_LOST:
        return "lost its GPU (a kernel failed: its standard error says which)"
    if status >= 0:
        return f"exited with status {status}"
    guess = ""
    if -status == signal.SIGKILL:
        guess = " (out of memory?)"
    elif -status in _CRASHES:
        guess = " (a crash in native code?)"
    return f"was killed by signal {-status}, {signal.strsignal(-status)}{guess}"


def late(timeout_s: float) -> str:
    """Say that a call took longer than it may [s]."""
    return f"took longer than {timeout_s:g} s for a call"
