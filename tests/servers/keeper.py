"""Runs a server for as long as whoever asked for it lives: their end of a pipe, the standard input here, says so.

``python keeper.py SIGNAL USER COMMAND...``; no user is ``""``. A test run that is killed closes the pipe as well as one
that is done, so that no server outlives it. Ends with the server's exit status, or 1 for one that a signal ended.
"""

from __future__ import annotations

import subprocess
import sys
import threading

PATIENCE_S = 10.0


def end_with(pipe: int, server: subprocess.Popen[bytes], stop: int) -> None:
    """Wait until nobody holds the other end of the pipe, and end the server, kindly first."""
    with open(pipe, "rb", buffering=0, closefd=False) as held:
        while held.read(1):
            pass
    server.send_signal(stop)
    try:
        server.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        server.kill()


if __name__ == "__main__":
    stop, user, *command = sys.argv[1:]
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, user=user or None)
    threading.Thread(target=end_with, args=(0, server, int(stop)), daemon=True).start()
    status = server.wait()
    sys.exit(status if status >= 0 else 1)
