"""Coarsened exact matching: rows of the same cell are compared, and cells without both arms are left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from iceblink.causal.blas import one_thread
from iceblink.causal.matrix import Category, Number, floats
from iceblink.causal.moments import Floats
from iceblink.causal.observational.adjusting import MODELLED
from iceblink.causal.observational.effects import Effects, effects_of
from iceblink.causal.observational.problem import Problem
from iceblink.causal.observational.stack import Means
from iceblink.causal.observational.strata import check_plain
from iceblink.causal.observational.study import Reader, Study
from iceblink.causal.observational.target import Estimand, Target, check_target
from iceblink.causal.passes import BLOCK_ROWS, summed
from iceblink.causal.regression.design import quoted
from iceblink.causal.sums import Sums
from iceblink.causal.whole import check_whole
from iceblink.errors import ConfigError, PlanError

if TYPE_CHECKING:
    from iceblink.dataset import Dataset

Bins = int | Sequence[float]
ARM, LEFT, CELL = "__arm", "__left", "__cell{}"


@dataclass(frozen=True)
class CoarsenedMatching:
    """Coarsened exact matching [1]_: a cell is a bin of each number and a level of each category.

    The mean of an arm is Σ π_c ȳ_jc, π_c being the part of the target population in cell c. What is estimated is the
    effect on the population that the compared rows are drawn from. So the variance has two parts: that of outcomes
    within cells, Σ π_c² s²_jc / n_jc as of strata [2]_, and that of which cells the rows are drawn from, the spread of
    cells' means about Σ π_c ȳ_jc over the target rows, less what is noise in it. A cell with a single row of an arm has
    the arm's variance within the other cells. Rows of cells that lack an arm are left out, which changes the
    population: ``facts`` say how many are in it.

    Parameters
    ----------
    bins : mapping of column to int or sequence of float, optional
        Of a number how many bins of equal width, or the bounds between them: a bound belongs to the bin above. Default:
        as many as Sturges says, ⌈log₂ n⌉ + 1.
    estimand : {"ATT", "ATE", "ATC"}

    References
    ----------
    .. [1] Iacus, King, Porro: Causal inference without balance checking: coarsened exact matching, Political Analysis
       2012.
    .. [2] Imbens, Rubin: Causal Inference for Statistics, Social, and Biomedical Sciences, 2015, section 17.5.
    """

    bins: Mapping[str, Bins] = field(default_factory=dict)
    estimand: Estimand = "ATT"

    def __post_init__(self) -> None:
        check_target(self.estimand, None, "CoarsenedMatching", MODELLED)
        for column, bins in self.bins.items():
            if np.ndim(bins) == 0:
                check_whole("CoarsenedMatching", **{f"bins of {column}": bins})
            if (bins < 1) if isinstance(bins, int | np.integer) else not (len(bins) and (np.diff(bins) > 0).all()):
                raise ConfigError(f"bins of {column} are {bins}", "CoarsenedMatching", "a number, or ascending bounds")

    def fit(self, problem: Problem) -> Effects:
        """Estimate it. Eager: two passes, and two for what the problem's estimators share.

        Raises
        ------
        ColumnNotFound, TypeMismatch, QueryError
        PlanError
            A confounder is a product or an expression, bins name a column that is none, no cell has both arms or two
            rows of one, or there are more than two arms, weights or clusters.
        """
        title, study = f"CoarsenedMatching of {problem}", problem.study
        check_plain(study, title)
        cells = _Cells.of(study, self.bins, Target(self.estimand).arm, title)
        found = summed(cells.counted(study.needed()), _CellSums())
        mass, wide = float(found["mass"]), "take wider bins, or fewer confounders"
        if not mass > 0:
            raise PlanError("no cell has both arms", title, wide)
        lone = [name for name, rows in zip(study.arms.names, found["freedom"], strict=True) if not rows > 0]
        if lone:
            raise PlanError(f"no cell has two rows of {study.arms.column} {lone[0]}", title, wide)
        solved = Means(
            values=study.means + found["means"] / mass,
            covariance=_covariance(found, mass),
            convention="variances within cells and between them, divisor n - 1",
            effective=mass**2 / found["weights"],
            heavy=0,
        )
        facts = {"cells": int(found["cells"]), "rows compared": int(found["rows"])}
        return effects_of(title, self.estimand, study, solved, facts, (), cells)


@dataclass(frozen=True, eq=False)
class _Cells:
    """How rows fall into cells; also what gives them the weight of their cell and arm.

    Parameters
    ----------
    reader : Reader
    means : float64 array (2,)
        The mean outcome of each arm: outcomes are taken less these.
    keys : tuple of str
        SQL expressions.
    arm : int or None
        Whose rows a cell is weighted to; None for all.
    """

    reader: Reader
    means: Floats
    keys: tuple[str, ...]
    arm: int | None

    @classmethod
    def of(cls, study: Study, bins: Mapping[str, Bins], arm: int | None, where: str) -> _Cells:
        terms = study.reader.matrix.terms[1:]
        numbers = [term.column for term in terms if isinstance(term, Number) and term.column in study.columns]
        exact = [term.column for term in terms if isinstance(term, Category)]
        if len(numbers) + len(exact) < len(terms):
            raise PlanError("cells are of columns, not of products or expressions", where, "name columns and i(column)")
        for column in bins:
            if column not in numbers:
                raise PlanError(
                    f"bins name {column!r}, which is no number among the confounders",
                    where,
                    f"numbers are {', '.join(numbers) or 'none'}; categories are as they are",
                )
        bounds = {column: _bounds(study, column, bins.get(column)) for column in numbers}
        schema = study.data.schema
        keys = [*(_binned(_as_number(schema.field(column)), at) for column, at in bounds.items()), *map(quoted, exact)]
        return cls(study.reader, study.means, tuple(keys), arm)

    def counted(self, data: Dataset) -> Dataset:
        """Return a row for each cell: how many rows of each arm, their outcomes' sums, their squares' sums."""
        coded = self._coded(data)
        parts = ", ".join(
            f"sum(CASE WHEN {ARM} = {arm} THEN {what} ELSE 0 END) AS {name}{arm}"
            for arm in (0, 1)
            for name, what in (("n", "1e0"), ("s", LEFT), ("q", f"{LEFT} * {LEFT}"))
        )
        by = ", ".join(CELL.format(at) for at in range(len(self.keys)))
        target = f"n{self.arm}" if self.arm is not None else "n0 + n1"
        return coded.sql(f"SELECT *, {target} AS target FROM (SELECT {parts} FROM this GROUP BY {by}) AS cells")

    def __call__(self, data: Dataset, name: str) -> Dataset:
        """Return the rows with a column of weights."""
        columns = ", ".join(map(quoted, data.columns))
        by = ", ".join(CELL.format(at) for at in range(len(self.keys)))
        counts = ", ".join(
            f"sum(CASE WHEN {ARM} = {arm} THEN 1e0 ELSE 0e0 END) OVER (PARTITION BY {by}) AS __n{arm}" for arm in (0, 1)
        )
        target = f"__n{self.arm}" if self.arm is not None else "__n0 + __n1"
        return self._coded(data).sql(
            f"SELECT {columns}, CASE WHEN __n0 > 0 AND __n1 > 0 THEN ({target}) / CASE WHEN {ARM} = 1 THEN __n1 "
            f"ELSE __n0 END ELSE 0e0 END AS {quoted(name)} FROM (SELECT *, {counts} FROM this) AS counted"
        )

    def _coded(self, data: Dataset) -> Dataset:
        """Return rows with their cell's keys, their arm, and their outcome less its mean."""
        schema = pa.schema([*data.schema, pa.field(ARM, pa.int32()), pa.field(LEFT, pa.float64())])
        keys = ", ".join(f"{key} AS {CELL.format(at)}" for at, key in enumerate(self.keys))
        coded = data.map_batches(_Coded(self.reader, self.means), schema=schema, batch_size=BLOCK_ROWS)
        return coded.sql(f"SELECT *, {keys} FROM this")


