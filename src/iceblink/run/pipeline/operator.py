"""One stage of a pipeline as data: what its workers build, how many there may be, what each needs."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from iceblink.plan.function import OnError
from iceblink.run.pipeline.backend import Order


@dataclass(frozen=True)
class Operator:
    """What a scheduler knows of a stage.

    Parameters
    ----------
    label : str
        Its name, for messages and statistics.
    order : Order
        How a worker is made.
    batch_rows : int or None
        Exactly this many rows a call, but for the last; None takes batches as they come.
    schema : pa.Schema or None
        What it produces; None when the first output will tell.
    fewest, most : int
        Workers kept while there is work, and at the busiest.
    cpus : float
        What a worker at work occupies.
    memory_bytes : int
        What a worker takes for itself [bytes].
    ordered : bool
        Whether its output keeps the order of its input.
    on_error : {"raise", "skip", "quarantine"}
        For rows that killed two workers.
    calls : int
        A task should have so many: they are under way at the same time.
    call_bytes : int or None
        One call takes blocks, uncut, until they have so many bytes or there are no more; None lets calls be cut.
    atomic : bool
        What a task gives counts when all of it is there: begun again it would give its rows in another order.
    exchanged : bool
        Its outputs leave the run as blocks, kept where they are by whoever asked for them.
    """

    label: str
    order: Order
    batch_rows: int | None = None
    schema: pa.Schema | None = None
    fewest: int = 1
    most: int = 1
    cpus: float = 1.0
    memory_bytes: int = 0
    ordered: bool = True
    on_error: OnError = "raise"
    calls: int = 1
    call_bytes: int | None = None
    atomic: bool = False
    exchanged: bool = False
