"""Jobs that lose a node of a cluster of `cluster_tool`: ``python -m integration.cluster_faults FOLDER NAME...``.

A job is a statement or a write of the public words. The first work that comes as far as the scenario says leaves a
mark, which says on which node it is, and hangs; then the driver asks for that node to be lost.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute
import ray

import iceblink as ib
from cluster_tool import SAYS
from contract.cluster_scenarios import say
from contract.works import seen
from iceblink import _
from iceblink.errors import RowsLost
from iceblink.lake.leftovers import find_leftovers
from iceblink.run.distributed import tables
from iceblink.run.distributed.file_work import WriteWork
from iceblink.run.distributed.runner import Runner
from iceblink.run.distributed.stage_work import StageWork
from iceblink.run.pipeline.backend import Call, Work
from iceblink.run.pipeline.operator import Operator

OPERATOR = Runner.operator
ROWS = 40_000
DATA = pa.table(
    {
        "id": pa.array(range(ROWS), pa.int64()),
        "g": pa.array([n % 3 for n in range(ROWS)], pa.int64()),
        "s": pa.array([f"{n:>50}" for n in range(ROWS)], pa.string()),  # so wide that rows do not travel in messages
    }
)
OLD = pa.table({"id": pa.array([-1], pa.int64()), "g": pa.array([-1], pa.int64()), "s": ["old"]})


@dataclass(frozen=True)
class Fate:
    """Where work hangs, once in a job: in the worker that first comes so far when it has done `spared` pieces."""

    mark: Path
    spared: int = 0

    def strikes(self, done: int) -> bool:
        """Whether it is time."""
        return done >= self.spared and not self.mark.exists()

    def strike(self) -> None:
        """Leave the mark, whole, and wait for the end; one of several that come here at the same time goes on."""
        part = self.mark.with_name(f"{os.getpid()}-{uuid4()}")
        part.write_text(ray.util.get_node_ip_address())
        with suppress(FileExistsError):
            os.link(part, self.mark)
            threading.Event().wait()


@dataclass(frozen=True)
class Doomed:
    """Builds work that is done and never told."""

    build: Callable[[], Work]
    fate: Fate

    def __call__(self) -> Work:
        return DoomedWork(self.build(), self.fate)


class DoomedWork:
    def __init__(self, work: Work, fate: Fate) -> None:
        self._work, self._fate, self._done = work, fate, 0

    def __call__(self, call: Call, begun: Callable[[int], None]) -> Iterator[Any]:
        outputs = self._work(call, begun)
        if self._fate.strikes(self._done):
            outputs = iter(list(outputs))
            self._fate.strike()
        yield from outputs
        self._done += 1


class Doubled:
    """A function of which an instance hangs in the middle of its batches."""

    def __init__(self, fate: Fate) -> None:
        self._fate, self._done = fate, 0

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        if self._fate.strikes(self._done):
            self._fate.strike()
        self._done += 1
        return {"id": batch["id"] * 2}


class Job:
    """A job that loses a node, and the table that it writes."""

    def __init__(self, lake: ib.Lake, mark: Path) -> None:
        self.lake, self.mark, self.out = lake, mark, f"n.{mark.name}"
        self.operator = OPERATOR

    def doom(self, what: Callable[[Any], bool], spared: int = 0) -> None:
        """Let work of a kind hang when the job is run."""
        fate = Fate(self.mark, spared)

        def operator(self: Runner, label: str, work: Callable[[], Work], cpus: float = 1.0, **options: Any) -> Operator:
            return OPERATOR(self, label, Doomed(work, fate) if what(work) else work, cpus, **options)

        self.operator = operator

    def run(self, job: Callable[[], Any]) -> Any:
        """Return what a job gives that loses a node under way, or that rows were lost."""
        threading.Thread(target=self._lose, daemon=True).start()
        Runner.operator = self.operator  # type: ignore[method-assign]
        try:
            return job()
        except RowsLost as error:
            return error
        finally:
            Runner.operator = OPERATOR  # type: ignore[method-assign]
            assert self.mark.exists(), "it came so far"

    def write(self, rows: ib.Dataset, expected: pa.Table) -> bool:
        """Append rows to a table, again if they were lost; return whether they were."""
        before = OLD.select(expected.column_names)
        self.lake.write(self.out, before, "create")
        found = self.run(lambda: rows.write(self.out))
        lost = isinstance(found, RowsLost)
        if lost:
            assert self.rows() == before
            self.see_nothing_left()
            rows.write(self.out)
        assert self.rows() == pa.concat_tables([before, expected])
        assert self.lake.history(self.out).count() == 2
        self.see_nothing_left()
        return lost

    def rows(self) -> pa.Table:
        return self.lake.table(self.out).to_arrow().sort_by("id")

    def see_nothing_left(self) -> None:
        table = self.lake.session.catalog.load(self.out)
        assert {str(path) for path in Path(table.location).rglob("*.parquet")} == {one.path for one in table.files()}
        assert find_leftovers(table, older_than_s=0) == []

    def _lose(self) -> None:
        seen(self.mark)
        say("lose the node")


def a_scan(job: Job) -> None:
    """Splits that were read and not told are read again."""
    job.doom(lambda work: isinstance(work, StageWork))
    found = job.run(lambda: job.lake.table("n.t").filter(_.g == 1).to_arrow())
    assert found == DATA.filter(pa.compute.equal(DATA["g"], 1))


def an_exchange(job: Job) -> None:
    """What a task had divided before is lost with its node."""
    job.doom(lambda work: isinstance(work, StageWork) and work.sent == "by partition", spared=1)
    sizes = job.lake.sql("SELECT id, count(*) OVER (PARTITION BY g) AS g, s FROM n.t")
    counts = pa.array([len(range(n % 3, ROWS, 3)) for n in range(ROWS)], pa.int64())
    assert job.write(sizes, DATA.set_column(1, "g", counts))


def a_pool(job: Job) -> None:
    """Batches that were being computed are computed again, if their rows are not lost."""
    doubled = job.lake.table("n.t").map_batches(
        partial(Doubled, Fate(job.mark, spared=3)),
        schema={"id": "long"},
        batch_format="numpy",
        batch_size=1_000,
        workers=2,
    )
    job.write(doubled, pa.table({"id": pa.array(range(0, 2 * ROWS, 2), pa.int64())}))


def a_write(job: Job) -> None:
    """Files that nobody has heard of are removed."""
    job.doom(lambda work: isinstance(work, WriteWork))
    job.write(job.lake.table("n.t"), DATA)


SCENARIOS = {made.__name__: made for made in (a_scan, an_exchange, a_pool, a_write)}

if __name__ == "__main__":
    folder, *names = sys.argv[1:]
    with ib.connect(folder) as local:
        local.write("n.t", DATA, "create", properties={"write.parquet.row-group-limit": "2000"})
    tables.LEAST_BYTES = 200_000  # so few rows are several tasks
    with ib.connect(folder, engine=ib.RayEngine(small_bytes=0, split_bytes=200_000, file_bytes=500_000)) as lake:
        for name in names:
            say("begin")
            SCENARIOS[name](Job(lake, Path(folder, name)))
            print(f"{SAYS}right", flush=True)
