"""The numbers a job runs under: read from the environment and the container once, then passed on as data."""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

from iceblink.errors import ConfigError, nearest

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


@dataclass(frozen=True)
class Settings:
    """Settings of one engine; each is also an environment variable, ``ICEBLINK_THREADS`` and so on.

    Parameters
    ----------
    threads : int
        Threads that decode, compute and encode. Default: the CPUs this process may use.
    memory_bytes : int
        The budget [bytes] of queries, queues and writers together. Default: half of the container's limit.
    spill_dir : str
        Where work larger than memory goes; made when first needed.
    split_bytes : int
        Decoded size aimed at for a split [bytes].
    batch_bytes : int
        Decoded size aimed at for a batch [bytes].
    batch_rows : int
        At most this many rows a batch.
    row_group_bytes : int
        Arrow size at which a writer closes a row group [bytes], unless the table says otherwise.
    file_bytes : int
        Size on disk at which a writer closes a data file [bytes], unless the table says otherwise.
    """

    threads: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    memory_bytes: int = field(default_factory=lambda: container_memory_bytes() // 2)
    spill_dir: str = field(default_factory=lambda: str(Path(tempfile.gettempdir()) / f"iceblink-spill-{os.getuid()}"))
    split_bytes: int = 128 * MIB
    batch_bytes: int = 16 * MIB
    batch_rows: int = 131_072
    row_group_bytes: int = 64 * MIB
    file_bytes: int = 512 * MIB

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if _is_text(item.name):
                continue
            if isinstance(value, bool) or not hasattr(value, "__index__"):
                raise ConfigError(f"{item.name} is {value!r}", "Settings", "a whole number")
            if value < 1:
                raise ConfigError(f"{item.name} must be at least 1, got {value}", "Settings")
        if self.memory_bytes < 64 * MIB:
            raise ConfigError(
                f"memory_bytes is {self.memory_bytes:,}", "Settings", "a query kernel needs at least 64 MiB"
            )

    @classmethod
    def from_environment(cls, **given: Any) -> Self:
        """Return the defaults, overridden by ``ICEBLINK_*`` variables, overridden by `given`.

        Sizes may be written with a unit: ``ICEBLINK_MEMORY_BYTES=4GiB``, ``memory_bytes="4GiB"``.

        Raises
        ------
        ConfigError
            An unknown name in `given`, or a value that is not a number.
        """
        known = {item.name for item in fields(cls)}
        for name in given:
            if name not in known:
                raise ConfigError(f"no setting {name!r}", "Settings", nearest(name, known, "settings"))
        asked: dict[str, Any] = {}
        for name in known:
            variable = f"ICEBLINK_{name.upper()}"
            where, value = (name, given[name]) if name in given else (variable, os.environ.get(variable))
            if name in given or value is not None:
                asked[name] = _read(value, name, where) if isinstance(value, str) else value
        return cls(**asked)

    def override(self, **given: Any) -> Self:
        """Return these settings with some replaced."""
        return replace(self, **given)


def _is_text(name: str) -> bool:
    return name.endswith("_dir")


def _read(text: str, name: str, where: str) -> int | str:
    """Read a setting that is written as text."""
    if _is_text(name):
        return text
    if name.endswith("_bytes"):
        return parse_bytes(text, where)
    try:
        return int(text)
    except ValueError as error:
        raise ConfigError(f"{name} is {text!r}", where, "a whole number") from error


_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", re.IGNORECASE)


def parse_bytes(text: str, where: str) -> int:
    """Read ``"512MiB"``, ``"4 GB"`` or ``"1000"`` as a number of bytes."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ConfigError(f"cannot read {text!r} as a size", where, "write it like 512MiB or 4GB")
    number, unit, binary = match.groups()
    return int(float(number) * (1024 if binary else 1000) ** " kmgt".index(unit.lower() or " "))


def container_memory_bytes() -> int:
    """Return the smallest of the machine's memory and every cgroup limit above this process."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            limits.append(int(Path(name).read_text()))
        except (OSError, ValueError):  # no such cgroup version here, or "max"
            continue
    return min(limits)
