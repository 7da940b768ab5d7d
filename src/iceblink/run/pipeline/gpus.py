"""Which GPUs this process may use, and who has which share of them."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from iceblink.errors import ConfigError

_DEV = Path("/dev")
_ALMOST = 1e-9  # ten shares of 0.1 are one device


def visible_devices() -> tuple[str, ...]:
    """Return the devices' names as ``CUDA_VISIBLE_DEVICES`` writes them; all of the machine's where it is not set.

    CUDA counts the devices that there are: a container that was given the machine's fourth has ``/dev/nvidia3``, and
    its name is 0.
    """
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return tuple(map(str, range(len(list(_DEV.glob("nvidia[0-9]*"))))))
    devices: list[str] = []
    for name in (part.strip() for part in named.split(",")):
        if not name or name.startswith("-"):  # CUDA ignores what follows the first name that is none
            break
        devices.append(name)
    return tuple(devices)


@dataclass(frozen=True, slots=True)
class Share:
    """What one worker holds: devices, and how much of each."""

    devices: tuple[str, ...]
    of_each: float


class Gpus:
    """Shares devices out: whole ones alone, fractions where the least is left, so that whole ones stay whole.

    Parameters
    ----------
    devices : sequence of str
    """

    def __init__(self, devices: Sequence[str]) -> None:
        self._free = dict.fromkeys(devices, 1.0)
        self._lock = threading.Lock()

    def take(self, amount: float, label: str) -> Share | None:
        """Return `amount` devices, or a fraction of one; None while not as much is free.

        Raises
        ------
        ConfigError
            There is no such amount.
        """
        if amount == 0:
            return Share((), 0.0)
        if amount < 0 or (amount > 1 and amount != int(amount)):
            raise ConfigError(f"gpus is {amount}", label, "take a fraction of one device, or whole ones")
        count, of_each = max(1, int(amount)), min(amount, 1.0)
        with self._lock:
            roomy = [device for device, free in self._free.items() if free >= of_each - _ALMOST]
            chosen = sorted(roomy, key=lambda device: self._free[device])[:count]
            if len(chosen) < count:
                return None
            for device in chosen:
                self._free[device] -= of_each
            return Share(tuple(chosen), of_each)

    def give_back(self, share: Share) -> None:
        """Let others have a share."""
        with self._lock:
            for device in share.devices:
                self._free[device] = min(1.0, self._free[device] + share.of_each)


@cache
def gpus_of(devices: tuple[str, ...]) -> Gpus:
    """Return the shares of these devices that all runs of this process have in common."""
    return Gpus(devices)
