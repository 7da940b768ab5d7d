"""Programs that are interrupted in the middle of what they do."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap

ENDS_S = 45  # much less than what they are at takes, and much more than an end needs


def interrupted(program: str) -> tuple[list[str], str]:
    """Run a program until it says ``working``, then press Ctrl-C; return the lines it says after, and its errors."""
    driver = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert driver.stdout is not None
        assert driver.stdout.readline() == "working\n"
        driver.send_signal(signal.SIGINT)
        told, errors = driver.communicate(timeout=ENDS_S)
    finally:
        driver.kill()
    assert driver.returncode == -signal.SIGINT, errors
    return told.splitlines(), errors
