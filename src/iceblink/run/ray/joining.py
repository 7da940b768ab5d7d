"""How Ray is found: the cluster that is named, the one this process is in, or one started here."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray

from iceblink.config import MIB, Settings
from iceblink.errors import ConfigError

_TRIES = 3
_SMALLEST_STORE = 80 * MIB  # Ray takes no less than 75 MiB
_SHARE = 0.3  # of the memory budget, for the object store
_SAID = 5  # lines of a log that an error quotes
_SESSIONS = Path("/tmp/ray")


class Membership:
    """One use of Ray by this process; the last one to leave shuts down what was started for the first."""

    _lock = threading.Lock()
    _members = 0
    _ours = False
    """Whether Ray was initialised here, and not by the user before."""
    _started = False
    """Whether the cluster is ours too."""

    def __init__(self, settings: Settings, address: str | None = None) -> None:
        """Join the cluster at `address`, else the one that ``RAY_ADDRESS`` names or this process is in, else start one.

        Raises
        ------
        ConfigError
            There is no such cluster, this process is in another one, or none can be started here.
        """
        self._left = False
        # else Ray puts its own `print` in the place of Python's
        os.environ.setdefault("RAY_TQDM_PATCH_PRINT", "0")
        with self._lock:
            if not ray.is_initialized():
                if named := address or os.environ.get("RAY_ADDRESS"):
                    _join(named)
                else:
                    _start(settings)
                Membership._started = not named
                Membership._ours = True
            elif address is not None:
                _see_same(address)
            self.started_here = self._ours and self._started
            Membership._members += 1

    @classmethod
    @contextmanager
    def there(cls) -> Iterator[bool]:
        """Say whether Ray is there, which it then is until the block ends: asked for anything, it would start anew."""
        with cls._lock:
            yield ray.is_initialized()

    def leave(self) -> None:
        """Leave, once."""
        with self._lock:
            if self._left:
                return
            self._left = True
            Membership._members -= 1
            if self._members == 0 and self._ours:
                Membership._ours = False
                ray.shutdown()


def _join(address: str) -> None:
    try:
        ray.init(address=address, logging_level=logging.ERROR)
    except Exception as error:  # Ray raises bare Exceptions here
        raise ConfigError(
            f"no Ray cluster can be joined: {error}", address, "see that it runs, and that RAY_ADDRESS names its head"
        ) from error


def _see_same(address: str) -> None:
    here = ray.get_runtime_context().gcs_address
    if address not in {"auto", here}:
        raise ConfigError(f"this process is in the Ray cluster at {here}", address, "call ray.shutdown() first")


def _start(settings: Settings) -> None:
    """Start Ray here; its own time limits are short for a machine that has much to do, so this is tried again."""
    began = time.time()
    for attempt in range(1, _TRIES + 1):
        try:
            with _findable():
                ray.init(
                    address="local",
                    num_cpus=settings.threads,
                    include_dashboard=False,
                    object_store_memory=max(_SMALLEST_STORE, int(settings.memory_bytes * _SHARE)),
                    object_spilling_directory=_spilling(settings),
                    logging_level=logging.ERROR,
                )
            return
        except Exception as error:
            ray.shutdown()
            if attempt == _TRIES:
                raise ConfigError(
                    f"Ray did not start in {_TRIES} tries: {error}{_last_words(began)}",
                    "engine='ray'",
                    "it needs a few quiet seconds of two CPUs; or start a cluster with `ray start --head` and name it",
                ) from error


@contextmanager
def _findable() -> Iterator[None]:
    """Let the processes that are started find this package where we found it."""
    before = os.environ.get("PYTHONPATH")
    home = str(Path(__file__).parents[3])
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [home, before]))
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def _spilling(settings: Settings) -> str:
    folder = Path(settings.spill_dir).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    return str(folder)


def _last_words(since: float) -> str:
    """Return what the raylets that were begun since then said last."""
    logs = [path for path in _SESSIONS.glob("session_2*/logs/raylet.*") if path.stat().st_mtime >= since]
    lines = [line for path in sorted(logs) for line in path.read_text(errors="replace").splitlines()]
    fatal = [line for line in lines if " C " in line[:60]] or lines
    return "".join(f"\n        {line[:300]}" for line in fatal[-_SAID:])
