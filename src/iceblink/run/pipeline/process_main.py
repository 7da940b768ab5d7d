"""What a worker process runs: ``python -m iceblink.run.pipeline.process_main DESCRIPTOR``.

It imports no more than it must, so that it is ready soon, and lives no longer than its parent.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import NoReturn

from iceblink.errors import OutOfMemoryBudget
from iceblink.run.pipeline.backend import Block, Call, Failed, Produced, Signal, Work
from iceblink.run.pipeline.channel import Channel
from iceblink.run.pipeline.function_pickle import carried, rebuilt
from iceblink.run.pipeline.gpu_faults import GpuLost
from iceblink.run.pipeline.held_rows import block_of
from iceblink.run.pipeline.messages import GPU_LOST, OUT_OF_MEMORY, UNHEARD, Allow, Given, Raised, Slate, Start
from iceblink.run.pipeline.shared_rows import SharedRows
from iceblink.run.pipeline.worker_loop import WorkerLoop
from iceblink.scan.batch import Batch


def main(descriptor: int) -> None:
    """Be the worker that the first message asks for, until the parent says stop or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    _die_with_parent()
    if sys.stderr is not None:
        faulthandler.enable()  # a crash in native code says where it was
    channel = Channel(socket.socket(fileno=descriptor), "")
    start, [slate] = channel.receive()
    _take_over(start)
    process = _Process(start, channel)
    loop = WorkerLoop(start.worker, start.label, process.tell, process.keep, Slate(slate).note)
    os.close(slate)
    threading.Thread(target=_listen, args=(channel, loop), name="iceblink parent", daemon=True).start()
    loop.run(process.build)
    channel.finish()


class _Process:
    """How the loop's outputs and signals leave this process."""

    def __init__(self, start: Start, channel: Channel) -> None:
        self._start, self._channel = start, channel

    def build(self) -> Work:
        """Build what the user gave."""
        build = rebuilt(self._start.build, self._start.label)
        work: Work = build()
        return work

    def keep(self, batch: Batch) -> Block:
        """Write an output where the parent can map it."""
        try:
            return block_of(batch, SharedRows.write(batch.data, self._start.spill_dir))
        except OSError as error:
            raise OutOfMemoryBudget(f"there is no room for an output: {error}", self._start.label) from error

    def tell(self, signal: Signal) -> None:
        """Send a signal; an output's rows go as a descriptor, an error with its traceback as notes."""
        match signal:
            case Produced(block=block):
                self._send(replace(signal, block=replace(block, ref=None)), [block.ref.descriptor])
                block.ref.close()
            case Failed(error=MemoryError() | GpuLost() as error):
                with suppress(MemoryError):
                    traceback.print_exception(error)
                os._exit(OUT_OF_MEMORY if isinstance(error, MemoryError) else GPU_LOST)
            case Failed(task=task, error=error):
                self._send(Raised(task, carried(error, self._start.label)))
            case _:
                self._send(signal)

    def _send(self, message: object, descriptors: Sequence[int] = ()) -> None:
        try:
            self._channel.send(message, descriptors)
        except OSError:
            os._exit(UNHEARD)


def _die_with_parent() -> None:
    """Ask the system for a kill when the parent is gone, which also ends a function that never lets a thread run."""
    if sys.platform == "linux":
        parent_death_signal = 1
        ctypes.CDLL(None).prctl(parent_death_signal, signal.SIGKILL)


def _take_over(start: Start) -> None:
    """Find modules where the parent finds them."""
    sys.path[:] = start.path
    os.environ.pop("PYTHONPATH", None)
    if start.python_path is not None:
        os.environ["PYTHONPATH"] = start.python_path


def _listen(channel: Channel, loop: WorkerLoop) -> NoReturn:
    """Pass messages to the loop; the end of the messages is the end of the process, whatever it is doing."""
    try:
        while True:
            message, descriptors = channel.receive()
            match message:
                case Given(task=task, credit=credit):
                    loop.submit(task, partial(_call, message, descriptors), credit)
                case Allow(task=task):
                    loop.allow(task)
                case _:
                    loop.stop()
    except (EOFError, OSError):
        os._exit(UNHEARD)


def _call(given: Given, descriptors: Sequence[int]) -> Call:
    """Map a task's rows."""
    mapped = []
    for descriptor in descriptors:
        shared = SharedRows(descriptor)
        mapped.append(shared.map())
        shared.close()
    parts = [
        Batch(mapped[part.descriptor].slice(part.start, part.rows), part.path, part.first_row, part.exact)
        for part in given.parts
    ]
    return Call(parts, given.batch_rows, given.schema, given.skip)


if __name__ == "__main__":
    main(int(sys.argv[1]))
