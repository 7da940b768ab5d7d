"""What an estimator says of a study: effects, means of potential outcomes, and what it did to the balance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from iceblink.causal.blas import one_thread
from iceblink.causal.estimates import Estimates
from iceblink.causal.moments import Floats
from iceblink.causal.observational.balance import Balance
from iceblink.causal.observational.stack import HEAVY, Means, Stack
from iceblink.causal.observational.study import Study
from iceblink.causal.passes import BLOCK_ROWS, moments
from iceblink.causal.sheet import Sheet
from iceblink.errors import DuplicateColumn, PlanError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from iceblink.dataset import Dataset

FEW = 0.1
"""Fewer effective rows than this part of the smallest arm's rows are worth a word."""


@dataclass(frozen=True, eq=False, repr=False)
class Effects(Estimates):
    """Effects of a treatment, each arm against the control, and the means of potential outcomes.

    Of two arms the effect has the estimand's name, ``ATE``; of more each has its arm's: ``ATE[high]``. Means are
    ``mean[arm]``. Tests and intervals are those of the normal distribution, with G clusters of Student's t of G - 1
    degrees of freedom.

    Parameters
    ----------
    warnings : tuple of str
        What a reader should know before believing it; `summary` shows them.
    study : Study, optional
    weighing : callable, optional
        Turns a dataset with the study's columns into one with a column of weights, of a given name.
    """

    warnings: tuple[str, ...] = ()
    study: Study | None = None
    weighing: Callable[[Dataset, str], Dataset] | None = None

    def weighted(self, column: str = "weight") -> Dataset:
        """Return the rows with a column of the weights by which arms were balanced: sampling weights are in them.

        Lazy; rows outside of the target population weigh 0.

        Raises
        ------
        DuplicateColumn
            The dataset has a column of this name.
        PlanError
            The estimator has no weights.
        """
        study, weighing = self._weighing()
        if column in study.data.columns:
            raise DuplicateColumn(f"there is a column {column!r} already", self.title, "weighted(column=...)")
        return weighing(study.data, column).select(*study.columns, column)

    def balance(self) -> Balance:
        """Compare the confounders of the arms before and after weighting. Eager: one pass.

        Raises
        ------
        PlanError
            The estimator has no weights.
        """
        study, weighing = self._weighing()
        data, name = study.needed(), "weight"
        while name in data.columns:
            name += "_"
        after = moments(weighing(data, name), study.reader.matrix, grouping=study.arms, weight=name, where=self.title)
        return Balance.of(study, self.title, after)

    def _weighing(self) -> tuple[Study, Callable[[Dataset, str], Dataset]]:
        if self.study is None or self.weighing is None:
            raise PlanError("it does not weight rows", self.title, "IPW, EntropyBalancing and IPWRA do")
        return self.study, self.weighing

    def sheet(self, level: float = 0.95) -> Sheet:
        """Return what `summary` and notebooks show, with warnings under it."""
        sheet = super().sheet(level)
        return replace(sheet, below=(*sheet.below, *(f"warning: {one}" for one in self.warnings)))

    def plot(self, ax: Axes | None = None, *, names: Sequence[str] | None = None, level: float = 0.95) -> Axes:
        """Draw effects and their intervals, as `Estimates.plot`; by default without the means of outcomes."""
        effects = [name for name in self.names if not name.startswith("mean[")]
        return super().plot(ax, names=effects if names is None else names, level=level)


def _listed(words: Sequence[str]) -> str:
    return " and ".join(part for part in (", ".join(words[:-1]), words[-1]) if part)


@dataclass(frozen=True)
class RowWeights:
    """Gives rows the weights of a stack."""

    stack: Stack

    def __call__(self, data: Dataset, name: str) -> Dataset:
        schema = pa.schema([*data.schema, pa.field(name, pa.float64())])
        return data.map_batches(_Weighed(self.stack, name), schema=schema, batch_size=BLOCK_ROWS)


@dataclass(frozen=True)
class _Weighed:
    stack: Stack
    name: str

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        with one_thread():
            rows = self.stack.reader.rows(batch)
            weights = self.stack.weights(rows)
        assert weights is not None
        return pa.RecordBatch.from_arrays(
            [*batch.columns, pa.array(weights * rows.weight)], names=[*batch.schema.names, self.name]
        )


def contrasts(estimand: str, arms: tuple[str, ...]) -> tuple[tuple[str, ...], Floats]:
    """Return the names of effects and means, and what makes them of the means (J - 1 + J, J)."""
    others = len(arms) - 1
    effects = np.concatenate([np.full((others, 1), -1.0), np.eye(others)], axis=1)
    named = (estimand,) if others == 1 else tuple(f"{estimand}[{arm}]" for arm in arms[1:])
    return (*named, *(f"mean[{arm}]" for arm in arms)), np.concatenate([effects, np.eye(others + 1)])


def effects_of(
    title: str,
    estimand: str,
    study: Study,
    means: Means,
    facts: dict[str, Any],
    dropped: tuple[str, ...],
    weighing: Callable[[Dataset, str], Dataset] | None,
) -> Effects:
    """Return what the means of potential outcomes say of effects, and what a reader should know of the weights."""
    arms = study.arms
    names, turned = contrasts(estimand, arms.names)
    warnings = []
    if weighing is not None:
        facts = {**facts, "effective rows": _listed([f"{rows:,.0f}" for rows in means.effective])}
        warnings += [
            f"the weights of {arms.column} {arm} leave {effective:,.0f} effective rows of {rows:,}: little overlap"
            for arm, effective, rows in zip(arms.names, means.effective, study.found.rows, strict=True)
            if effective < FEW * study.found.rows.min()
        ]
    if means.heavy:
        warnings.append(
            f"{means.heavy:,} rows stand for more than {HEAVY:g} each: trim them, or ask for the ATT or ATO"
        )
    return Effects(
        title=title,
        names=names,
        values=turned @ means.values,
        covariance=turned @ means.covariance @ turned.T,
        convention=means.convention,
        rows=study.rows,
        freedom=means.freedom,
        dropped=dropped,
        facts=facts,
        provenance=study.provenance,
        warnings=tuple(warnings),
        study=study,
        weighing=weighing,
    )
