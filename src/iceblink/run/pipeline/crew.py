"""Who works: workers started, given tasks, grown and let go, within the CPUs, GPUs and memory there are."""

from __future__ import annotations

import time
from collections.abc import Sequence

from iceblink.errors import FunctionError
from iceblink.run.pipeline.backend import Backend, Died, Slots
from iceblink.run.pipeline.stage import Lane, Stage, Worker
from iceblink.run.pipeline.stats import Recorder

SHORT_S = 1e-3  # the interpreter's lock changes hands every five of these
RENEW_S = 1.0  # a process that lived so long is begun anew when memory is tight
FREED = 0.9  # of the memory at a renewal must have been undercut since, before there is another
WAITED_S = 0.5  # a worker idle so long gives its device to a stage that has none
IDLE_S = 5.0  # a worker beyond the fewest is let go after this
BUILDS = 2  # times that workers may die of themselves while they are built


class Crew:
    """The workers of all stages of one run.

    A worker is in `_stage_of` as long as it is among the workers of its stage, and so long its share is taken. What
    costs as much as there are workers is found out once for all tasks that are begun together, see `look`.
    """

    def __init__(self, stages: Sequence[Stage], backend: Backend, recorder: Recorder) -> None:
        self._stages, self._backend, self._recorder = stages, backend, recorder
        self._stage_of: dict[int, Stage] = {}
        self._slots: Slots | None = None
        self._cpus_in_use: float | None = None
        self._builds_lost = 0
        self._tight = False
        self._resident = self._lowest = self._renewed_at = 0

    def find(self, stage: Stage, lane: Lane) -> tuple[int | None, str]:
        """Return a worker that can take a lane's task, starting another if all are busy; or what it waits for.

        A task of which a worker may have died is given to one that has no other, so that the next time it is certain.
        """
        if self._tight:
            self._renew(stage)
        while len(stage.workers) < stage.operator.fewest and self.grow(stage):
            pass
        gains = self._gains(stage)
        idle = next(reversed(stage.by_tasks[0]), None)  # others go on to rest, and are let go of
        if idle is not None and (gains or not stage.running):
            return (idle, "") if self.has_cpu(stage) else (None, "cpu")
        if not stage.workers:
            self.make_way(stage, WAITED_S)
        while gains and self._more(stage) and self.has_cpu(stage) and self.grow(stage):
            pass
        for number in () if lane.suspect else (number for some in stage.by_tasks[1:] for number in some):
            if not stage.tries(stage.workers[number]):
                return number, ""
        return None, "worker"

    def _more(self, stage: Stage) -> bool:
        """Whether to build one more: as many at a time as there are, which is soon all that a cluster has room for."""
        starting, ready = len(stage.starting), len(stage.workers) - len(stage.starting)
        return starting < max(1, ready) and stage.waiting_calls + 1 > ready + starting

    def look(self) -> None:
        """Begin anew to know what there is, and who is at work."""
        self._slots = self._cpus_in_use = None

    def at_work(self, stage: Stage) -> None:
        """Take note that one more worker of a stage is at work."""
        if self._cpus_in_use is not None:
            self._cpus_in_use += stage.operator.cpus

    def grow(self, stage: Stage) -> bool:
        """Begin to build one more worker, if the operator may have one and its share is free."""
        if len(stage.workers) >= stage.operator.most or not self._fits(stage):
            return False
        number = self._backend.start_worker(stage.operator.order)
        if number is None:  # what a leaving worker holds is not free yet, or shares of devices do not add up
            return False
        stage.workers[number] = Worker(born=time.monotonic())
        stage.sort_in(number)
        self._stage_of[number] = stage
        self._recorder.worker(self._place(stage), len(stage.workers))
        return True

    def ready(self, number: int) -> None:
        """Take note that a worker is built."""
        if (stage := self._stage_of.get(number)) is not None:
            stage.workers[number].ready = True
            stage.workers[number].born = stage.workers[number].idle_since = time.monotonic()
            stage.sort_in(number)

    def make_way(self, needy: Stage, idle_s: float = 0.0) -> None:
        """If a stage without any worker lacks what others hold, end those of them that have been idle so long [s]."""
        if needy.workers or self._fits(needy):
            return
        now = time.monotonic()
        for stage in self._stages:
            holds = stage is not needy and stage.operator.order.gpus + stage.operator.memory_bytes
            for number, worker in list(stage.workers.items()):
                if holds and worker.ready and not worker.tasks and now - worker.idle_since >= idle_s:
                    self._stop(stage, number, at_once=True)

    def dismiss(self, stage: Stage) -> None:
        """End the workers of a stage that is done."""
        for number in list(stage.workers):
            self._stop(stage, number)

    def dismiss_all(self) -> None:
        """End all workers at once, whatever they are at."""
        for stage in self._stages:
            for number in list(stage.workers):
                self._stop(stage, number, at_once=True)

    def dismiss_idle(self) -> None:
        """End workers beyond the fewest that have long had nothing to do."""
        now = time.monotonic()
        for stage in self._stages:
            for number, worker in list(stage.workers.items()):
                idle = worker.ready and not worker.tasks and now - worker.idle_since > IDLE_S
                if idle and len(stage.workers) > stage.operator.fewest:
                    self._stop(stage, number, at_once=bool(stage.operator.order.gpus))  # its device is wanted back

    def remember(self, resident: int, tight: bool) -> None:
        """Take note of the memory in use [bytes], and whether that is nearly all there should be."""
        self._resident, self._tight = resident, tight
        self._lowest = min(self._lowest, resident)

    def _renew(self, stage: Stage) -> None:
        """Begin idle processes anew, for they may hold what they leaked; not again if the last time brought nothing."""
        if self._lowest > FREED * self._renewed_at > 0:
            return
        now = time.monotonic()
        for number, worker in list(stage.workers.items()):
            old = worker.ready and now - worker.born > RENEW_S
            if old and not worker.tasks and stage.operator.order.processes:
                self._stop(stage, number, at_once=True)
                self._renewed_at = self._lowest = self._resident

    def bury(self, death: Died) -> tuple[Stage, Worker] | None:
        """Strike a dead worker off; return it with its stage, None if nobody waits for it.

        Raises
        ------
        FunctionError
            It is not the first that died of itself while it was built.
        """
        stage = self._stage_of.pop(death.worker, None)
        if stage is None:
            return None
        worker = stage.workers[death.worker]
        if not worker.ready and not death.with_node:
            self._builds_lost += 1
            if self._builds_lost >= BUILDS:
                raise FunctionError(f"a worker {death.why}, while it was built", stage.operator.label)
        self._recorder.death(self._place(stage))
        return stage, worker

    def _stop(self, stage: Stage, number: int, at_once: bool = False) -> None:
        worker = stage.workers.pop(number)
        stage.sort_in(number)
        if worker.ready and not worker.tasks:
            self._recorder.idle(self._place(stage), worker.idle_since)
        del self._stage_of[number]
        self._backend.stop_worker(number, at_once)

    def has_cpu(self, stage: Stage) -> bool:
        """Whether one more worker of a stage may be at work; what waits for credit is not."""
        with_tasks = sum(other.operator.cpus * other.with_tasks for other in self._stages)
        if with_tasks + stage.operator.cpus <= self._there().cpus:
            return True
        if self._cpus_in_use is None:
            self._cpus_in_use = sum(
                other.operator.cpus * sum(running.credit > 0 for _, running in other.at_work())
                for other in self._stages
            )
        return not self._cpus_in_use or self._cpus_in_use + stage.operator.cpus <= self._there().cpus

    def _gains(self, stage: Stage) -> bool:
        """Whether one more worker at work helps; threads that make short calls would wait for each other instead."""
        if stage.operator.order.processes or not stage.running:
            return True
        if stage.call_s is not None:
            return stage.call_s >= SHORT_S
        now = time.monotonic()
        return any(now - running.begun_s > SHORT_S for running in stage.running.values())

    def _fits(self, stage: Stage) -> bool:
        """Whether GPUs and memory are left for one more worker; it holds them as long as it lives."""
        gpus = sum(len(other.workers) * other.operator.order.gpus for other in self._stages)
        memory = sum(len(other.workers) * other.operator.memory_bytes for other in self._stages)
        slots = self._there()
        return (
            gpus + stage.operator.order.gpus <= slots.gpus + 1e-9
            and memory + stage.operator.memory_bytes <= slots.memory_bytes
        )

    def _there(self) -> Slots:
        if self._slots is None:
            self._slots = self._backend.slots()
        return self._slots

    def _place(self, stage: Stage) -> int:
        return self._stages.index(stage)
