"""Servers that tests start: on loopback, on a free port, ended by their own handles, or with the test run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from socket import create_connection, create_server

READY_S = 60.0
KEEPER = Path(__file__).with_name("keeper.py")


def free_port() -> int:
    """Return a port of loopback that nobody has."""
    with create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@contextmanager
def room(name: str) -> Iterator[tuple[Path, str | None]]:
    """Give a new folder for a server that refuses to be run by root, and who is to run it; take both away after it."""
    owner = "nobody" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix=f"iceblink-{name}-"))
    try:
        if owner is not None:
            shutil.chown(folder, owner)
        yield folder, owner
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        folder.with_suffix(".log").unlink(missing_ok=True)


class Server:
    """A process that listens; started at once, awaited by `ready`. It ends with this process, even with a killed one.

    Parameters
    ----------
    command : sequence of str
    log : Path
        Where it writes what it has to say.
    port : int
    user : str, optional
        Who runs it, where this process is root and the server refuses to be.
    stop : int
        The signal that ends it soon.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        port: int,
        environment: Mapping[str, str] | None = None,
        user: str | None = None,
        stop: int = signal.SIGTERM,
    ) -> None:
        self.port, self._log = port, log
        kept = [sys.executable, "-I", "-S", str(KEEPER), str(int(stop)), user or "", *command]
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                kept,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=environment,
                cwd="/",
                start_new_session=True,  # Ctrl-C in a terminal is for the tests
            )

    def ready(self, asked: Callable[[], bool] | None = None) -> None:
        """Wait until it listens, and `asked` is true."""
        deadline = time.monotonic() + READY_S
        while not (self._listens() and (asked is None or asked())):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self._process.args!r} did not start: {self._log.read_text()[-2000:]}")
            time.sleep(0.05)

    def _listens(self) -> bool:
        try:
            create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def end(self) -> None:
        """End it, kindly first."""
        assert self._process.stdin is not None, "it was asked for"
        self._process.stdin.close()
        self._process.wait()
