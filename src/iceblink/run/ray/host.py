"""The actor: a process that is one worker after another, and tells what happens as a stream of objects."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from queue import Queue
from typing import Any, TypeAlias

import pyarrow as pa
import ray

from iceblink.run.pipeline.backend import Block, Call, Calling, Failed, Produced, Signal, Work
from iceblink.run.pipeline.function_pickle import carried, rebuilt
from iceblink.run.pipeline.gpu_faults import GpuLost
from iceblink.run.pipeline.held_rows import block_of
from iceblink.run.pipeline.messages import GPU_LOST, OUT_OF_MEMORY, Allow, Raised, Stop
from iceblink.run.pipeline.worker_loop import WorkerLoop
from iceblink.run.ray.last_words import LastWords
from iceblink.run.ray.objects import FEW_BYTES, Part, Parts, encoded
from iceblink.run.ray.steward import Place
from iceblink.scan.batch import Batch


@dataclass(frozen=True, slots=True)
class Given:
    """A task."""

    task: int
    parts: tuple[Part, ...]
    batch_rows: int | None
    schema: pa.Schema | None
    skip: int
    credit: int


Message: TypeAlias = Given | Allow | Stop


@dataclass(frozen=True, slots=True)
class Start:
    """What to be.

    Parameters
    ----------
    worker : int
    label : str
    build : tuple of ray.ObjectRef
        One: the pickled `build`, which Ray would fetch by itself were it not inside of something.
    path : list of str
        The driver's ``sys.path``.
    """

    worker: int
    label: str
    build: tuple[Any]
    path: list[str]


class Host:
    """Lives longer than its workers: to start an actor takes a second, to build a worker in it milliseconds.

    A stream has the signals of one worker, and after a `Produced` without rows an object of nothing but these. It goes
    on when the driver has taken an item, and no function is called before: what was said before a death was heard.
    """

    def __init__(self) -> None:
        self._descriptor = LastWords.new()
        self._words = LastWords(self._descriptor)
        self._words.keep(self._descriptor)
        self._life: _Life | None = None
        self._begun = threading.Condition()

    def live(self, start: Start) -> Iterator[Any]:
        """Be a worker until it is stopped; the first item says where."""
        yield Place(ray.get_runtime_context().get_node_id(), os.getpid(), self._descriptor)
        sys.path += [folder for folder in start.path if folder not in sys.path]
        life = _Life(start, self._words)
        with self._begun:
            self._life = life
            self._begun.notify_all()
        yield from life.items()

    def hear(self, worker: int, messages: Sequence[Message]) -> None:
        """Take messages for a worker, which may be about to begin, or done."""
        with self._begun:
            self._begun.wait_for(lambda: self._life is not None and self._life.worker >= worker)
            life = self._life
        assert life is not None
        if life.worker == worker:
            for message in messages:
                life.hear(message)


class _Life:
    """One worker."""

    def __init__(self, start: Start, words: LastWords) -> None:
        self.worker = start.worker
        self._start = start
        self._slate = words.slate
        self._loop = WorkerLoop(start.worker, start.label, self._tell, self._keep, self._note)
        self._last: Given | None = None
        self._said: Queue[Signal | Raised | None] = Queue()

    def items(self) -> Iterator[Any]:
        """Run the loop in a thread and yield what it says."""
        threading.Thread(target=self._run, name=f"{self._start.label} {self.worker}", daemon=True).start()
        while (said := self._said.get()) is not None:
            if isinstance(said, Produced):
                yield from self._produced(said)
            else:
                yield said
            del said
            self._said.task_done()

    def hear(self, message: Message) -> None:
        """Pass a message to the loop."""
        match message:
            case Given(task=task, credit=credit):
                self._loop.submit(task, partial(self._call, message), credit)
                # Ray forgets an object whose last reference here goes, and may do so just when the next task brings
                # another one to it: who asks for that would wait for ever. So what a task reads is held until then.
                self._last = message
            case Allow(task=task):
                self._loop.allow(task)
            case Stop():
                self._last = None
                self._loop.stop()

    def _run(self) -> None:
        self._loop.run(self._build)
        self._said.put(None)

    def _build(self) -> Work:
        work: Work = rebuilt(ray.get(self._start.build[0]), self._start.label)()
        return work

    def _call(self, given: Given) -> Call:
        return Call(Parts(given.parts, self._start.label), given.batch_rows, given.schema, given.skip)

    def _keep(self, batch: Batch) -> Block:
        return block_of(batch, encoded(batch.data))

    def _produced(self, signal: Produced) -> Iterator[Any]:
        data = signal.block.ref
        few = data.size <= FEW_BYTES
        yield replace(signal, block=replace(signal.block, ref=data.to_pybytes() if few else None))
        if not few:
            yield data

    def _tell(self, signal: Signal) -> None:
        match signal:
            case Failed(error=MemoryError() | GpuLost() as error):
                with suppress(MemoryError):
                    traceback.print_exception(error)
                os._exit(OUT_OF_MEMORY if isinstance(error, MemoryError) else GPU_LOST)
            case Failed(task=task, error=error):
                self._said.put(Raised(task, carried(error, self._start.label)))
            case _:
                self._said.put(signal)

    def _note(self, calling: Calling | None) -> None:
        """Write down what is called, but not before all that was said is heard: the call may be the last."""
        if calling is not None:
            self._said.join()
        self._slate.note(calling)
