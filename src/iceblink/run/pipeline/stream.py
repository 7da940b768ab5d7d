"""Functions over a source, run: operators made, scheduled on this machine, refused rows put where they belong."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from typing import Any, cast

import pyarrow as pa

from iceblink.plan.nodes import MapBatches
from iceblink.run.pipeline.backend import Backend, Kind, Output
from iceblink.run.pipeline.chain import Outputs, fused, mapped, source
from iceblink.run.pipeline.rejected import rejected_schema
from iceblink.run.pipeline.scheduler import Scheduler
from iceblink.run.pipeline.stats import Recorder
from iceblink.run.quarantine import Quarantine, Refusals
from iceblink.scan.batch import Batch

Batches = Generator[Batch, None, None]
Items = Generator[tuple[int, Kind, Batch], None, None]


def stream(
    nodes: Sequence[MapBatches],
    label: str,
    open: Callable[[], Batches],
    backend: Callable[[], Backend],
    record: Callable[[Recorder], None],
) -> Batches:
    """Yield what the last of `nodes` makes of the batches of `open`, in order unless it was told otherwise.

    Lazy: workers start at the first batch asked for, and all end when the generator is closed. Refused rows are
    committed at the end.

    Parameters
    ----------
    nodes : sequence of MapBatches
        Each reads the one before, the first what `open` gives.
    label : str
        The source's name.
    open : callable
        Called in a thread of its own.
    backend : callable
        Opens a backend for the run.
    record : callable
        Given the recorder before the run begins.
    """
    refused = Refused(nodes)
    try:
        with closing(items(nodes, label, lambda: _rows(open), backend(), record)) as found:
            for place, kind, batch in found:
                if kind == "rejected":
                    refused.take(place, batch)
                else:
                    yield batch
                del batch
        refused.commit()
    finally:
        refused.abort()


def items(
    nodes: Sequence[MapBatches],
    label: str,
    open: Callable[[], Outputs],
    backend: Backend,
    record: Callable[[Recorder], None],
    processes: bool = False,
) -> Items:
    """Yield (place in `nodes`, kind, batch): rows and marks of the last, rejected rows of any; see `stream`.

    The backend is closed at the end. Where `processes` is set, all functions run in processes of their own.
    """
    groups = fused([node.function for node in nodes])
    last_of_group = [sum(map(len, groups[: place + 1])) - 1 for place in range(len(groups))]
    held = [nodes[place].known_schema for place in last_of_group]
    operators = [
        source(label, open),
        *(mapped(group, schema, processes) for group, schema in zip(groups, held, strict=True)),
    ]
    recorder = Recorder([operator.label for operator in operators])
    record(recorder)
    with closing(Scheduler(operators, backend, recorder).run()) as found:
        for place, kind, batch in found:
            yield last_of_group[place - 1], kind, batch
            del batch


def _rows(open: Callable[[], Batches]) -> Outputs:
    with closing(open()) as batches:
        for batch in batches:
            yield Output("rows", batch)


class Refused:
    """Files for the rows that functions refuse, begun when the first row is refused.

    Raises
    ------
    SchemaMismatch
        A table that shall take rows has other columns, or would have to have two kinds: told before anything runs,
        where the columns are known.
    """

    def __init__(
        self, nodes: Sequence[MapBatches], begun: Callable[[int, str], None] | None = None, job: str = ""
    ) -> None:
        self._nodes, self._begun, self._job = nodes, begun, job
        self._open: dict[tuple[int, int], Refusals] = {}  # by place, and unit of the source
        schemas: dict[Quarantine, list[pa.Schema]] = {}
        for node in nodes:
            below = node.source
            given = below.known_schema if isinstance(below, MapBatches) else below.schema
            if node.reject is not None and given is not None:
                schemas.setdefault(node.reject, []).append(rejected_schema(given))
        for target, expected in schemas.items():
            target.check(expected)

    def take(self, place: int, batch: Batch) -> None:
        """Keep rows that the function at `place` refused; `begun` is told before the first of a file."""
        key = place, batch.first_row
        if key not in self._open:
            self._open[key] = self._quarantine(place).open(batch.data.schema, self._job)
            if self._begun is not None:
                self._begun(place, self._open[key].token)
        self._open[key].write(batch.data)

    def finish(self, unit: int = 0) -> dict[int, list[Any]]:
        """Close the files of one unit of the source and return them by the place of the function."""
        finished = {}
        for key in [key for key in self._open if key[1] == unit]:
            finished[key[0]] = list(self._open[key].finish())
            del self._open[key]
        return finished

    def commit(self) -> None:
        """Let the refused rows be seen: the run has ended well."""
        for place, files in self.finish().items():
            self._quarantine(place).commit(files)

    def abort(self) -> None:
        """Remove what is not finished."""
        for refusals in self._open.values():
            refusals.abort()
        self._open.clear()

    def _quarantine(self, place: int) -> Quarantine:
        found = self._nodes[place].reject
        assert found is not None, "only a function with a quarantine refuses rows"
        return cast(Quarantine, found)
