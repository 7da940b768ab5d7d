"""XGBoost's training on rows that are kept: one matrix of bins for each sample of them, and one booster at a time."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from iceblink.causal.models.gathering import Kept
from iceblink.causal.models.task import Task, check_classes, no_rows
from iceblink.causal.moments import Floats, Integers
from iceblink.errors import PlanError
from iceblink.interop import optional

if TYPE_CHECKING:
    from iceblink.causal.models.trees import XGBoost


WAITING = "OMP_WAIT_POLICY"


def library() -> Any:
    """Return XGBoost; if it is loaded by this, its threads sleep while they wait, unless the environment says more.

    As OpenMP has it they would spin, between regions of a millisecond: on a machine that has other things to do they
    would take ten times the CPU time that training does.

    Raises
    ------
    ConfigError
        It is not installed.
    """
    if ours := WAITING not in os.environ:
        os.environ[WAITING] = "PASSIVE"
    try:
        return optional("xgboost", "trees")
    finally:
        if ours:
            del os.environ[WAITING]


@dataclass(frozen=True, eq=False)
class TreePredictor:
    """A booster, and what is added to what it says; workers are many, so each predicts in one thread."""

    booster: Any
    level: float

    def of(self, features: Floats) -> Floats:
        few = np.ascontiguousarray(features.T, np.float32)
        return np.asarray(self.booster.inplace_predict(few, validate_features=False), np.float64) + self.level


@dataclass(frozen=True, eq=False)
class ClassPredictor:
    """A booster of chances of classes."""

    booster: Any

    def of(self, features: Floats) -> Floats:
        few = np.ascontiguousarray(features.T, np.float32)
        found = np.asarray(self.booster.inplace_predict(few, validate_features=False), np.float64).T
        return np.asarray(found / found.sum(axis=0))  # of float32, whose sums are 1 to seven digits


Models = list[tuple[TreePredictor | ClassPredictor, ...]]
"""Of each target those of its folds, or one."""


@dataclass(frozen=True, eq=False)
class Boosting:
    """What boosters are trained on, and how.

    Parameters
    ----------
    model : XGBoost
    task : Task
    rows : Kept
        All of them, or the share of one who trains together with others.
    folds : int64 array (K,)
        Their numbers, of all rows.
    folder : Path, optional
        Where matrices are kept, instead of in memory; it exists.
    added : callable
        Given numbers (k,), returns their sums over all who train together.
    """

    model: XGBoost
    task: Task
    rows: Kept
    folds: Integers
    folder: Path | None = None
    added: Callable[[Floats], Floats] = np.asarray

    def trained(self) -> Models:
        """Return the models of each target, one for each fold if there are several.

        Raises
        ------
        PlanError
            A training set has no rows, one value of a binary target, or not all classes; or XGBoost refuses
            something.
        """
        try:
            return self._trained()
        except library().core.XGBoostError as error:
            raise PlanError(str(error).splitlines()[0], self.task.where, "so says XGBoost") from error

    def _trained(self) -> Models:
        found: dict[int, tuple[TreePredictor | ClassPredictor, ...]] = {}
        for sample in self._samples():
            used = self.rows.learnt[sample[0]]
            if not self.added(np.array([used.sum()], np.float64))[0]:
                raise no_rows(self.task.of(self.task.targets[sample[0]]))
            matrix = self._matrix(used, sample[0])
            for at in sample:
                outside = self.folds if len(self.folds) > 1 else [None]
                found[at] = tuple(self._booster(matrix, used, at, fold) for fold in outside)
            del matrix  # before there is the next one, and before the folder goes that it may live in
        return [found[at] for at in range(len(self.task.targets))]

    def _samples(self) -> list[list[int]]:
        """Return the targets that learn from the same rows, side by side."""
        learnt = self.rows.learnt
        differ = self.added(np.array([[(one != other).sum() for other in learnt] for one in learnt], np.float64))
        samples: dict[int, list[int]] = {}
        for at, others in enumerate(differ):
            samples.setdefault(int(np.argmin(others != 0)), []).append(at)
        return list(samples.values())

    def _matrix(self, used: NDArray[np.bool_], number: int) -> Any:
        xgboost = library()
        settings = {"max_bin": self.model.bins, "nthread": self.model.threads, "missing": np.nan}
        kind = xgboost.ExtMemQuantileDMatrix if self.folder else xgboost.QuantileDMatrix
        cache = str(self.folder / f"bins-{number}") if self.folder else None
        rows, nothing = self.rows, np.empty((0, len(self.task.features.names)), np.float32)

        class Feed(xgboost.DataIter):  # type: ignore[misc,name-defined]
            """Blocks, as often as XGBoost asks for them; who has no rows says how many features there are."""

            def __init__(self) -> None:
                self.blocks, self.told = rows.blocks(used), False
                super().__init__(cache_prefix=cache)

            def next(self, input_data: Any) -> bool:
                block = next(self.blocks, None if used.any() or self.told else nothing)
                self.told = True
                if block is not None:
                    input_data(data=block, label=np.zeros(len(block), np.float32))
                return block is not None

            def reset(self) -> None:
                self.blocks, self.told = rows.blocks(used), False

        return kind(Feed(), **settings)

    def _booster(
        self, matrix: Any, used: NDArray[np.bool_], at: int, fold: int | None
    ) -> TreePredictor | ClassPredictor:
        target, where = self.task.targets[at], self.task.of(self.task.targets[at])
        values, weight = self.rows.targets[at, used], self.rows.weights[at, used]
        if fold is not None:
            weight = weight * (self.rows.fold[used] != fold)
        mass, total = (float(one) for one in self.added(np.array([weight.sum(), weight @ values])))
        if not mass > 0:
            raise no_rows(where)
        if target.classes:
            numbers = values[weight > 0].astype(np.int64)
            counts = self.added(np.bincount(numbers, minlength=target.width).astype(np.float64))
            check_classes(np.flatnonzero(counts), target, where)
            loss = {"objective": "multi:softprob", "num_class": target.width}
            return ClassPredictor(self._boosted(matrix, values, weight, loss))
        level = total / mass
        if target.binary and not 0 < level < 1:
            raise PlanError(f"{target.name} is {level:g} in every row", where, "a chance is learnt from zeros and ones")
        centre = 0.0 if target.binary else level  # labels have seven digits, of which a large level would take most
        kind = "binary:logistic" if target.binary else "reg:squarederror"
        loss = {"objective": kind, "base_score": level - centre}
        return TreePredictor(self._boosted(matrix, values - centre, weight, loss), centre)

    def _boosted(self, matrix: Any, labels: Floats, weight: Floats, loss: dict[str, Any]) -> Any:
        matrix.set_label(labels.astype(np.float32))
        matrix.set_weight(weight.astype(np.float32))
        settings = {
            "tree_method": "hist",
            **loss,
            "max_depth": self.model.depth,
            "eta": self.model.learning_rate,
            "min_child_weight": self.model.min_child_weight,
            "lambda": self.model.penalty,
            "max_bin": self.model.bins,
            "nthread": self.model.threads,
        }
        booster = library().train(settings, matrix, num_boost_round=self.model.rounds)
        booster.set_param({"nthread": 1})
        return booster
