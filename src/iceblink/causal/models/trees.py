"""Gradient-boosted trees of XGBoost, trained on features in bins, which are made of blocks as they come."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from iceblink.causal.models.fitted import Fitted
from iceblink.causal.models.gathering import gathered, without_targets
from iceblink.causal.models.linear import check_penalty
from iceblink.causal.models.task import Rows, Task, check_classes, no_rows
from iceblink.causal.moments import Floats, Integers
from iceblink.errors import ConfigError, PlanError
from iceblink.interop import optional

if TYPE_CHECKING:
    from iceblink.dataset import Dataset

Few = NDArray[np.float32]


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


@dataclass(frozen=True)
class XGBoost:
    """Gradient-boosted trees by XGBoost's histograms [1]_.

    They lower the logistic loss of a binary target, the multinomial one of classes (``multi:softprob``, with a tree for
    each in each round), and squares of others.

    Workers make blocks of float32 features, from which this process makes one matrix of bins, a byte for a value, and
    keeps folds, targets and weights, 8 bytes each for a row: the table is read four times, and never whole in memory.
    All models are trained on that matrix, with weight 0 for rows that are not theirs. So the edges of bins, which
    look at features alone, know of the rows left out; targets of these rows no model has seen. Training is done in this
    process, on Ray too. Features may lack values: a split learns where such rows go.

    Parameters
    ----------
    rounds : int
        Trees, one after the other.
    depth : int
        Of a tree.
    learning_rate : float
    min_child_weight : float
        The least sum of second derivatives in a leaf; of squares that is the rows' weight.
    penalty : float
        λ of the squares of leaves' values.
    bins : int
        A feature's, at most.
    threads : int
        Of training; 0 for one for each CPU. Sums in another number of threads have other last digits.
    on_disk : bool
        Keep the matrix of bins in a temporary folder instead of memory.

    Raises
    ------
    ConfigError
        A parameter is out of range, or xgboost is not installed.

    References
    ----------
    .. [1] Chen, Guestrin: XGBoost: A Scalable Tree Boosting System, KDD 2016.
    """

    rounds: int = 100
    depth: int = 4
    learning_rate: float = 0.1
    min_child_weight: float = 1.0
    penalty: float = 1.0
    bins: int = 256
    threads: int = 0
    on_disk: bool = False

    def __post_init__(self) -> None:
        optional("xgboost", "trees")
        check_penalty(self.penalty, "XGBoost")
        for name, least in (("rounds", 1), ("depth", 1), ("min_child_weight", 0), ("bins", 2), ("threads", 0)):
            if not getattr(self, name) >= least:
                raise ConfigError(f"{name} is {getattr(self, name)}", "XGBoost", f"{least} or more")
        if not 0 < self.learning_rate <= 1:
            raise ConfigError(f"learning_rate is {self.learning_rate}", "XGBoost", "it is above 0, and at most 1")

    def fit(self, data: Dataset, task: Task) -> tuple[Fitted, ...]:
        """Fit one for each target of a task, as `Model.fit` says. Eager: four passes (on disk three) and training.

        Raises
        ------
        PlanError
            Also where a training set has one value of a binary target, or lacks a class.
        """
        with tempfile.TemporaryDirectory(prefix="iceblink-bins-") as folder:
            blocks = _Blocks(data, task)
            matrix = self._matrix(blocks, Path(folder) / "bins")
            found = blocks.known(task)
            folds = np.unique(found.fold)
            task.check_folds(folds)
            fits = []
            for at, target in enumerate(task.targets):
                outside = folds if len(folds) > 1 else [None]
                models = tuple(self._trained(matrix, found, task, at, fold) for fold in outside)
                fits.append(Fitted(task.features, task.folds, folds, models, width=target.width))
            del matrix  # before the folder that it may live in
        return tuple(fits)

    def _matrix(self, blocks: _Blocks, folder: Path) -> Any:
        xgboost = optional("xgboost", "trees")
        settings = {"max_bin": self.bins, "nthread": self.threads, "missing": np.nan}
        kind = xgboost.ExtMemQuantileDMatrix if self.on_disk else xgboost.QuantileDMatrix
        cache = str(folder) if self.on_disk else None

        class Feed(xgboost.DataIter):  # type: ignore[misc,name-defined]
            """Blocks, as XGBoost asks for them: to its C callbacks an error is an end, which `reraise` undoes."""

            def __init__(self) -> None:
                super().__init__(cache_prefix=cache)

            def next(self, input_data: Any) -> bool:
                block = next(blocks, None)
                if block is not None:
                    input_data(data=block, label=np.zeros(len(block), np.float32))
                return block is not None

            def reset(self) -> None:
                blocks.again()

        try:
            return kind(Feed(), **settings)
        except xgboost.core.XGBoostError as error:
            if not blocks.kept:
                raise no_rows(blocks.task.where) from error
            raise PlanError(str(error).splitlines()[0], blocks.task.where, "so says XGBoost of the features") from error
        finally:
            blocks.again()

    def _trained(
        self, matrix: Any, found: Rows, task: Task, at: int, fold: int | None
    ) -> TreePredictor | ClassPredictor:
        target = task.targets[at]
        weight = found.weights[at] if fold is None else found.weights[at] * (found.fold != fold)
        mass = weight.sum()
        if not mass > 0:
            raise no_rows(task.of(target))
        if target.classes:
            check_classes(np.unique(found.targets[at, weight > 0]), target, task.of(target))
            objective = {"objective": "multi:softprob", "num_class": len(target.classes)}
            return ClassPredictor(self._boosted(matrix, found.targets[at], weight, objective))
        level = float(weight @ found.targets[at] / mass)
        if target.binary and not 0 < level < 1:
            raise PlanError(
                f"{target.name} is {level:g} in every row", task.of(target), "a chance is learnt from zeros and ones"
            )
        centre = 0.0 if target.binary else level  # labels have seven digits, of which a large level would take most
        kind = "binary:logistic" if target.binary else "reg:squarederror"
        objective = {"objective": kind, "base_score": level - centre}
        return TreePredictor(self._boosted(matrix, found.targets[at] - centre, weight, objective), centre)

    def _boosted(self, matrix: Any, labels: Floats, weight: Floats, objective: dict[str, Any]) -> Any:
        xgboost = optional("xgboost", "trees")
        matrix.set_label(labels.astype(np.float32))
        matrix.set_weight(weight.astype(np.float32))
        settings = {
            "tree_method": "hist",
            **objective,
            "max_depth": self.depth,
            "eta": self.learning_rate,
            "min_child_weight": self.min_child_weight,
            "lambda": self.penalty,
            "max_bin": self.bins,
            "nthread": self.threads,
        }
        booster = xgboost.train(settings, matrix, num_boost_round=self.rounds)
        booster.set_param({"nthread": 1})
        return booster


@dataclass(eq=False)
class _Blocks(Iterator[Few]):
    """Features (n, p) block by block, as often as is asked; what else rows have is kept of the first time.

    Parameters
    ----------
    data : Dataset
    task : Task
    """

    data: Dataset
    task: Task
    kept: list[Rows] = field(default_factory=list)
    whole: bool = False
    running: Iterator[Rows] | None = None

    def __next__(self) -> Few:
        if self.running is None:
            task = without_targets(self.task) if self.whole else self.task
            self.running = gathered(self.data, task, np.float32, gaps=True)
        rows = next(self.running, None)
        if rows is None:
            self.whole = True
            raise StopIteration
        if not self.whole:
            # Copies: a view keeps the memory that the features came in.
            targets, weights, learnt = (array.copy() for array in (rows.targets, rows.weights, rows.learnt))
            self.kept.append(_without_features(rows.fold.copy(), targets, weights, learnt))
        return np.ascontiguousarray(rows.features.T)

    def again(self) -> None:
        """Begin anew."""
        if self.running is not None:
            self.running.close()  # type: ignore[attr-defined]
        self.running = None
        if not self.whole:
            self.kept = []

    def known(self, task: Task) -> Rows:
        """Return folds, targets and weights of all rows."""
        if not self.kept:
            raise no_rows(task.where)
        fold: Integers = np.concatenate([rows.fold for rows in self.kept])
        targets, weights, learnt = (
            np.concatenate([getattr(rows, name) for rows in self.kept], axis=1)
            for name in ("targets", "weights", "learnt")
        )
        self.kept = []
        return _without_features(fold, targets, weights, learnt)


def _without_features(fold: Integers, *wide: Any) -> Rows:
    return Rows(fold, np.zeros((0, len(fold))), *wide)
