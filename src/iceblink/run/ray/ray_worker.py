"""A worker in a host, seen from the driver: started, fed, heard."""

from __future__ import annotations

import pickle
import re
import sys
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace
from typing import Any

import ray
from ray.experimental import get_local_object_locations

from iceblink.errors import ConfigError
from iceblink.run.pipeline.backend import Calling, Died, Failed, Finished, Order, Produced, Ready, Signal, Task
from iceblink.run.pipeline.messages import Allow, Raised, Stop
from iceblink.run.ray.host import Given, Start
from iceblink.run.ray.objects import FEW_BYTES, Part, RayRows
from iceblink.run.ray.room import AGAIN_S, REFUSALS, NoRoom, Refusals
from iceblink.run.ray.session import Session
from iceblink.run.ray.steward import Place

_LEAVE_S = 5.0


class RayWorker:
    """One life of a host; a thread here hears its stream.

    Parameters
    ----------
    worker : int
    order : Order
    build : ray.ObjectRef
        Of its `build`, pickled.
    session : Session
    refusals : Refusals
        Of its run.
    tell : callable
        Takes each signal, and None at an end that was asked for.
    """

    def __init__(
        self,
        worker: int,
        order: Order,
        build: Any,
        session: Session,
        refusals: Refusals,
        tell: Callable[[Signal | None], None],
    ) -> None:
        self.number, self._label, self._timeout_s = worker, order.label, order.timeout_s
        self.timeout_s: float | None = None  # what is called, and since when, the host's steward knows
        self.calling: Calling | None = None
        self._session, self._refusals, self._tell = session, refusals, tell
        self._tasks: set[int] = set()
        self._ready = False
        self._stopping = self._dismissed = False
        self._host = session.host(order)
        # an item is let go before the host goes on to the next: nothing that a worker said is lost with it
        live = self._host.actor.live.options(num_returns="streaming", _generator_backpressure_num_objects=1)
        self._stream = live.remote(Start(worker, order.label, (build,), sys.path))
        self._thread = threading.Thread(target=self._live, name=f"{order.label} {worker}", daemon=True)
        session.hear(self._thread)

    @property
    def idle(self) -> bool:
        """Whether it is built and has nothing to do."""
        return self._ready and not self._tasks

    @property
    def busy(self) -> bool:
        """Whether it has tasks."""
        return bool(self._tasks)

    def submit(self, task: Task, credit: int) -> None:
        """Queue a task."""
        self._tasks.add(task.number)
        parts = tuple(map(Part.of, task.slices))
        given = Given(task.number, parts, task.batch_rows, task.schema, task.skip, credit)
        self._session.send(self._host, self.number, given)

    def allow(self, task: int) -> None:
        """Give a task credit for one more output."""
        self._session.send(self._host, self.number, Allow(task))

    def stop(self) -> None:
        """End after the tasks that are queued; its host waits for another worker."""
        self._stopping = True
        if not self._tasks:
            self._session.leaves(self._host)
        self._session.send(self._host, self.number, Stop())

    def lost_with(self, nodes: Collection[str]) -> Died | None:
        """Say that it died with its node, if that is one of these."""
        place = self._host.place
        if place is None or place.node not in nodes:
            return None
        return Died(self.number, "was lost with its node", with_node=True)

    def end(self) -> None:
        """End the host at once."""
        self._dismissed = True
        self._session.dismiss(self._host)

    def join(self) -> None:
        """Wait until the host is gone, and with it its memory, what it reserved, and any file that it writes."""
        until = time.monotonic() + _LEAVE_S
        self._thread.join(_LEAVE_S)
        if self._dismissed:
            self._host.wait(max(0.0, until - time.monotonic()))

    def _live(self) -> None:
        """Hear the worker until it ends, and say how it went."""
        try:
            built = self._hear()
        except Exception as error:  # of Ray, or what was said cannot be understood here
            self._tell(self._ended(error))
            self._session.dismiss(self._host)
        else:
            if built:
                self._tell(None)
            self._session.rest(self._host)

    def _hear(self) -> bool:
        """Pass on what the worker says, until it has nothing more to say; return whether it was built."""
        built = True
        for item in self._stream:
            match ray.get(item):
                case Place() as place:
                    self._session.watch(self._host, place, self._timeout_s)
                case Produced(block=block) as produced:
                    rows = RayRows(block.ref) if block.ref else RayRows(self._next_rows(), block.nbytes)
                    self._tell(replace(produced, block=replace(block, ref=rows)))
                    del block, produced, rows
                case Raised(task, pickled):
                    error = pickle.loads(pickled)
                    if isinstance(error, NoRoom):
                        raise error
                    built = built and task is not None
                    self._forget(task)
                    self._tell(Failed(self.number, task, error))
                case Finished(task=task) as finished:
                    self._forget(task)
                    self._refusals.end()
                    self._tell(finished)
                case Ready() as ready:
                    self._ready = True
                    self._tell(ready)
            del item
        return built

    def _next_rows(self) -> Any:
        """Return the reference to rows, or raise the error that Ray has put in their place."""
        reference = next(self._stream)
        size = get_local_object_locations([reference]).get(reference, {}).get("object_size")
        if size is None or size <= FEW_BYTES:  # rows that are objects are more
            with suppress(ray.exceptions.GetTimeoutError):  # rows on a node that is cut off may never come
                ray.get(reference, timeout=AGAIN_S)
        return reference

    def _forget(self, task: int | None) -> None:
        if task is not None:
            self._tasks.discard(task)

    def _ended(self, error: Exception) -> Signal | None:
        """Say how the host ended."""
        if self._dismissed or (self._stopping and not self._tasks):  # then it does not matter
            return None
        if isinstance(error, (NoRoom, *REFUSALS)):
            return self._refused(error)
        said = str(error)
        if isinstance(error, ray.exceptions.RuntimeEnvSetupError):
            return self._unbuilt(f"Ray cannot make what runtime_env asks for: {error}", "")
        if "No module named 'iceblink" in said:
            return self._unbuilt("iceblink is not on the nodes of this cluster", "runtime_env={'pip': ['iceblink']}")
        if "node has died" in said:
            which = "".join(re.findall(r"\n\s*ip:( \S+)", said)[:1])
            return Died(self.number, f"was lost with its node{which}", with_node=True)
        end = self._host.end()
        calling = None if end is None else end.calling
        if "low on memory" in said:
            return Died(self.number, "was ended by Ray, for its node was low on memory", calling)
        if end is None and isinstance(error, ray.exceptions.ActorUnavailableError):
            return Died(self.number, "cannot be reached on its node any more", with_node=True)
        return Died(self.number, f"is gone: {said}" if end is None else end.why, calling)

    def _refused(self, error: Exception) -> Signal:
        """Say that there was no room for what it read or made: that is done again, unless it has been so for long."""
        self._session.dismiss(self._host)
        if self._refusals.last_too_long():
            if not isinstance(error, NoRoom) and (place := self._host.place) is not None:
                error = self._session.disk(place.node).refused("its output", self._label)
            return Failed(self.number, None, error)
        time.sleep(AGAIN_S)
        return Died(self.number, "had no room in the object store of its node", refused=True)

    def _unbuilt(self, what: str, hint: str) -> Signal:
        return Failed(self.number, None, ConfigError(what, self._label, hint))
