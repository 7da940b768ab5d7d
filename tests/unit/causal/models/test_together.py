"""Trees that workers train together, here threads: nearly those of one, wherever rows lie."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pytest
import xgboost

import iceblink as ib
from iceblink.causal.matrix import Matrix, Number
from iceblink.causal.models import Column, Equals, Target, Task, XGBoost, together
from iceblink.causal.models.boosting import ClassPredictor, TreePredictor
from iceblink.causal.passes import Folds
from iceblink.errors import ConfigError, PlanError, QueryError, WriteError

ROWS = 1_500
TREES = XGBoost(rounds=6, depth=3, learning_rate=0.5, threads=1)
FEATURES = Matrix((Number("x0"), Number("x1")))
FOLDS = Folds(("id",), 3, 0)
ADDRESS = "127.0.0.1"


@dataclass
class Threads:
    """A gang of threads, which XGBoost's collective takes for workers, since each thread has one of its own."""

    members: Sequence[Any]
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def addresses(self) -> list[str]:
        return [ADDRESS for _ in self.members]

    @property
    def post(self) -> Self:
        return self

    def tell(self, member: int, method: str, *arguments: Any) -> None:
        with self.lock:  # readers are several, and an actor does one thing at a time
            getattr(self.members[member], method)(*arguments)

    def ask(self, member: int, method: str, *arguments: Any) -> Any:
        return getattr(self.members[member], method)(*arguments)

    def ask_all(self, method: str, *arguments: Any) -> list[Any]:
        with ThreadPoolExecutor(len(self.members)) as pool:
            return [one.result() for one in [pool.submit(getattr(of, method), *arguments) for of in self.members]]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for member in self.members:
            member.close()


class InThreads(ib.LocalEngine):
    """One process that has gangs."""

    def gang(self, label: str, count: int, cpus: int, build: Callable[[int], Any]) -> Threads:
        return Threads([build(number) for number in range(count)])


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    draw = np.random.default_rng(2)
    x = draw.normal(size=(2, ROWS))
    t = (draw.random(ROWS) < 0.3).astype(np.int64)
    y = np.sin(2 * x[0]) + t * x[1] + 0.3 * draw.normal(size=ROWS)
    arm = t + (draw.random(ROWS) < 0.4 + 0.2 * (x[0] > 0))
    columns = {"id": np.arange(ROWS), "x0": x[0], "x1": x[1], "t": t, "arm": arm, "y": y}
    return pa.table({**columns, "rare": np.arange(ROWS) == 100, "even": np.arange(ROWS) % 2 == 0})


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ib.Lake]:
    with ib.connect(tmp_path_factory.mktemp("lake"), engine=InThreads(threads=2)) as lake:
        yield lake


@pytest.fixture(autouse=True)
def blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "BLOCK_ROWS", 400)


def task(*targets: Target, folds: Folds | None = FOLDS) -> Task:
    return Task(FEATURES, targets, folds, "a test")


TARGETS = (Target("y", rows=Equals("t", 1)), Target("y"), Target("t", binary=True))


@pytest.mark.parametrize("workers", [2, 3])
def test_they_learn_what_one_learns(lake: ib.Lake, rows: pa.Table, workers: int) -> None:
    data, (batch,) = lake.from_arrow(rows), rows.combine_chunks().to_batches()
    alone, them = (model.fit(data, task(*TARGETS)) for model in (TREES, replace(TREES, workers=workers)))
    for one, other in zip(alone, them, strict=True):
        np.testing.assert_array_equal(other.folds, one.folds)
        np.testing.assert_allclose(other.predict(batch), one.predict(batch), rtol=1e-5, atol=1e-5)  # bins are as few


ARM = Target("arm", classes=("none", "one", "both"))


@pytest.mark.parametrize("folds", [FOLDS, None])
def test_chances_of_classes_that_they_learn_are_those_that_one_learns(
    lake: ib.Lake, rows: pa.Table, folds: Folds | None
) -> None:
    data, (batch,) = lake.from_arrow(rows), rows.combine_chunks().to_batches()
    targets = (ARM, Target("y"), replace(ARM, rows=Column("even")))  # one has no rows of the last
    alone, them = (model.fit(data, task(*targets, folds=folds)) for model in (TREES, replace(TREES, workers=2)))
    for one, other in zip(alone, them, strict=True):
        np.testing.assert_allclose(other.predict(batch), one.predict(batch), rtol=1e-5, atol=1e-5)
    chances = them[0].predict(batch)
    assert isinstance(them[0].models[0], ClassPredictor)
    assert chances.shape == (3, ROWS)
    assert chances.std(axis=1).min() > 0.01
    np.testing.assert_allclose(chances.sum(axis=0), 1)