@dataclass(frozen=True)
class _Coded:
    reader: Reader
    means: Floats

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        rows = self.reader.rows(batch)
        added = [pa.array(rows.arm, pa.int32()), pa.array(rows.outcome - self.means[rows.arm])]
        return pa.RecordBatch.from_arrays([*batch.columns, *added], names=[*batch.schema.names, ARM, LEFT])


@dataclass(frozen=True)
class _CellSums:
    """Sums over those cells that have both arms: T_c is the target population in a cell, m_jc an arm's mean outcome.

    ``mass`` Σ T, ``means`` Σ T m_j, ``pairs`` Σ T m_j m_k; ``within`` is Σ T² s²_j / n_j and Σ T s²_j / n_j over cells
    with several rows of the arm, ``single`` Σ T² and Σ T over those with one; ``left`` and ``freedom`` are the squares
    that are left within cells, and their divisor; ``weights`` is Σ T² / n_j, the sum of rows' squared weights.
    """

    def __call__(self, batch: pa.RecordBatch) -> Sums:
        cells = {name: floats(batch.column(name)).astype(np.float64) for name in batch.schema.names}
        both = (cells["n0"] > 0) & (cells["n1"] > 0)
        cells = {name: values[both] for name, values in cells.items()}
        rows, sums, squares = (np.array([cells[f"{what}{arm}"] for arm in (0, 1)]) for what in "nsq")  # (2, cells)
        target, means, one = cells["target"], sums / rows, rows == 1
        left = np.where(one, 0.0, np.maximum(squares - sums * means, 0.0))
        variance = left / np.maximum(rows - 1, 1) / rows
        with one_thread():
            return Sums(
                {
                    "mass": np.array(target.sum()),
                    "means": means @ target,
                    "pairs": (means * target) @ means.T,
                    "within": np.array([variance @ target**2, variance @ target]),
                    "single": np.array([one @ target**2, one @ target]),
                    "left": left.sum(axis=1),
                    "freedom": (rows - 1).sum(axis=1),
                    "weights": (target**2 / rows).sum(axis=1),
                    "rows": np.array(rows.sum()),
                    "cells": np.array(float(both.sum())),
                }
            )


