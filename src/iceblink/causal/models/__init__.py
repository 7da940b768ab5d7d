"""Models of nuisances and of effects, fitted to a whole table: ``ci.models.Linear()``, ``ci.models.XGBoost()``.

A model here is a plain value that says what is to be fitted. `fit` takes a task (features, targets, folds) and gives
one `Fitted` for each target, which predicts for a batch of rows: with folds by models of the other folds.
"""

from __future__ import annotations

from iceblink.causal.models.estimator import SkLearn
from iceblink.causal.models.fitted import Fitted, Model, Predictor, fit_all, predictions
from iceblink.causal.models.linear import Linear
from iceblink.causal.models.logistic import Logistic
from iceblink.causal.models.pairwise import Pairwise
from iceblink.causal.models.target import Column, Equals, Target, Values
from iceblink.causal.models.task import Task
from iceblink.causal.models.trees import XGBoost

__all__ = [
    "Linear", "Logistic", "XGBoost", "SkLearn", "Pairwise",
    "Model", "Task", "Target", "Values", "Column", "Equals", "Fitted", "Predictor", "fit_all", "predictions",
]  # fmt: skip
