"""Calls that are made in processes come back as if they were made here, and nobody waits for one that does not."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from iceblink.errors import FunctionError, PlanError
from iceblink.run.pipeline.process_calls import ProcessCalls
from iceblink.run.pipeline.shared_rows import SharedRows


class Deadly:
    """Ends the process that unpickles it."""

    def __call__(self) -> None: ...

    def __reduce__(self) -> Any:
        return os._exit, (3,)


@pytest.fixture
def called(tmp_path: Path) -> Iterator[Any]:
    with closing(ProcessCalls(lambda *given: (*given, os.getpid()), "told", 2, str(tmp_path))) as calls:
        yield calls


def test_many_threads_have_their_own_answers(called: Any) -> None:
    held = SharedRows.held_bytes
    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(called, range(60), [np.arange(number) for number in range(60)]))
    assert [(number, array.tolist()) for number, array, _ in answers] == [(n, list(range(n))) for n in range(60)]
    assert os.getpid() not in {process for *_, process in answers}
    assert SharedRows.held_bytes == held


def test_what_was_raised_is_raised_here(tmp_path: Path) -> None:
    with closing(ProcessCalls(int, "number", 1, str(tmp_path))) as calls:
        with pytest.raises(ValueError, match="invalid literal") as caught:
            calls("x")
        assert "In the worker process" in caught.value.__notes__[0]
        assert calls("7") == 7


def test_who_waits_is_told_of_the_end(tmp_path: Path) -> None:
    begun = tmp_path / "begun"

    def waits(number: int) -> None:
        begun.touch()
        threading.Event().wait(90)

    calls = ProcessCalls(waits, "waits", 1, str(tmp_path))
    with ThreadPoolExecutor(3) as threads:
        waiting = [threads.submit(calls, number) for number in range(3)]  # at work, next to it, and not handed out
        while not begun.exists():
            threading.Event().wait(0.01)
        calls.close()
        for one in waiting:
            with pytest.raises(PlanError):
                one.result()
    with pytest.raises(PlanError):
        calls(4)


def test_processes_that_cannot_be_built_are_an_error(tmp_path: Path) -> None:
    with (
        closing(ProcessCalls(partial(print, Deadly()), "deadly", 2, str(tmp_path))) as calls,
        pytest.raises(FunctionError, match=r"status 3.*built"),
    ):
        calls()
    with (
        closing(ProcessCalls(partial(print, threading.Lock()), "locked", 2, str(tmp_path))) as calls,
        pytest.raises(FunctionError, match="lock"),
    ):
        calls()
