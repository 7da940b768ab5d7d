"""Functions over a source, run: operators made, scheduled on this machine, refused rows put where they belong."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing

from iceblink.config import Settings
from iceblink.plan.nodes import MapBatches
from iceblink.run.pipeline.chain import fused, mapped, source
from iceblink.run.pipeline.local_backend import LocalBackend
from iceblink.run.pipeline.resources import local_slots
from iceblink.run.pipeline.scheduler import Scheduler
from iceblink.run.pipeline.stats import Recorder
from iceblink.run.quarantine import Quarantine
from iceblink.scan.batch import Batch

Batches = Generator[Batch, None, None]


def stream(
    nodes: Sequence[MapBatches],
    label: str,
    open: Callable[[], Batches],
    settings: Settings,
    record: Callable[[Recorder], None],
) -> Batches:
    """Yield what the last of `nodes` makes of the batches of `open`, in order unless it was told otherwise.

    Lazy: workers start at the first batch asked for, and all end when the generator is closed.

    Parameters
    ----------
    nodes : sequence of MapBatches
        Each reads the one before, the first what `open` gives.
    label : str
        The source's name.
    open : callable
        Called in a thread of its own.
    settings : Settings
    record : callable
        Given the recorder before the run begins.
    """
    groups = fused([node.function for node in nodes])
    last_of_group = [sum(map(len, groups[: place + 1])) - 1 for place in range(len(groups))]
    held = [nodes[place].known_schema for place in last_of_group]
    operators = [
        source(label, open),
        *(mapped(group, schema) for group, schema in zip(groups, held, strict=True)),
    ]
    recorder = Recorder([operator.label for operator in operators])
    record(recorder)
    backend = LocalBackend(local_slots(settings), settings.spill_dir)
    refused = _Refused([nodes[place] for place in last_of_group])
    try:
        with closing(Scheduler(operators, backend, recorder).run()) as items:
            for place, kind, batch in items:
                if kind == "rejected":
                    refused.take(place - 1, batch)
                else:
                    yield batch
                del batch
        refused.commit()
    finally:
        refused.abort()


class _Refused:
    """The quarantines of a run's operators, opened when the first row is refused."""

    def __init__(self, nodes: Sequence[MapBatches]) -> None:
        self._nodes = nodes
        self._open: dict[int, Quarantine] = {}

    def take(self, place: int, batch: Batch) -> None:
        if place not in self._open:
            reject = self._nodes[place].reject
            assert reject is not None, "only an operator with a quarantine sends rows there"
            self._open[place] = reject(batch.data.schema)
        self._open[place].write(batch.data)

    def commit(self) -> None:
        """Let the refused rows be seen: the run has ended well."""
        while self._open:
            place = next(iter(self._open))
            self._open[place].commit()
            del self._open[place]

    def abort(self) -> None:
        """Remove what is not committed."""
        for quarantine in self._open.values():
            quarantine.abort()
        self._open.clear()
