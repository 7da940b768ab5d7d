"""Targets of several classes: what is learnt of each by models that know numbers, and chances that add up to 1."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from iceblink.causal.models.fitted import Fitted, Predictor
from iceblink.causal.models.target import Target, Values
from iceblink.causal.models.task import Task
from iceblink.causal.moments import Floats

LEAST = 1e-300
"""No chance is less, so that of two that are none each is a half of both."""


@dataclass(frozen=True, eq=False)
class IsClass:
    """1 where a class has a number, else 0."""

    values: Values
    number: int

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.values.inputs

    def __call__(self, batch: pa.RecordBatch) -> Floats:
        values = self.values(batch)
        return np.where(np.isnan(values), np.nan, values == self.number)


@dataclass(frozen=True, eq=False)
class Together:
    """The predictions (J, n) of a model for each class."""

    models: tuple[Predictor, ...]

    def of(self, features: Floats) -> Floats:
        return np.stack([model.of(features) for model in self.models])


def each_class(task: Task) -> Task:
    """Return a task with a target of 0 and 1 for each class in the place of one of all of them."""
    targets: list[Target] = []
    for target in task.targets:
        if not target.classes:
            targets.append(target)
        for number, name in enumerate(target.classes):
            of = IsClass(target.values, number)
            targets.append(replace(target, of=of, binary=True, classes=(), name=f"{target.name} {name}"))
    return replace(task, targets=tuple(targets))


def together(
    fits: Sequence[Fitted],
    task: Task,
    kind: Callable[[tuple[Predictor, ...]], Predictor] = Together,
    parts_of: Callable[[Target], int] = lambda target: target.width,
) -> tuple[Fitted, ...]:
    """Return what was fitted to `each_class` of a task as what is fitted to the task.

    Parameters
    ----------
    fits : sequence of Fitted
    task : Task
    kind : callable
        Makes one predictor of classes of several of numbers.
    parts_of : callable
        Says how many of the fits are of a target.
    """
    found, rest = [], iter(fits)
    for target in task.targets:
        parts = [next(rest) for _ in range(parts_of(target))]
        if not target.classes:
            found += parts
            continue
        models = tuple(map(kind, zip(*(part.models for part in parts), strict=True)))
        dropped = dict.fromkeys(name for part in parts for name in part.dropped)
        found.append(replace(parts[0], models=models, dropped=tuple(dropped), width=target.width))
    return tuple(found)


def chances_of_all(said: Floats) -> Floats:
    """Return the chance (J, n) of each of some arms, those of a row adding up to 1.

    Parameters
    ----------
    said : float64 array (1, n) or (J, n)
        The chance of the second of two arms, or of each, as a model predicts it; models of numbers may leave [0, 1].
    """
    inside = np.clip(said, 0.0, 1.0)
    if len(inside) == 1:
        return np.concatenate([1 - inside, inside])
    inside = np.maximum(inside, LEAST)
    return np.asarray(inside / inside.sum(axis=0))
