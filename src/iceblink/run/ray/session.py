"""An engine's share of a cluster: hosts that wait for work, who watches them, messages on their way."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from iceblink.config import Settings
from iceblink.errors import ConfigError, PlanError
from iceblink.run.pipeline.backend import Order, Slots
from iceblink.run.pipeline.resources import resident
from iceblink.run.ray.capacity import Capacity
from iceblink.run.ray.host import Host, Message
from iceblink.run.ray.joining import Membership
from iceblink.run.ray.objects import RayRows
from iceblink.run.ray.room import SpillDisk
from iceblink.run.ray.steward import End, Place, Seen, Steward

_FEW_BYTES = 1024 << 20  # a host that is larger after its work is not used again
_A_BYTE = 1  # of an actor that reserves nothing at all, Ray does not heed where it should be
_REST_S = 60.0
_MOMENT_S = 0.1
_LEAVE_S = 5.0
_END_S = 2.0  # a steward may take so long to say how a host died


class RayHost:
    """An actor, seen from here.

    Parameters
    ----------
    number : int
    actor : ray.actor.ActorHandle
    gpus : float
        How many it reserves.
    aim : str
        The node where it should come up; empty for any.
    reserves : bool
        Whether it holds something that others may want.
    """

    def __init__(self, number: int, actor: Any, gpus: float, aim: str, reserves: bool) -> None:
        self.number, self.actor, self.gpus, self.aim, self.reserves = number, actor, gpus, aim, reserves
        self.place: Place | None = None
        self.resident_bytes = 0
        self.rests_since = 0.0
        self._end: End | None = None
        self._ended = threading.Event()

    def kill(self) -> None:
        """End it at once."""
        if ray.is_initialized():  # else they are gone; and asked for anything, Ray would start anew
            ray.kill(self.actor)

    def saw(self, end: End) -> None:
        """Keep how it ended."""
        self._end = end
        self._ended.set()
        self.kill()  # what it has started may hold its connections open

    def end(self) -> End | None:
        """Return how it ended, which its steward is about to say; None if that is gone too."""
        self.wait(_END_S)
        return self._end

    def wait(self, timeout_s: float) -> None:
        """Wait until its process is gone, if it ever came up: Ray says that of an actor which it only means to end."""
        if self.place is not None:
            self._ended.wait(timeout_s)

    def lost(self) -> None:
        """Know that nobody will say how it ended."""
        self._ended.set()


class Session:
    """Joins or starts Ray; any thread may call.

    Parameters
    ----------
    settings : Settings
        Threads, memory and spill folder of a Ray that is started here.
    address : str, optional
        The cluster to join.
    runtime_env : mapping, optional
        What hosts run in, as Ray takes it.
    memory_bytes : int or None
        The budget on a cluster that is joined [bytes]; None takes what its nodes offer.

    Raises
    ------
    ConfigError
        Ray cannot be joined or started.
    """

    def __init__(
        self,
        settings: Settings,
        address: str | None = None,
        runtime_env: Mapping[str, Any] | None = None,
        memory_bytes: int | None = None,
    ) -> None:
        self._membership = Membership(settings, address)
        self.capacity = Capacity(settings.memory_bytes if self._membership.started_here else memory_bytes)
        self.runtime_env = dict(runtime_env or {})
        self._numbers = itertools.count(1)
        self._hosts: dict[int, RayHost] = {}
        self._dying: dict[int, RayHost] = {}  # dismissed, and may still be doing something
        self._idle: list[RayHost] = []
        self._stewards: dict[str, Any] = {}
        self._home = ray.get_runtime_context().get_node_id()
        self._lock = threading.RLock()
        self._rested = threading.Condition(self._lock)
        self._leaving: dict[int, float] = {}  # by number, until when they are waited for
        self._post: SimpleQueue[tuple[RayHost, int, Message] | None] = SimpleQueue()
        self._hearing: set[threading.Thread] = set()
        self._asking, self._closed = 0, False
        self.hear(threading.Thread(target=self._deliver, name="iceblink to ray", daemon=True))

    def host(self, order: Order) -> RayHost:
        """Return a host that waits for work, or a new one that will come up somewhere."""
        reserves = bool(order.gpus or order.memory_bytes or order.resources or order.labels)
        with self._lock:
            while not reserves and self._some_rest():
                if (rested := self._idle.pop()).number in self._hosts:  # else it has died meanwhile
                    return rested
            aim = "" if reserves else self._roomiest()
            where = {"scheduling_strategy": NodeAffinitySchedulingStrategy(aim, soft=True)} if aim else {}
            actor = self._hosts_for(order, **where).remote()
            host = RayHost(next(self._numbers), actor, order.gpus, aim, reserves)
            self._hosts[host.number] = host
            return host

    def check(self, order: Order) -> None:
        """See that some node has what a worker needs, or could come to have it.

        Raises
        ------
        ConfigError
            The job would wait for ever; or Ray does not understand what is needed.
        """
        self.capacity.check(order)
        self._hosts_for(order)

    def _hosts_for(self, order: Order, **options: Any) -> Any:
        """Return what makes hosts that reserve what a worker needs."""
        try:
            return ray.remote(concurrency_groups={"inbox": 1})(Host).options(
                num_cpus=0,
                num_gpus=order.gpus,
                memory=order.memory_bytes or _A_BYTE,
                resources=dict(order.resources),
                label_selector=dict(order.labels),
                runtime_env=self.runtime_env,
                **options,
            )
        except ValueError as error:
            raise ConfigError(str(error), order.label, "labels and resources as Ray takes them") from error

    def hear(self, thread: threading.Thread) -> None:
        """Start a thread that speaks with Ray: it has to end before Ray is left, or Ray would start anew for it."""
        with self._lock:
            self._hearing = {one for one in self._hearing if one.is_alive()}
            self._hearing.add(thread)
            thread.start()

    @contextmanager
    def asking(self, label: str) -> Iterator[None]:
        """Wait for Ray a moment, which `close` waits for: who waits for a Ray that is left ends by its SystemExit.

        Raises
        ------
        PlanError
            This was closed.
        """
        with self._lock:
            if self._closed:
                raise PlanError("the engine was closed meanwhile", label, "close it when its work is done")
            self._asking += 1
        try:
            yield
        finally:
            with self._lock:
                self._asking -= 1
                self._rested.notify_all()

    def rest(self, host: RayHost) -> None:
        """Keep a host whose worker has ended for the next one, unless it is large or there is one for each CPU."""
        with self._lock:
            self._leaving.pop(host.number, None)
            useful = not host.reserves and host.resident_bytes < _FEW_BYTES
            if host.number in self._hosts and useful and not self._too_many():
                host.rests_since = time.monotonic()
                self._idle.append(host)
                self._rested.notify_all()
                return
        self.dismiss(host)

    def _too_many(self) -> bool:
        """Whether there are more hosts than CPUs, not counting those that reserve something."""
        cpus = sum(node.resources.get("CPU", 0.0) for node in self.capacity.nodes())
        return sum(not host.reserves for host in self._hosts.values()) > max(1.0, cpus)

    def leaves(self, host: RayHost) -> None:
        """Expect a host to rest in a moment: its worker has nothing more to do."""
        with self._lock:
            self._leaving[host.number] = time.monotonic() + _MOMENT_S

    def _some_rest(self) -> bool:
        """Whether a host waits for work, or comes to do so in the next moment: a new one costs a second of CPU."""
        while not self._idle:
            left = max(self._leaving.values(), default=0.0) - time.monotonic()
            if left <= 0:
                return False
            self._rested.wait(left)
        return True

    def dismiss(self, host: RayHost) -> None:
        """End a host."""
        with self._lock:
            if self._hosts.pop(host.number, None) is not None and host.place is not None:
                self._dying[host.number] = host
            self._leaving.pop(host.number, None)
            self._rested.notify_all()
        host.kill()

    def send(self, host: RayHost, worker: int, message: Message) -> None:
        """Send a message; in order, and together with others that wait."""
        self._post.put((host, worker, message))

    def watch(self, host: RayHost, place: Place, timeout_s: float | None) -> None:
        """Have a host watched by the steward of its node."""
        host.place = place
        steward = self._steward(place.node)
        if isinstance(steward, Steward):
            there = steward.watch(host.number, place, timeout_s)
        else:
            there = ray.get(steward.watch.remote(host.number, place, timeout_s))
        if not there or host.number not in self._hosts:
            host.lost()

    def disk(self, node: str) -> SpillDisk:
        """Ask the steward of a node about the disk that is spilled to there."""
        steward = self._steward(node)
        seen: SpillDisk
        try:
            seen = steward.disk() if isinstance(steward, Steward) else ray.get(steward.disk.remote(), timeout=_LEAVE_S)
        except ray.exceptions.RayError:  # it has gone meanwhile
            seen = SpillDisk(node, None, None)
        return seen

    def memory_bytes(self) -> int:
        """Return what is resident in all hosts, here, and in the object stores for us [bytes]."""
        with self._lock:
            hosts = list(self._hosts.values())
        return resident().own + RayRows.held_bytes + sum(host.resident_bytes for host in hosts)

    def close(self) -> None:
        """End all hosts and their stewards, and leave Ray."""
        try:
            with self._lock:
                self._closed = True
                self._rested.wait_for(lambda: not self._asking, _LEAVE_S)
        finally:  # whoever does not want to wait wants them ended all the same
            self._end()

    def _end(self) -> None:
        with self._lock:
            hosts, stewards = list(self._hosts.values()), list(self._stewards.values())
            self._hosts.clear()
            self._dying.clear()
            self._idle.clear()
            self._stewards.clear()
        for host in hosts:
            host.kill()
        for steward in stewards:
            if isinstance(steward, Steward):
                steward.close()
            else:
                ray.kill(steward)
        self._post.put(None)
        for thread in self._hearing - {threading.current_thread()}:
            thread.join(_LEAVE_S)
        self.capacity.close()
        self._membership.leave()

    def slots(self) -> Slots:
        """Return what the cluster has for us."""
        with self._lock:
            held = sum(host.gpus for host in self._hosts.values() if host.place is not None)
        return self.capacity.slots(held)

    def _dismiss_rested(self) -> None:
        """End hosts that have long had nothing to do: an autoscaler keeps their nodes for them."""
        limit = time.monotonic() - _REST_S
        with self._lock:
            old = [host for host in self._idle if host.rests_since < limit]
            self._idle = [host for host in self._idle if host.rests_since >= limit]
        for host in old:
            self.dismiss(host)

    def _roomiest(self) -> str:
        """Return the node with the most CPUs for each host; nothing where there is no choice."""
        nodes = self.capacity.nodes()
        if len(nodes) < 2:
            return ""
        hosts = Counter(host.aim for host in self._hosts.values())
        return max(nodes, key=lambda node: node.resources.get("CPU", 0.0) / (1 + hosts[node.id])).id

    def _steward(self, node: str) -> Any:
        """Return the steward of a node; the one of our own is a thread here."""
        with self._lock:
            if node not in self._stewards:
                seen: Iterator[Seen]
                if node == self._home:
                    steward = self._stewards[node] = Steward()
                    seen = steward.rounds()
                else:
                    where = NodeAffinitySchedulingStrategy(node, soft=False)
                    options = {"num_cpus": 0, "scheduling_strategy": where, "runtime_env": self.runtime_env}
                    actor = ray.remote(concurrency_groups={"rounds": 1})(Steward).options(**options).remote()
                    self._stewards[node] = actor
                    rounds = actor.rounds.options(num_returns="streaming", concurrency_group="rounds").remote()
                    seen = map(ray.get, rounds)
                self.hear(threading.Thread(target=self._see, args=(node, seen), name="iceblink steward", daemon=True))
            return self._stewards[node]

    def _see(self, node: str, rounds: Iterator[Seen]) -> None:
        with suppress(ray.exceptions.RayError):  # the node is gone, and so are its hosts, as each of them says
            for seen in rounds:
                self._dismiss_rested()
                for number, nbytes in seen.resident.items():
                    if (host := self._hosts.get(number)) is not None:
                        host.resident_bytes = nbytes
                for end in seen.ends:
                    if (host := self._hosts.pop(end.host, None) or self._dying.pop(end.host, None)) is not None:
                        host.saw(end)
        with self._lock:
            self._stewards.pop(node, None)
            lost = [host for host in self._dying.values() if host.place is not None and host.place.node == node]
            for host in lost:
                self._dying.pop(host.number, None)
                host.lost()

    def _deliver(self) -> None:
        """Send messages, all that wait for one host in one call: a call costs a quarter of a millisecond."""
        while (first := self._post.get()) is not None:
            waiting = [first]
            with suppress(Empty):
                while (item := self._post.get_nowait()) is not None:
                    waiting.append(item)
                self._post.put(None)
            letters: dict[tuple[int, int], tuple[RayHost, list[Message]]] = {}
            for host, worker, message in waiting:
                letters.setdefault((host.number, worker), (host, []))[1].append(message)
            for (_, worker), (host, messages) in letters.items():
                hear = host.actor.hear.options(concurrency_group="inbox", num_returns=0)
                with suppress(ray.exceptions.RayError):  # it has just died, which its stream tells
                    hear.remote(worker, messages)
            del first, waiting, letters, host, messages, message  # they hold rows
