"""Trees that several workers train together, each on its share of the rows, by XGBoost's own collective."""

from __future__ import annotations

import ctypes
import mmap
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
import pyarrow as pa

from iceblink.causal.models.boosting import Boosting, Models, library
from iceblink.causal.models.gathering import Kept, check_size, packed, packed_schema
from iceblink.causal.models.task import Task, no_rows
from iceblink.causal.moments import Floats, Integers
from iceblink.causal.passes import BLOCK_ROWS
from iceblink.errors import PlanError, WriteError
from iceblink.interop import optional
from iceblink.run.gang import Post

if TYPE_CHECKING:
    from iceblink.causal.models.trees import XGBoost
    from iceblink.dataset import Dataset

JOIN_S = 120
"""All are expected to have joined the collective in this time [s]."""
DEALT = pa.schema({"name": pa.string(), "rows": pa.int64(), "folds": pa.list_(pa.int64())})


def trained_together(model: XGBoost, data: Dataset, task: Task) -> tuple[Integers, Models]:
    """Return the folds (K,) and the models of each target, trained by `model.workers` workers. Eager: one pass.

    Whoever reads a block deals its rows to the workers in turns, so that no row passes through this process, and the
    shares are the same whoever reads what.

    Raises
    ------
    ColumnNotFound, TypeMismatch, QueryError
    ConfigError
        The engine has no such workers, or no room for them.
    PlanError
        As of `Boosting.trained`; or a worker has no rows, there are so few.
    WriteError
        The disk of a worker is full.
    FunctionError
        A worker died: nothing of it is left, and the fit can be tried again.
    """
    chosen, count, cpus = task.data(data), model.workers, max(1, model.threads)
    engine = data.session.engine
    with engine.gang(f"{task.where}, trees", count, cpus, Trainee) as gang:
        deal = _Deal(task, gang.post, count)
        dealt = chosen.map_batches(deal, schema=DEALT, batch_size=BLOCK_ROWS).to_arrow()
        if not dealt.num_rows:
            raise no_rows(task.where)
        if max(dealt["rows"].to_pylist()) < count:
            raise PlanError(f"there are too few rows for {count} workers", task.where, "workers=1")
        folds = np.unique([fold for some in dealt["folds"].to_pylist() for fold in some])
        task.check_folds(folds)
        meeting = gang.ask(0, "meet", gang.addresses[0], count)
        training = _Training(replace(model, threads=cpus), task, folds, dealt["name"].to_pylist(), meeting)
        first, *_others = (one for one in gang.ask_all("train", training) if one is not None)
    return folds, first


@dataclass(frozen=True)
class _Deal:
    """The function that a worker calls: rows of a block go to those who train, in turns."""

    task: Task
    post: Post
    count: int

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        name, rows = uuid4().hex, self.task.rows(batch, gaps=True)  # a call that is made again has another name
        check_size(rows, self.task)
        for member in range(min(self.count, len(rows.fold))):
            mine = rows.among(slice(member, None, self.count))
            self.post.tell(member, "take", name, packed(mine, packed_schema(np.float32)))
        told = {"name": [name], "rows": [len(rows.fold)], "folds": [np.unique(rows.fold).tolist()]}
        return pa.RecordBatch.from_pydict(told, schema=DEALT)


@dataclass(frozen=True, eq=False)
class _Training:
    """What all who train are told.

    Parameters
    ----------
    model : XGBoost
    task : Task
    folds : int64 array (K,)
    blocks : list of str
        The names of the blocks that count, in the order of the dataset: a reader that died may have dealt others.
    meeting : dict
        Where they find each other.
    """

    model: XGBoost
    task: Task
    folds: Integers
    blocks: list[str]
    meeting: dict[str, Any]


class Trainee:
    """One of those who train together.

    Parameters
    ----------
    number : int
    """

    def __init__(self, number: int) -> None:
        library()
        self._number = number
        self._file: Any = tempfile.TemporaryFile(prefix="iceblink-rows-")  # noqa: SIM115 - has no name, and ends with us
        self._parts = pa.ipc.new_file(self._file, packed_schema(np.float32))
        self._places: dict[str, int] = {}
        self._tracker: Any = None

    def take(self, name: str, part: pa.RecordBatch) -> None:
        """Keep this worker's rows of a block on disk."""
        with _disk():
            self._parts.write_batch(part)
        self._places[name] = len(self._places)

    def meet(self, address: str, count: int) -> dict[str, Any]:
        """Open the place where all find each other, and return where it is."""
        self._tracker = optional("xgboost.tracker", "trees").RabitTracker(count, address, sortby="task", timeout=JOIN_S)
        self._tracker.start()
        return dict(self._tracker.worker_args())

    def train(self, training: _Training) -> Models | None:
        """Train with the others, and return the models, which are the same for all, if this is the first of them."""
        collective = optional("xgboost.collective", "trees")
        meeting = {**training.meeting, "dmlc_task_id": f"{self._number:08d}"}  # ranks in the order of numbers
        with _disk():  # before all have met: who fails later is waited for
            self._parts.close()
            self._file.flush()
        _say_no_ranks()
        with collective.CommunicatorContext(**meeting):
            rows, summed = self._kept(training.blocks), partial(_summed, collective)
            boosting = Boosting(training.model, training.task, rows, training.folds, added=summed)
            models = boosting.trained()  # in memory: who is killed could not remove a folder
        return models if self._number == 0 else None

    def close(self) -> None:
        """Let go of the rows; the end of the process does so too."""
        with suppress(OSError):  # there is no room for what it would write yet
            self._file.close()

    def _kept(self, names: list[str]) -> Kept:
        reader = pa.ipc.open_file(pa.py_buffer(mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)))
        places = [self._places[name] for name in names if name in self._places]
        return Kept.of(pa.Table.from_batches([reader.get_batch(place) for place in places]))


def _pass_on(message: bytes) -> None:
    """Print what XGBoost says, but for a line of each worker at each training, which no verbosity is too low for."""
    if b" got rank " not in message:
        print(message.decode(errors="replace"), file=sys.stderr)


_said = ctypes.CFUNCTYPE(None, ctypes.c_char_p)(_pass_on)  # lives as long as XGBoost may call it


def _say_no_ranks() -> None:
    """Let XGBoost speak by `_pass_on` in this thread."""
    path, *_others = optional("xgboost.libpath", "trees").find_lib_path()
    ctypes.CDLL(path).XGBRegisterLogCallback(_said)  # the library is loaded already, and is the same


@contextmanager
def _disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        place = f"{tempfile.gettempdir()} of a worker"
        raise WriteError(f"cannot keep rows: {error}", place, "free space, or set TMPDIR where workers are") from error


def _summed(collective: Any, values: Floats) -> Floats:
    """Return the sums of numbers of all who train, in the shape that they have."""
    wanted = np.asarray(values, np.float64)
    return np.asarray(collective.allreduce(wanted, collective.Op.SUM)).reshape(wanted.shape)
