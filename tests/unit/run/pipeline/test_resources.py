"""What a machine has is read as it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from iceblink.config import Settings
from iceblink.run.pipeline import resources
from iceblink.run.pipeline.resources import Resident, local_slots, resident


def test_slots_are_those_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,3")
    monkeypatch.setattr(resources, "container_cpus", lambda: None)
    slots = local_slots(Settings(threads=3, memory_bytes=1 << 30))
    assert (slots.cpus, slots.gpus, slots.memory_bytes) == (3.0, 2.0, 1 << 30)


def test_a_container_may_allow_fewer_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "container_cpus", lambda: 1.5)
    assert local_slots(Settings(threads=3)).cpus == 1.5


def test_memory_of_this_process_grows_with_what_it_holds() -> None:
    before = resident().own
    held = b"x" * (64 << 20)
    assert resident().own - before > len(held) // 2


def test_memory_of_another_process_can_be_read() -> None:
    assert resident(os.getppid()).own > 0


def test_nothing_is_known_of_a_process_that_is_gone(tmp_path: Path) -> None:
    assert resident("no such process") == Resident()
