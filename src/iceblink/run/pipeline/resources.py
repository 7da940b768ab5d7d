"""What this machine, or the container around this process, has to share out, and how much of its memory is in use."""

from __future__ import annotations

import re
import resource
from dataclasses import dataclass
from pathlib import Path

from iceblink.config import KIB, Settings
from iceblink.run.pipeline.backend import Slots
from iceblink.run.pipeline.gpus import visible_devices


def local_slots(settings: Settings) -> Slots:
    """Return the slots of this machine: threads and memory of `settings`, the container's CPU quota, visible GPUs."""
    cpus = float(settings.threads)
    return Slots(min(cpus, container_cpus() or cpus), float(len(visible_devices())), settings.memory_bytes)


def container_cpus() -> float | None:
    """Return the CPUs that the cgroup allows, a fraction too; None where it sets no limit."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return int(quota) / int(period)
    except (OSError, ValueError):  # no cgroup of version 2 here, or "max"
        pass
    try:
        used, every = (Path(f"/sys/fs/cgroup/cpu/cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(used) / int(every) if int(used) > 0 else None
    except (OSError, ValueError):
        return None


@dataclass(frozen=True, slots=True)
class Resident:
    """Memory of a process: its own, and pages of shared files, which others may have too [bytes]."""

    own: int = 0
    shared: int = 0


def resident(process: int | str = "self") -> Resident:
    """Return the memory that a process occupies; nothing where the system does not tell."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:  # not Linux, or the process has ended
        return Resident()
    found = {name: int(value) * KIB for name, value in re.findall(r"^(Rss\w+):\s+(\d+) kB$", status, re.MULTILINE)}
    return Resident(found.get("RssAnon", 0) + found.get("RssFile", 0), found.get("RssShmem", 0))


def allow_many_files() -> None:
    """Raise this process's limit of open files as far as it may: a block that waits in a shared file is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
