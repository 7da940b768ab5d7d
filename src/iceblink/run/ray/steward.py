"""Watches the hosts of one node: sees how they die, ends calls that take too long, measures their memory."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from iceblink.run.pipeline.backend import Calling
from iceblink.run.pipeline.endings import ending, late
from iceblink.run.pipeline.resources import resident
from iceblink.run.ray.last_words import LastWords
from iceblink.run.ray.room import SpillDisk

_LOOK_S = 0.5  # memory is measured so often
_SHORTEST_S = 0.02


@dataclass(frozen=True, slots=True)
class Place:
    """Where a host is: node, process, and the descriptor of its last words there."""

    node: str
    pid: int
    descriptor: int


@dataclass(frozen=True, slots=True)
class End:
    """How a host ended, in words; `calling` as in `Died`."""

    host: int
    why: str
    calling: Calling | None


@dataclass(frozen=True, slots=True)
class Seen:
    """What a steward saw in one round: hosts that ended, and the memory of the others [bytes]."""

    ends: tuple[End, ...]
    resident: dict[int, int]


@dataclass(frozen=True, slots=True)
class _Watched:
    pid: int
    process: int  # a descriptor that becomes readable when the process ends, and never means another one
    words: LastWords
    timeout_s: float | None


class Steward:
    """One for each node, in the driver or in an actor; a host that hangs or is dead cannot speak for itself."""

    def __init__(self) -> None:
        self._watched: dict[int, _Watched] = {}
        self._killed: dict[int, str] = {}  # by us, and why
        self._changed = threading.Lock()
        self._bell = os.eventfd(0)
        self._closed = False

    def watch(self, host: int, place: Place, timeout_s: float | None) -> bool:
        """Begin to watch a host, or go on with another limit for its calls; False if it is gone already."""
        with self._changed:
            known = self._watched.pop(host, None)
            if known is not None:
                self._watched[host] = _Watched(known.pid, known.process, known.words, timeout_s)
            else:
                try:
                    process = os.pidfd_open(place.pid)
                    descriptor = os.open(f"/proc/{place.pid}/fd/{place.descriptor}", os.O_RDWR)
                except OSError:
                    return False
                self._watched[host] = _Watched(place.pid, process, LastWords(descriptor), timeout_s)
                os.close(descriptor)
        os.eventfd_write(self._bell, 1)
        return True

    def rounds(self) -> Iterator[Seen]:
        """Yield what is seen, each time that a host ends and twice a second, until closed."""
        measured = 0.0
        while not self._closed:
            with self._changed:
                watched = dict(self._watched)
            pause = min(_LOOK_S, *self._end_late(watched), max(0.0, measured + _LOOK_S - time.monotonic()))
            ends = self._ended(watched, pause)
            if ends or time.monotonic() >= measured + _LOOK_S:
                measured = time.monotonic()
                yield Seen(tuple(ends), {host: resident(one.pid).own for host, one in watched.items()})

    def disk(self) -> SpillDisk:
        """Look at the disk that Ray spills to."""
        return SpillDisk.here()

    def close(self) -> None:
        """End the rounds."""
        self._closed = True
        os.eventfd_write(self._bell, 1)

    def _ended(self, watched: dict[int, _Watched], pause_s: float) -> list[End]:
        """Wait a moment for hosts to end."""
        poll = select.poll()
        poll.register(self._bell, select.POLLIN)
        for one in watched.values():
            poll.register(one.process, select.POLLIN)
        ready = {descriptor for descriptor, _ in poll.poll(pause_s * 1000)}
        if self._bell in ready:
            os.eventfd_read(self._bell)
        return [self._leave(host) for host, one in watched.items() if one.process in ready]

    def _leave(self, host: int) -> End:
        with self._changed:
            one = self._watched.pop(host)
        os.close(one.process)
        status = one.words.status()
        calling = one.words.slate.read()
        unsaid = -signal.SIGKILL  # all other ends leave a word
        why = self._killed.pop(host, None) or ending(unsaid if status is None else status)
        return End(host, why, calling)

    def _end_late(self, watched: dict[int, _Watched]) -> Iterator[float]:
        """Kill the hosts whose call takes too long; yield when to look at each again [s from now]."""
        now = time.monotonic()
        for host, one in watched.items():
            if one.timeout_s is None:
                continue
            calling = one.words.slate.read()
            left = one.timeout_s - (now - calling.began_s) if calling is not None else one.timeout_s
            if left <= 0:
                self._killed[host] = late(one.timeout_s)
                with suppress(OSError):
                    signal.pidfd_send_signal(one.process, signal.SIGKILL)
            yield max(_SHORTEST_S, left)
