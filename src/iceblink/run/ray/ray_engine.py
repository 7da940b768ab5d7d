"""The engine on Ray: what the engine of one process runs, spread over a cluster."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from iceblink.config import Settings
from iceblink.run.distributed.engine import DistributedEngine
from iceblink.run.distributed.lowering import BROADCAST_BYTES, SMALL_BYTES
from iceblink.run.gang import Gang
from iceblink.run.pipeline.backend import Backend
from iceblink.run.ray.gang import RayGang
from iceblink.run.ray.ray_backend import RayBackend
from iceblink.run.ray.session import Session


class RayEngine(DistributedEngine):
    """Run everything on Ray: scans, statements, Python functions and writes, in long-lived actors.

    Lazy: Ray is joined, or started here, when the first rows are asked for.

    Parameters
    ----------
    address : str, optional
        Of a cluster, as ``ray.init`` takes it. Default: what ``RAY_ADDRESS`` names, the cluster that this process is a
        job of, or the one it has initialised; else Ray is started on this machine, and shut down by `close`.
    runtime_env : mapping, optional
        What workers run in, as Ray takes it.
    small_bytes : int
        A statement that reads no more than this [decoded bytes] is one task.
    broadcast_bytes : int
        The smaller side of a join goes to every task up to this [bytes].
    **settings
        Any of `Settings`. On a cluster that is joined `memory_bytes` is the budget of all workers together; default
        what the nodes offer.

    Raises
    ------
    ConfigError
        An unknown or impossible setting; and, when rows are asked for, no cluster.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        runtime_env: Mapping[str, Any] | None = None,
        small_bytes: int = SMALL_BYTES,
        broadcast_bytes: int = BROADCAST_BYTES,
        **settings: Any,
    ) -> None:
        super().__init__(
            Settings.from_environment(**settings),
            self._opened,
            processes=True,
            small_bytes=small_bytes,
            broadcast_bytes=broadcast_bytes,
        )
        self._address, self._runtime_env = address, runtime_env
        self._memory_bytes = self.settings.memory_bytes if "memory_bytes" in settings else None
        self._lock = threading.Lock()
        self._session: Session | None = None

    def close(self) -> None:
        """End the workers, leave the cluster, or shut it down if it was started here; the next run joins anew."""
        with self._lock:
            session, self._session = self._session, None
        if session is not None:
            session.close()
        super().close()

    def gang(self, label: str, count: int, cpus: int, build: Callable[[int], Any]) -> Gang:
        """Begin workers that are there together, or not at all; see `LocalEngine.gang`.

        Raises
        ------
        ConfigError
            The cluster has no room for them, or none in a minute.
        FunctionError
            One died while it was built.
        """
        return RayGang(self._joined(), label, count, cpus, build)

    def _opened(self) -> Backend:
        return RayBackend(self._joined())

    def _joined(self) -> Session:
        with self._lock:
            if self._session is None:
                self._session = Session(self.settings, self._address, self._runtime_env, self._memory_bytes)
            return self._session

    def __repr__(self) -> str:
        return f"RayEngine({self._address or ''})"
