"""A worker's pyarrow has as many threads as the worker has CPUs, and not as many as its machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pyarrow as pa

from iceblink.run.pipeline.backend import Order, Work


@dataclass(frozen=True)
class OnCpus:
    """Builds work in a process of its own, which may have done other work before; picklable if `build` is.

    Parameters
    ----------
    build : callable
    cpus : float
    """

    build: Callable[[], Work]
    cpus: float

    def __call__(self) -> Work:
        pa.set_cpu_count(max(1, int(self.cpus)))
        return self.build()


def bounded(order: Order, cpus: float) -> Order:
    """Return the order of a worker that decodes on no more CPUs than it was given; threads share this process's."""
    return replace(order, build=OnCpus(order.build, cpus)) if order.processes else order