def _covariance(found: Sums, mass: float) -> Floats:
    """Return the covariance (2, 2) of the arms' means: within cells, and of which cells are drawn."""
    pooled = found["left"] / found["freedom"]
    squared, plain = found["within"] + pooled * found["single"]
    within = squared / mass**2
    means = found["means"] / mass
    spread = found["pairs"] / mass - np.outer(means, means) - np.diag(plain / mass - within)
    values, vectors = np.linalg.eigh(spread)  # less the noise, a spread may come out below none
    return np.asarray(np.diag(within) + (vectors * np.maximum(values, 0.0)) @ vectors.T / mass)


def _bounds(study: Study, column: str, bins: Bins | None) -> list[float]:
    """Return the bounds between the bins of a number."""
    if bins is not None and not isinstance(bins, int | np.integer):
        return [float(bound) for bound in bins if np.isfinite(bound)]  # beyond an infinite one there is nothing
    count = bins or int(np.ceil(np.log2(study.rows))) + 1
    name: Any = f"CAST({quoted(column)} AS DOUBLE)"
    # without the condition the kernel answers from statistics, which may hold NaN: a bare max of floats is one then
    found = study.data.sql(f"SELECT min({name}) AS low, max({name}) AS high FROM this WHERE isfinite({name})")
    (ends,) = found.to_pylist()
    return [float(bound) for bound in np.linspace(ends["low"], ends["high"], count + 1)[1:-1]]


def _as_number(column: pa.Field) -> str:
    """Return an expression for a column that may be compared with numbers, which true and false may not."""
    name = quoted(column.name)
    return f"CAST({name} AS DOUBLE)" if pa.types.is_boolean(column.type) else name


def _binned(number: str, bounds: list[float]) -> str:
    """Return an expression for the number of the bin that a number is in."""
    cases = " ".join(f"WHEN {number} < {bound!r} THEN {at}" for at, bound in enumerate(bounds))
    return f"CASE {cases} ELSE {len(bounds)} END" if bounds else "0"
