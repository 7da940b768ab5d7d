"""A plan that is one task: the engine of one process runs it in a worker."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass

from iceblink.config import Settings
from iceblink.plan.nodes import Plan
from iceblink.run.distributed.stage_work import after, kernel_of
from iceblink.run.lower import Job, run
from iceblink.run.pipeline.backend import Call, Output, Work
from iceblink.run.pipeline.outputs import sized


@dataclass(frozen=True)
class PlanWork:
    """Builds a worker that runs a plan from its sources to its rows; picklable if the plan is.

    Parameters
    ----------
    plan : Plan
    settings : Settings
        Of the worker.
    """

    plan: Plan
    settings: Settings

    def __call__(self) -> Work:
        return self._run

    def _run(self, call: Call, begun: Callable[[int], None]) -> Iterator[Output]:
        begun(0)
        job = Job(self.settings, kernel_of(self.settings))
        with closing(run(self.plan, job)) as batches:
            yield from after(call.skip, sized(Output("rows", batch) for batch in batches))


def travels(plan: Plan) -> bool:
    """Whether a plan can be sent to a worker: one with functions, or over rows of this process, can not."""
    try:
        pickle.dumps(plan)
    except Exception:
        return False
    return True
