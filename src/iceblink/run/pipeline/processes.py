"""A worker that is a process of its own, seen from the parent: started, fed, listened to, reaped."""

from __future__ import annotations

import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from iceblink.errors import ConfigError, OutOfMemoryBudget
from iceblink.run.pipeline.backend import Calling, Died, Failed, Finished, Order, Produced, Signal, Task
from iceblink.run.pipeline.channel import Channel
from iceblink.run.pipeline.endings import ending
from iceblink.run.pipeline.held_rows import HeldRows
from iceblink.run.pipeline.messages import Allow, Given, Part, Raised, Slate, Start, Stop
from iceblink.run.pipeline.resources import resident
from iceblink.run.pipeline.shared_rows import SharedRows

_LOOK_MS = 500
_LEAVE_S = 5.0  # for what a process does at its end: finalizers, exit functions


class ProcessWorker:
    """A child process, spawned and never forked, with two threads here: one to feed it and one to hear it.

    Parameters
    ----------
    worker : int
    order : Order
    build : bytes
        Its `build`, pickled.
    devices : tuple of str
        GPUs that it may see; none leaves it what this process sees.
    spill_dir : str
    tell : callable
        Takes each signal, and None at an end that was asked for.
    """

    def __init__(
        self,
        worker: int,
        order: Order,
        build: bytes,
        devices: tuple[str, ...],
        spill_dir: str,
        tell: Callable[[Signal | None], None],
    ) -> None:
        self.timeout_s = order.timeout_s
        self._worker, self._label, self._build, self._devices = worker, order.label, build, devices
        self._folder, self._tell = spill_dir, tell
        self._process: subprocess.Popen[bytes] | None = None
        self._starting = threading.Lock()
        self._ended = False  # at once
        self._stopping = False  # after its tasks
        self._tasks: set[int] = set()
        self._outbox: SimpleQueue[tuple[Task, int] | Allow | Stop | None] = SimpleQueue()
        slate = Slate.new(spill_dir)
        self._slate_descriptor, self._slate = slate, Slate(slate)
        # the system kills a child when the thread that spawned it ends: it must be one that lives as long
        self._thread = threading.Thread(target=self._live, name=f"{order.label} {worker}", daemon=True)
        self._thread.start()

    @property
    def calling(self) -> Calling | None:
        """What the process is calling."""
        return self._slate.read()

    def submit(self, task: Task, credit: int) -> None:
        """Queue a task."""
        self._tasks.add(task.number)
        self._outbox.put((task, credit))

    def allow(self, task: int) -> None:
        """Give a task credit for one more output."""
        self._outbox.put(Allow(task))

    def stop(self) -> None:
        """End after the tasks that are queued."""
        self._stopping = True
        self._outbox.put(Stop())

    def end(self) -> None:
        """Kill it; `join` waits until it is gone."""
        with self._starting:
            self._ended = True
            if self._process is not None:
                self._process.kill()

    def join(self) -> None:
        """Wait until the process is gone, and with it its memory and its hold on a device."""
        self._thread.join(_LEAVE_S)

    def resident_bytes(self) -> int:
        """Return the memory that the process has for itself [bytes]."""
        process = self._process
        return resident(process.pid).own if process is not None else 0

    def _live(self) -> None:
        """Spawn the process, hear it until it is gone, and say how it went."""
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited, until the child ignores it
        ours, theirs = socket.socketpair()
        with ours, theirs:
            try:
                self._spawn(theirs.fileno())
            except OSError as error:
                os.close(self._slate_descriptor)
                self._tell(Failed(self._worker, None, ConfigError(f"no process can be started: {error}", self._label)))
                return
            theirs.close()
            channel = Channel(ours, self._folder)
            feeder = threading.Thread(target=self._feed, args=(channel,), name=f"{self._label} feeder", daemon=True)
            feeder.start()
            broken = self._hear(channel)
            how = self._reap()
            channel.finish()
            self._outbox.put(None)
            feeder.join()
        asked = self._stopping and not self._tasks  # then it does not matter how its finalizers went
        self._tell(None if asked else Died(self._worker, broken or how, self._slate.read()))

    def _spawn(self, descriptor: int) -> None:
        environment = dict(os.environ)
        home = str(Path(__file__).parents[3])  # so that the module below is found; the user's modules are `Start.path`
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH")]))
        if self._devices:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(self._devices)
        with self._starting:
            if self._ended:
                raise OSError("it was ended before")
            if not sys.executable:
                raise OSError("this program does not know where Python is (sys.executable)")
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "iceblink.run.pipeline.process_main", str(descriptor)],
                stdin=subprocess.DEVNULL,
                env=environment,
                pass_fds=[descriptor],
            )

    def _feed(self, channel: Channel) -> None:
        """Send what the process is to do; rows that lie in the heap here are written to shared files first."""
        start = Start(self._worker, self._label, self._build, sys.path, os.environ.get("PYTHONPATH"), self._folder)
        try:
            channel.send(start, [self._slate_descriptor])
            while (message := self._outbox.get()) is not None:
                if isinstance(message, tuple):
                    self._give(channel, *message)
                else:
                    channel.send(message)
                del message  # while this waits for the next one, it holds no rows
        except OSError:  # the process is gone, which the other thread hears
            pass
        finally:
            os.close(self._slate_descriptor)

    def _give(self, channel: Channel, task: Task, credit: int) -> None:
        descriptors: list[int] = []
        whole: dict[int, int] = {}  # several slices of one block need one descriptor
        parts = []
        try:
            for part in task.slices:
                block, start = part.block, part.start
                small = None if id(block) in whole else block.ref.small_part(part)
                if small is not None:
                    place, start = len(descriptors), 0
                    descriptors.append(SharedRows.write(small, self._folder).detach())
                else:
                    place = whole.setdefault(id(block), len(descriptors))
                    if place == len(descriptors):
                        descriptors.append(block.ref.descriptor(self._folder))
                parts.append(Part(place, start, part.rows, block.path, part.first_row, block.exact))
            message = Given(task.number, tuple(parts), task.batch_rows, task.schema, task.skip, credit)
        except Exception as error:  # no room, or damaged rows: this task fails, the worker lives
            told = OutOfMemoryBudget(f"its input cannot be handed to a process: {error}", self._label)
            self._forget(task.number)
            self._tell(Failed(self._worker, task.number, told))
        else:
            channel.send(message, descriptors)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _hear(self, channel: Channel) -> str:
        """Pass on what the process says, until it is gone; return what broke the connection, if that did."""
        poll = select.poll()
        poll.register(channel, select.POLLIN)
        while True:
            # what the process started may hold its end of the socket open: look whether it is there itself
            if not poll.poll(_LOOK_MS):
                if self._process is not None and self._process.poll() is not None:
                    return ""
                continue
            try:
                self._told(*channel.receive())
            except (EOFError, ConnectionError):
                return ""
            except Exception as error:  # what it said cannot be understood here
                self.end()
                return f"it was ended, for its answer could not be read: {error}"

    def _told(self, message: Any, descriptors: list[int]) -> None:
        match message:
            case Produced(block=block):
                held = HeldRows(shared=SharedRows(descriptors[0]))
                self._tell(replace(message, block=replace(block, ref=held)))
            case Raised(task, error):
                self._forget(task)
                self._tell(Failed(self._worker, task, pickle.loads(error)))
            case Finished(task=task):
                self._forget(task)
                self._tell(message)
            case _:
                self._tell(message)

    def _forget(self, task: int | None) -> None:
        if task is not None:
            self._tasks.discard(task)

    def _reap(self) -> str:
        """Wait for the process's end and say how it ended, in words."""
        assert self._process is not None
        try:
            return ending(self._process.wait(_LEAVE_S))
        except subprocess.TimeoutExpired:  # it closed its socket and stays
            self._process.kill()
            self._process.wait()
            return "closed its connection, and was ended"
