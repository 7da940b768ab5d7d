"""Conditions that a user may be waiting for."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from iceblink.condition import Condition


def test_an_interrupt_between_two_lines_of_a_wait_is_an_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    condition = Condition()
    let_go: Any = condition._release_save  # type: ignore[attr-defined]

    def interrupted() -> None:
        let_go()
        raise KeyboardInterrupt

    monkeypatch.setattr(condition, "_release_save", interrupted)
    with pytest.raises(KeyboardInterrupt), condition:
        condition.wait(1)
    free: list[bool] = []
    other = threading.Thread(target=lambda: free.append(condition.acquire(blocking=False)))
    other.start()
    other.join()
    assert free == [True]


def test_whoever_leaves_what_is_not_his_is_told() -> None:
    with pytest.raises(RuntimeError), (condition := Condition()):
        condition.release()
