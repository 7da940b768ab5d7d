"""Settings: given, of the environment, or found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import iceblink as ib
from iceblink.config import GIB, MIB, Settings
from iceblink.errors import ConfigError


def test_sizes_are_given_as_numbers_or_with_a_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ib.LocalEngine(memory_bytes="4GiB").settings.memory_bytes == 4 * GIB
    assert ib.LocalEngine(memory_bytes=np.int64(4 * GIB)).settings.memory_bytes == 4 * GIB
    monkeypatch.setenv("ICEBLINK_MEMORY_BYTES", "512 MiB")
    monkeypatch.setenv("ICEBLINK_SPILL_DIR", "/1GB")
    found = Settings.from_environment()
    assert (found.memory_bytes, found.spill_dir) == (512 * MIB, "/1GB")
    assert Settings.from_environment(memory_bytes="1GiB").memory_bytes == GIB


@pytest.mark.parametrize(
    "given",
    [
        {"memory_bytes": "plenty"},
        {"memory_bytes": 1e9},
        {"memory_bytes": MIB},
        {"threads": 0},
        {"threads": None},
        {"threads": True},
        {"threads": "2.7"},
        {"thread": 2},
    ],
)
def test_what_is_no_setting_is_refused_at_once(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(given))):
        ib.LocalEngine(**given)


def test_who_wrote_the_environment_is_told_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ICEBLINK_THREADS", "two")
    with pytest.raises(ConfigError, match="ICEBLINK_THREADS"):
        Settings.from_environment()