def test_edges_of_bins_that_they_make_together_are_a_little_different(lake: ib.Lake, rows: pa.Table) -> None:
    data, (batch,) = lake.from_arrow(rows), rows.combine_chunks().to_batches()
    coarse, y = replace(TREES, bins=16), rows["y"].to_numpy()
    fits = [model.fit(data, task(Target("y")))[0] for model in (coarse, replace(coarse, workers=2))]
    one, other = (fit.predict(batch) for fit in fits)
    assert np.abs(one - other).max() > 0.01
    assert np.mean((y - other) ** 2) == pytest.approx(np.mean((y - one) ** 2), rel=0.1)


def test_who_has_none_of_the_rows_of_a_target_trains_too(lake: ib.Lake, rows: pa.Table) -> None:
    data, (batch,) = lake.from_arrow(rows), rows.combine_chunks().to_batches()
    rare, alone = Target("y", rows=Column("rare")), data.filter(ib._.rare)
    (found,) = replace(TREES, workers=2).fit(data, task(rare, folds=None))
    (expected,) = TREES.fit(alone, task(Target("y"), folds=None))
    np.testing.assert_allclose(found.predict(batch), expected.predict(batch), rtol=1e-5)


def test_they_print_warnings_and_no_ranks(lake: ib.Lake, rows: pa.Table, capfd: pytest.CaptureFixture[str]) -> None:
    replace(TREES, workers=2).fit(lake.from_arrow(rows), task(Target("y")))
    assert capfd.readouterr() == ("", "")

    def warned() -> None:
        together._say_no_ranks()
        matrix = xgboost.DMatrix(np.zeros((2, 1)), label=[0, 1])
        xgboost.train({"nobody_knows": 1}, matrix, num_boost_round=1)

    thread = threading.Thread(target=warned)  # XGBoost speaks by what each thread has registered
    thread.start()
    thread.join()
    assert "nobody_knows" in capfd.readouterr().err


def test_what_a_call_dealt_that_was_made_again_does_not_count(lake: ib.Lake, rows: pa.Table) -> None:
    data, seen = lake.from_arrow(rows), list[int]()
    dealing = together._Deal.__call__

    def again(self: Any, batch: pa.RecordBatch) -> pa.RecordBatch:
        seen.append(dealing(self, batch).num_rows)
        return dealing(self, batch)

    with pytest.MonkeyPatch.context() as patch:
        (expected,) = replace(TREES, workers=2).fit(data, task(Target("y")))
        patch.setattr(together._Deal, "__call__", again)
        (found,) = replace(TREES, workers=2).fit(data, task(Target("y")))
    assert len(seen) == 4
    for one, other in zip(found.models, expected.models, strict=True):
        assert isinstance(one, TreePredictor)
        assert isinstance(other, TreePredictor)
        assert one.booster.save_raw() == other.booster.save_raw()


@pytest.mark.parametrize(
    ("wanted", "where", "error", "says"),
    [
        (task(Target("t", binary=True)), ib._.t == 1, PlanError, "t is 1 in every row"),
        (task(Target("y", rows=Equals("t", 5))), ib._.t == 1, PlanError, "there are no rows"),
        (task(Target("y")), ib._.id < 0, PlanError, "there are no rows"),
        (task(Target("y"), folds=None), ib._.id < 1, PlanError, "too few rows for 2 workers"),
        (task(ARM), ib._.arm < 2, PlanError, "arm is both in no row"),
        (task(Target("y")), ib._.id < 2, PlanError, "fold"),
        (task(Target("hole")), ib._.id < 9, QueryError, "hole is missing"),
        (task(Target("huge")), ib._.id < 9, QueryError, "huge is as large as 1e\\+39"),
    ],
)
def test_what_they_cannot_learn_is_refused(
    lake: ib.Lake, rows: pa.Table, wanted: Task, where: Any, error: type[Exception], says: str
) -> None:
    odd = "nullif(y, y) AS hole, if(id = 5, -1e39, 0) AS huge"
    data = lake.from_arrow(rows).filter(where).sql(f"SELECT *, {odd} FROM this")
    with pytest.raises(error, match=says):
        replace(TREES, workers=2).fit(data, wanted)


def test_a_full_disk_is_said(lake: ib.Lake, rows: pa.Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda prefix: open("/dev/full", "w+b"))  # noqa: SIM115
    with pytest.raises(WriteError, match="No space left"):
        replace(TREES, workers=2).fit(lake.from_arrow(rows), task(Target("y")))


def test_one_process_has_threads_instead(rows: pa.Table, tmp_path: Path) -> None:
    with ib.connect(tmp_path) as local, pytest.raises(ConfigError, match="RayEngine"):
        replace(TREES, workers=2).fit(local.from_arrow(rows), task(Target("y")))
    for wrong in ({"workers": 0}, {"workers": 2, "on_disk": True}):
        with pytest.raises(ConfigError, match="workers"):
            XGBoost(**wrong)  # type: ignore[arg-type]
