"""What a process writes down for whoever finds it dead: a page of memory that others read, and that outlives it."""

from __future__ import annotations

import faulthandler
import mmap
import os
import re
import signal
import struct
import threading
from typing import NoReturn

from iceblink.run.pipeline.messages import UNHEARD, Slate

_SIGNALS = {
    "Segmentation fault": signal.SIGSEGV,
    "Aborted": signal.SIGABRT,
    "Bus error": signal.SIGBUS,
    "Illegal instruction": signal.SIGILL,
    "Floating-point exception": signal.SIGFPE,
}
_LOOK_S = 0.1


class LastWords:
    """How a process ended, and before that what it was calling (`slate`).

    Parameters
    ----------
    descriptor : int
        Of a file made by `new`; stays the caller's.
    """

    _SAID = struct.Struct("=?q")  # whether it said so, and its exit status
    _SAID_AT, _CRASH_AT, _SIZE = 64, 128, 4096  # the slate is before, the crash handler writes behind

    def __init__(self, descriptor: int) -> None:
        self._page = mmap.mmap(descriptor, self._SIZE)
        self.slate = Slate(descriptor)

    @classmethod
    def new(cls) -> int:
        """Return the descriptor of an empty page without a name."""
        descriptor = os.memfd_create("iceblink")
        os.truncate(descriptor, cls._SIZE)
        return descriptor

    def keep(self, descriptor: int) -> None:
        """Note from now on how this process ends: by ``os._exit``, by a crash, or when its connections are closed."""
        us, leave = os.getpid(), os._exit

        def exit(status: int) -> NoReturn:
            if os.getpid() == us:  # a fork has our page, and may leave as it likes
                self._SAID.pack_into(self._page, self._SAID_AT, True, status)
            leave(status)

        def look() -> None:
            pause = threading.Event()
            while not pause.wait(_LOOK_S):
                try:
                    os.fstat(descriptor)
                except OSError:  # some function closes all there is, the connection to Ray too
                    exit(UNHEARD)

        os._exit = exit
        os.lseek(descriptor, self._CRASH_AT, os.SEEK_SET)
        faulthandler.enable(descriptor)
        threading.Thread(target=look, name="iceblink descriptors", daemon=True).start()

    def status(self) -> int | None:
        """Return the exit status, or the signal of a crash, negative; None if it had no time to say."""
        said, status = self._SAID.unpack_from(self._page, self._SAID_AT)
        if said:
            return int(status)
        crash = re.match(rb"Fatal Python error: ([\w -]+)", self._page[self._CRASH_AT :])
        number = _SIGNALS.get(crash[1].decode()) if crash else None
        return None if number is None else -number
