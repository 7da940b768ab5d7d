"""Files whose lock says that a process is at them; the system lets go of it when that process ends, however it ends."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path


def lock_file(path: Path) -> int:
    """Open a file, made if it is not there, and wait until nobody else has it, threads of this process included.

    Returns
    -------
    int
        A file descriptor; closing it lets go of the file.

    Raises
    ------
    OSError
    """
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            if is_at(file, path):
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)  # who had it before has renamed or removed it


def remove_orphan(path: Path) -> bool:
    """Remove a file that no process has locked; return whether it is gone."""
    try:
        file = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if is_at(file, path):
            path.unlink()
    except BlockingIOError:
        return False
    finally:
        os.close(file)
    return True


def is_at(file: int, path: Path) -> bool:
    """Return whether an open file still has its name."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file), path.stat())
    return False
