"""What a cluster has, what is left of it for us, and what it could become."""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.autoscaler.sdk import request_resources

from iceblink.errors import ConfigError
from iceblink.run.pipeline.backend import Order, Slots

_LOOK_S = 1.0  # the cluster is asked at most so often
_GROW = 1.5  # times the CPUs there are, when all of them are at work
_PATIENCE_S = 30.0  # what was asked for is still wanted so long after the last time that all were at work


@dataclass(frozen=True, slots=True)
class Node:
    """A node that lives, its resources as Ray names them, and its labels."""

    id: str
    resources: Mapping[str, float]
    labels: Mapping[str, str]

    def has(self, needs: Mapping[str, float], labels: Mapping[str, str]) -> bool:
        """Whether a worker of these needs could be here, were nobody else."""
        enough = all(self.resources.get(name, 0.0) >= amount for name, amount in needs.items())
        return enough and all(_is_called(self.labels.get(key), wanted) for key, wanted in labels.items())


@dataclass(frozen=True, slots=True)
class _Look:
    at: float
    nodes: tuple[Node, ...]
    gone: frozenset[str]
    free: Mapping[str, float]
    most: Mapping[str, float] | None  # what it may grow to, if it may


class Capacity:
    """Any thread may ask.

    Parameters
    ----------
    memory_bytes : int or None
        The budget; None gives what the nodes say of their memory.
    """

    def __init__(self, memory_bytes: int | None = None) -> None:
        self._memory_bytes = memory_bytes
        self._lock = threading.Lock()
        self._last = _Look(-_LOOK_S, (), frozenset(), {}, None)
        self._wanted, self._wanted_at = 0, 0.0

    def slots(self, gpus_held: float) -> Slots:
        """Return what there is, without what others use; hosts of ours hold `gpus_held` of it."""
        look = self._look()
        total = _sum(look.nodes, "memory") + _sum(look.nodes, "object_store_memory")
        memory = int(total) if self._memory_bytes is None else self._memory_bytes
        gpus = look.free.get("GPU", 0.0) + gpus_held
        if look.most is not None:  # asked for, they come
            gpus = max(gpus, look.most.get("GPU", 0.0))
        return Slots(look.free.get("CPU", 0.0), gpus, memory)

    def nodes(self) -> Sequence[Node]:
        """Return the nodes that live."""
        return self._look().nodes

    @property
    def grows(self) -> bool:
        """Whether more nodes may come when they are asked for."""
        return self._look().most is not None

    def gone(self) -> frozenset[str]:
        """Return the ids of nodes that were there and are lost."""
        return self._look().gone

    def check(self, order: Order) -> None:
        """See that some node has what a worker needs, or could come to have it.

        Raises
        ------
        ConfigError
            The job would wait for ever.
        """
        if order.gpus < 0 or (order.gpus > 1 and order.gpus != int(order.gpus)):
            raise ConfigError(f"gpus is {order.gpus}", order.label, "take a fraction of one device, or whole ones")
        look = self._look()
        most = look.most or {}
        needs = {"GPU": order.gpus, "memory": float(order.memory_bytes), **order.resources}
        for name, amount in needs.items():
            largest = max((node.resources.get(name, 0.0) for node in look.nodes), default=0.0)
            if amount > max(largest, most.get(name, 0.0)):
                have = f"the most that a node has is {largest:g}" if largest else "no node has any"
                raise ConfigError(
                    f"a worker needs {amount:g} of {name}, and {have}",
                    order.label,
                    "join a cluster with more, or ask for less",
                )
        if look.most is not None:  # the labels of nodes that may come are not known
            return
        for key, wanted in order.labels.items():
            if not any(node.has({}, {key: wanted}) for node in look.nodes):
                found = ", ".join(sorted({node.labels[key] for node in look.nodes if key in node.labels}))
                raise ConfigError(
                    f"a worker needs a node whose label {key!r} is {wanted!r}, and there is none",
                    order.label,
                    f"there are {found}" if found else f"no node has a label {key!r}: ray start --labels sets them",
                )
        if not any(node.has(needs, order.labels) for node in look.nodes):
            wants = [*(f"{amount:g} of {name}" for name, amount in needs.items() if amount), *order.labels.values()]
            what = f"a worker needs {' and '.join(wants)}, and no node has them together"
            raise ConfigError(what, order.label, "ask for less, or join a cluster with a node that has all")

    def want(self, busy: float) -> None:
        """Ask a cluster that can grow for more when `busy` CPUs, all that we may have, are at work.

        Our workers reserve no CPU, so its autoscaler would see none of them.
        """
        look = self._look()
        if look.most is None:
            return
        now = time.monotonic()
        if busy >= look.free.get("CPU", 0.0):
            here = _sum(look.nodes, "CPU")
            self._wanted_at = now
            self._ask(int(min(look.most.get("CPU", 0.0), max(self._wanted, math.ceil(here * _GROW)))))
        elif now > self._wanted_at + _PATIENCE_S:
            self._ask(0)

    def close(self) -> None:
        """Want nothing any more."""
        self._ask(0)

    def _ask(self, cpus: int) -> None:
        if cpus != self._wanted and ray.is_initialized():
            self._wanted = cpus
            request_resources(num_cpus=cpus)

    def _look(self) -> _Look:
        with self._lock:
            if time.monotonic() >= self._last.at + _LOOK_S:
                known = ray.nodes()
                alive = (node for node in known if node["Alive"])
                nodes = tuple(Node(node["NodeID"], node["Resources"], node["Labels"]) for node in alive)
                gone = frozenset(node["NodeID"] for node in known if not node["Alive"])
                self._last = _Look(time.monotonic(), nodes, gone, ray.available_resources(), _most())
            return self._last


def _is_called(found: str | None, wanted: str) -> bool:
    """Whether a label is what a selector of Ray asks for: ``a``, ``!a``, ``in(a, b)`` or ``!in(a, b)``."""
    plain = wanted.removeprefix("!")
    several = re.fullmatch(r"in\((.*)\)", plain)
    names = [name.strip() for name in several[1].split(",")] if several else [plain]
    return (found in names) != wanted.startswith("!")


def _most() -> Mapping[str, float] | None:
    """Return the resources that the cluster may grow to; None for one that stays as it is."""
    state: Any = ray._private.state.state  # its autoscaler writes it there, and Ray's own libraries read it from there
    most: Mapping[str, float] | None = state.get_max_resources_from_cluster_config()
    return most


def _sum(nodes: Sequence[Node], resource: str) -> float:
    return sum(node.resources.get(resource, 0.0) for node in nodes)
