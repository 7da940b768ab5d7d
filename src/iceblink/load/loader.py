"""A dataset as batches for a model: the order, the state and the waits of one loader, whatever the batches are."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from iceblink.errors import FunctionError, PlanError
from iceblink.load.apart import Apart
from iceblink.load.batches import Finish
from iceblink.load.cache.disk import Cache
from iceblink.load.columns import Layout, rows_of, shown, sliced, taken
from iceblink.load.course import course
from iceblink.load.mixture import MixedOrder, Mixture
from iceblink.load.order import Order, Rank, Shape
from iceblink.load.ranks import must_be
from iceblink.load.reading import UnitReader, read_unit
from iceblink.load.refused import Refused
from iceblink.load.replace import Origins, failing, instead
from iceblink.load.shape import OPEN_SHARE, spread_of
from iceblink.load.steps import Reading
from iceblink.load.told import Told
from iceblink.load.units import Units
from iceblink.load.waits import LoaderStats, Waits
from iceblink.plan.function import OnError
from iceblink.run.pipeline.stage import DEPTH
from iceblink.run.quarantine import Quarantine
from iceblink.scan.ordered import in_order

FORMAT = 1  # of the state
MADE_BYTES = 4 << 20  # of the steps that are made at once
GROUP_S = 2e-3  # [s]
PADDED = "padded"
"""Name of the column that says which rows of a batch only fill it up."""


@dataclass(frozen=True)
class Setup:
    """All that a loader is made of.

    Parameters
    ----------
    units : Units
    layouts : tuple of Layout
    shape : Shape
    rank : Rank
    threads : int
        That decode.
    memory_bytes : int
        For decoded rows [bytes].
    prefetch_bytes : int
        Of finished batches that wait for the consumer [bytes].
    finish : Finish
        Makes a batch of columns; called ahead of the consumer.
    where : str
        The word that the user wrote.
    cache : Cache or None
        Keeps what was decoded.
    on_error : {"raise", "skip", "quarantine"}
        What becomes of rows that cannot be read, or that `finish` fails on.
    quarantine : Quarantine or None
        Takes them.
    workers : int
        Threads that call `finish`, and as many processes where there are any.
    processes : str or None
        The folder for what processes share, if `transform` is called in some.
    rank_given : bool
        Whether the user said the rank; else it was found, and must be the same when a pass begins.
    mixture : Mixture or None
        What the rows of steps are drawn from, if the units are those of several sources.
    notes : tuple of str
        What else `Loader.explain` says.
    name : str
        What the user would call it.
    """

    units: Units
    layouts: tuple[Layout, ...]
    shape: Shape
    rank: Rank
    threads: int
    memory_bytes: int
    prefetch_bytes: int
    finish: Finish
    where: str
    cache: Cache | None = None
    on_error: OnError = "raise"
    quarantine: Quarantine | None = None
    workers: int = 1
    processes: str | None = None
    rank_given: bool = False
    mixture: Mixture | None = None
    notes: tuple[str, ...] = ()
    name: str = ""


class Loader:
    """Batches of a dataset, epoch after epoch.

    Made by `Dataset.to_torch` and its like. Each pass over it is one epoch, and the next pass the next one. It knows
    where it is: `state_dict` is small, and a loader of the same dataset goes on from there, whatever its number of
    ranks.
    """

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._process = os.getpid()
        self._epoch, self._step = 0, 0
        self._turns = 0  # the step from which workers of a DataLoader take turns
        self._placed = False  # by a state, and no pass has begun since
        self._moved = 0  # times that it was sent elsewhere
        self._pass: Callable[[], _Pass | None] = _no_pass  # weak: the threads of a pass end when a loop lets go of it
        self._workers = 1  # of a DataLoader, who take turns
        self._waits = Waits()
        self._refused = None
        if setup.quarantine is not None:
            read = partial(read_unit, setup.units, cache=setup.cache)
            self._refused = Refused(setup.units, setup.quarantine, self._operator, read)
        self._reader = UnitReader(
            setup.units, setup.layouts, setup.threads, setup.memory_bytes, setup.cache, setup.on_error != "raise",
            self._refused,
        )  # fmt: skip

    def __len__(self) -> int:
        """Batches of an epoch; the same for every rank."""
        return self._order(0).steps

    def __iter__(self) -> Iterator[Any]:
        """Begin the epoch, or go on with the one that a loaded state is in; an earlier pass is over.

        Raises
        ------
        ConfigError
            The process has become one of several ranks since the loader was made.
        """
        if not self._setup.rank_given:
            must_be(self._setup.rank, self._setup.where)
        return self._begin()

    def _begin(self, worker: int = 0, workers: int = 1) -> _Pass:
        """Begin a pass over the steps of one of several workers, who take turns."""
        self.close()
        if not self._placed:
            if self._over:  # and nobody asked what comes behind the last batch
                self._epoch += 1
            self._step = self._turns = 0
        self._placed = False
        self._beginning()
        begun = _Pass(self, worker, workers)
        self._pass, self._workers = weakref.ref(begun), workers
        return begun

    def close(self) -> None:
        """End the pass that is under way, if there is one, as leaving its loop does; the loader can go on to be used.

        Raises
        ------
        WriteError
            Rows could not be put into the quarantine.
        """
        if (passing := self._pass()) is not None:
            passing.close()

    @property
    def epoch(self) -> int:
        """The epoch that is under way, or comes next."""
        return self._epoch

    @property
    def _over(self) -> bool:
        return 0 < self._step == len(self)

    def set_epoch(self, epoch: int) -> None:
        """Go to an epoch: to its beginning, unless it is the one that is under way, or that a state is in."""
        if epoch != self._epoch or (self._over and not self._placed):
            self._go(epoch, 0)

    def state_dict(self) -> dict[str, Any]:
        """Return where the consumer is: a few words and numbers, which JSON can hold, the same on every rank.

        Batches that were prefetched and not handed over do not count.
        """
        setup = self._setup
        return {
            "format": FORMAT,
            "dataset": dict(setup.units.identity),
            "rows": self._order(0).rows,
            **asdict(setup.shape),
            "mixture": None if setup.mixture is None else setup.mixture.state(),
            "epoch": self._epoch,
            "step": self._step,
            **({"turns": self._turns} if self._workers > 1 else {}),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go where a state says; a pass that is under way goes on from there, too.

        The rows of a step are those that they would have been: seed, quality, buckets and such are the state's. The
        number of ranks may be another one, if all together still take as many rows a step.

        Raises
        ------
        PlanError
            The dataset is not the one of the state, or a step has another number of rows; says what differs.
        """
        self._check(state)
        mixture = self._setup.mixture
        mixture = None if mixture is None else mixture.at(state["mixture"])
        self._setup = replace(self._setup, shape=Shape.of(state), mixture=mixture)
        self._go(state["epoch"], state["step"], state.get("turns"))

    def _check(self, state: Mapping[str, Any]) -> None:
        where = f"{self._setup.where}: load_state_dict"
        if state.get("format") != FORMAT:
            raise PlanError(f"no state of a loader: format {state.get('format')!r}", where)
        mine, theirs = self._setup.units.identity, state["dataset"]
        differing = [name for name in {**theirs, **mine} if mine.get(name) != theirs.get(name)]
        if differing:
            name = differing[0]
            raise PlanError(
                f"the state is of another dataset: {', '.join(differing)}",
                f"{where}: {name} was {theirs.get(name, 'absent')}; now {mine.get(name, 'absent')}",
                "open the table as it was: lake.table(name, snapshot=...)",
            )
        rows = self._setup.shape.batch_rows
        if state["batch_rows"] != rows:
            world = self._setup.rank.world
            fits = state["batch_rows"] % world == 0
            raise PlanError(
                f"a step had {state['batch_rows']:,} rows, and {world} ranks of {rows // world:,} make {rows:,}",
                where,
                f"batch_size={state['batch_rows'] // world}" if fits else f"a divisor of {state['batch_rows']:,} ranks",
            )

    def stats(self) -> LoaderStats:
        """Return how long the consumer waited, and what was read."""
        return self._waits.stats(self._reader.counts, self._setup.threads, self._setup.workers)

    def _totals(self) -> LoaderStats:
        return self._waits.totals(self._reader.counts, self._setup.threads, self._setup.workers)

    def explain(self) -> str:
        """Return in words what will be read, in which order, and what that takes."""
        setup, shape = self._setup, self._setup.shape
        units = setup.units
        order = self._order(0)
        count = max(1, len(units.rows))
        tail = f"; {order.tail_rows:,} rows behind the last whole step: {shape.tail}" if order.tail_rows else ""
        lines = [
            f"{order.rows:,} rows in {len(units.rows):,} units, about {units.decoded_bytes // count:,} bytes each",
            f"{order.steps:,} steps of {shape.batch_rows:,} rows, rank {setup.rank.number} of {setup.rank.world}{tail}",
            *self._ordered(),
            *setup.notes,
            f"memory {setup.memory_bytes:,} bytes, {setup.threads} threads decode",
            *(f"  {shown(layout, units.schema.field(layout.name))}" for layout in setup.layouts),
        ]
        return "\n".join(lines)

    def _ordered(self) -> Iterator[str]:
        shape, mixture, units = self._setup.shape, self._setup.mixture, self._setup.units
        if mixture is not None:
            yield f"rows of {len(mixture.sources)} sources by weight, seed {shape.seed}"
            yield from mixture.lines(units.rows, shape.batch_rows // shape.shares)
        else:
            yield (
                f"order {shape.quality}, {shape.lanes} lanes, seed {shape.seed}: the mean of a batch varies at most "
                f"{spread_of(shape, units):.0f} times as much as with rows drawn one by one"
            )
        if shape.bucket is not None:
            yield f"rows of {shape.bucket.steps} steps are sorted by the length of {shape.bucket.column!r}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}\n{self.explain()}"

    def __getstate__(self) -> dict[str, Any]:
        return {"setup": self._setup, "at": (self._epoch, self._step, self._turns, self._placed)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        Loader.__init__(self, state["setup"])
        self._epoch, self._step, self._turns, self._placed = state["at"]

    def _operator(self, unit: int) -> str:
        """Say who reads a unit: which source of a mixture."""
        setup = self._setup
        sources = () if setup.mixture is None else setup.mixture.sources
        names = (source.name for source in sources if source.first_unit <= unit < source.last_unit)
        return ", ".join([setup.where, *names])

    def _order(self, epoch: int) -> Order | MixedOrder:
        setup = self._setup
        if setup.mixture is None:
            return Order(setup.units.rows, setup.shape, epoch)
        return MixedOrder(setup.units.rows, setup.shape, setup.mixture, epoch)

    def _go(self, epoch: int, step: int, turns: int | None = None) -> None:
        self._epoch, self._step, self._placed = epoch, step, True
        self._turns = step if turns is None else turns
        self._moved += 1

    def _passing(self, worker: int, workers: int, told: Told) -> Generator[_Made, None, None]:
        """Yield the batches of the epoch; however it ends, what it found is kept and told."""
        with ExitStack() as over:
            over.callback(told.end)
            if self._refused is not None:
                over.enter_context(self._refused.during(self._epoch))
            order = self._order(self._epoch)
            origins = Origins(order, self._setup.rank, self._setup.units.rows, self._reader)
            over.callback(origins.close)
            yield from over.enter_context(closing(self._batches(worker, workers, order, origins)))

    def _batches(
        self, worker: int, workers: int, order: Order | MixedOrder, origins: Origins
    ) -> Generator[_Made, None, None]:
        """Yield the other batches of the epoch, made ahead in threads of their own."""
        setup = self._setup
        turn = (self._turns + worker) % workers
        steps = partial(self._steps, order, self._step, turn, workers)
        finish = partial(self._finished, origins, setup.finish)
        if setup.workers == 1 and setup.processes is None:
            made = in_order([lambda: _in_groups(steps(), finish)], 1, _bytes_of_all, setup.prefetch_bytes)
            with closing(made) as groups:
                for group in groups:
                    yield from group
            return
        with closing(in_order([steps], 1, _bytes, setup.prefetch_bytes)) as ahead:
            if setup.processes is None:
                tasks = (partial(map, finish, [one]) for one in ahead)
                yield from in_order(tasks, setup.workers, _bytes, setup.prefetch_bytes)
                return
            with closing(Apart(setup.finish, setup.workers, setup.processes)) as apart:
                calls = (partial(self._made_apart, origins, apart, some) for some in apart.groups(ahead, _bytes))
                yield from in_order(calls, apart.at_once, _bytes, setup.prefetch_bytes, apart.close)

    def _beginning(self) -> None:
        """Prepare a pass, in the thread of the consumer."""

    def _handed(self, batch: Any) -> Any:
        """Return a batch as the consumer gets it, in whose thread this is."""
        return batch

    def _steps(self, order: Order | MixedOrder, first: int, turn: int, workers: int) -> Generator[_Made, None, None]:
        """Yield the columns of steps."""
        setup = self._setup
        row_bytes = max(1, setup.units.decoded_bytes // max(1, order.rows))
        size = row_bytes * setup.shape.batch_rows // setup.rank.world
        ahead = int(setup.memory_bytes * (1 - OPEN_SHARE)) // 2  # as much again is in the hands of the threads
        reading = Reading(self._reader, setup.threads, ahead, max(1, MADE_BYTES // size))
        self._reader.hold(order.at_hand)
        with closing(course(order, setup.rank, first, reading)) as made:
            for step, columns in enumerate(made, first):
                if step % workers == turn:
                    padding = {PADDED: self._padding(order, step)} if setup.shape.tail == "pad" else {}
                    rows = rows_of(columns)
                    yield _Made(
                        step, columns | padding, rows, rows * row_bytes
                    )  # to ask Arrow takes as long as decoding

    def _made_apart(self, origins: Origins, apart: Apart, group: Sequence[_Made]) -> Iterator[_Made]:
        """Yield steps whose columns have become batches by way of a process."""
        begun = time.perf_counter()
        finishes = apart.finishes([(made.batch, made.step) for made in group])
        self._reader.finished((time.perf_counter() - begun) / DEPTH)  # half of it was waiting for its turn
        for made, finish in zip(group, finishes, strict=True):
            yield self._finished(origins, finish, made, apart.alone)

    def _finished(self, origins: Origins, finish: Finish, made: _Made, parts: Finish | None = None) -> _Made:
        """Return a step whose columns have become a batch; `parts` finishes parts of it, if not all can be had."""
        begun = time.perf_counter()
        setup, step, columns = self._setup, made.step, made.batch
        try:
            return replace(made, batch=finish(columns, step))
        except FunctionError:
            if setup.on_error == "raise":
                raise
        finally:
            self._reader.finished(time.perf_counter() - begun)
        finish = parts or finish
        bad = failing(made.rows, lambda begin, end: finish(sliced(columns, begin, end), step))
        batch = finish(taken(columns, instead(made.rows, bad)), step)
        units, places = origins.of(step)
        for row, error in bad.items():
            self._reader.replaced(*self._reader.behind(int(units[row]), int(places[row])), error, step)
        return replace(made, batch=batch)

    def _padding(self, order: Order | MixedOrder, step: int) -> np.ndarray[Any, Any]:
        rows, repeated = order.rows_of(step), order.repeated(step)
        begin, end = self._setup.rank.share(rows)
        return np.arange(begin, end) >= rows - repeated


@dataclass(frozen=True)
class _Made:
    """A step ahead of its consumer: its columns, then its batch."""

    step: int
    batch: Any
    rows: int
    nbytes: int


def _bytes(made: _Made) -> int:
    return made.nbytes


def _bytes_of_all(group: list[_Made]) -> int:
    return sum(map(_bytes, group))


def _in_groups(steps: Generator[_Made, None, None], finish: Callable[[_Made], _Made]) -> Iterator[list[_Made]]:
    """Yield steps that were made within a moment together: for each of them alone, two threads would change places."""
    group: list[_Made] = []
    begun = time.perf_counter()
    with closing(steps):  # by this thread, not by whichever collects the garbage of an error: it may be one of theirs
        try:
            for step in steps:
                group.append(finish(step))
                if time.perf_counter() - begun >= GROUP_S:
                    yield group
                    group, begun = [], time.perf_counter()
        except Exception:
            yield group  # what came before the error
            raise
    yield group


def _no_pass() -> None:
    return None


class _Pass:
    """One epoch, from where its loader is on; it follows when the loader is sent elsewhere."""

    _told: Told  # of what is under way

    def __init__(self, loader: Loader, worker: int, workers: int) -> None:
        self._loader, self._worker, self._workers = loader, worker, workers
        self._batches: Generator[_Made, None, None] | None = None
        self._moved: int | None = None
        self._ended = False

    def __iter__(self) -> _Pass:
        return self

    def __next__(self) -> Any:
        loader = self._loader
        if loader._pass() is not self:
            raise PlanError("another pass over this loader has begun", loader._setup.where, "make a loader for each")
        asked = time.perf_counter()
        if self._moved != loader._moved:
            self.close()
            told = Told(loader._setup.name, loader._epoch, loader._step, len(loader), loader._totals, asked)
            self._batches, self._told = loader._passing(self._worker, self._workers, told), told
            self._moved, self._ended = loader._moved, False
            loader._placed = False
            loader._waits.begun()
        if self._ended or self._batches is None:
            raise StopIteration
        found = next(self._batches, None)
        if found is None:
            self._ended = True
            loader._epoch, loader._step = loader._epoch + 1, 0
            raise StopIteration
        loader._step = found.step + 1
        self._told.step(loader._step, loader._waits.waited(asked, found.rows))
        return loader._handed(found.batch)

    def close(self) -> None:
        """End the threads that make batches."""
        self._ended = True
        if self._batches is not None:
            self._batches.close()
