"""Gradient-boosted trees of XGBoost, trained on features in bins, which are made of blocks as they come."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from iceblink.causal.models.boosting import Boosting, Models, library
from iceblink.causal.models.fitted import Fitted
from iceblink.causal.models.gathering import kept
from iceblink.causal.models.linear import check_penalty
from iceblink.causal.models.task import Task
from iceblink.causal.models.together import trained_together
from iceblink.causal.moments import Integers
from iceblink.causal.whole import check_whole_fields
from iceblink.errors import ConfigError

if TYPE_CHECKING:
    from iceblink.dataset import Dataset


@dataclass(frozen=True)
class XGBoost:
    """Gradient-boosted trees by XGBoost's histograms [1]_.

    They lower the logistic loss of a binary target, the multinomial one of classes (``multi:softprob``, with a tree for
    each in each round), and squares of others.

    Workers make blocks of float32 features, which this process writes to a file in the engine's ``spill_dir``, 4 bytes
    a value, and of which it keeps folds, targets and weights, 8 bytes each for a row: the table is read once, and never
    whole in memory. Of the rows that a target learns from a matrix of bins is made, a byte for a value; targets of the
    same rows, an outcome and a treatment for example, share one, and there is one at a time. Models for folds are
    trained on it with weight 0 for rows that are left out: edges of bins, which look at features alone, know of these
    rows; their targets no model has seen. Training is done in this process, on Ray too. Features may lack values: a
    split learns where such rows go.

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
        Of training; 0 for one for each CPU, of several workers one for each of them. Sums in another number of threads
        have other last digits.
    on_disk : bool
        Keep the matrix of bins in a temporary folder instead of memory; of one worker alone.
    workers : int
        Who train together, each on its share of the rows: 1 is this process. More are processes of a `RayEngine`, which
        reserves `threads` CPUs for each. Rows go to them from those who read, into a file in the temporary folder of
        each. Edges of bins, which several make together, are a little different for each number of workers, and so are
        trees.

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
    workers: int = 1

    def __post_init__(self) -> None:
        library()
        check_whole_fields(self, "XGBoost")
        check_penalty(self.penalty, "XGBoost")
        leasts = {"rounds": 1, "depth": 1, "min_child_weight": 0, "bins": 2, "threads": 0, "workers": 1}
        for name, least in leasts.items():
            if not getattr(self, name) >= least:
                raise ConfigError(f"{name} is {getattr(self, name)}", "XGBoost", f"{least} or more")
        if not 0 < self.learning_rate <= 1:
            raise ConfigError(f"learning_rate is {self.learning_rate}", "XGBoost", "it is above 0, and at most 1")
        if self.on_disk and self.workers > 1:
            raise ConfigError("on_disk is of one worker", "XGBoost", "more workers have more memory: on_disk=False")

    def fit(self, data: Dataset, task: Task) -> tuple[Fitted, ...]:
        """Fit one for each target of a task, as `Model.fit` says. Eager: one pass, and all of the training.

        Raises
        ------
        QueryError
            Also where a number is too large for float32.
        PlanError
            Also where a training set has one value of a binary target, or lacks a class.
        WriteError
            The disk that features are written to is full.
        ConfigError
            The engine has not so many workers, or no room for all of them.
        FunctionError
            One of several workers died: none is left, and the fit can be tried again.
        """
        if self.workers > 1:
            folds, models = trained_together(self, data, task)
            return _fitted(task, folds, models)
        rows = kept(data, task)
        folds = np.unique(rows.fold)
        task.check_folds(folds)
        if not self.on_disk:
            return _fitted(task, folds, Boosting(self, task, rows, folds).trained())
        with tempfile.TemporaryDirectory(prefix="iceblink-bins-") as folder:
            return _fitted(task, folds, Boosting(self, task, rows, folds, Path(folder)).trained())


def _fitted(task: Task, folds: Integers, models: Models) -> tuple[Fitted, ...]:
    pairs = zip(task.targets, models, strict=True)
    return tuple(Fitted(task.features, task.folds, folds, own, width=target.width) for target, own in pairs)
