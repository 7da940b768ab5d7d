"""Rows less what fixed effects explain of them: the within-transformation, of one effect or of several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from iceblink.causal.matrix import Matrix, Number, floats
from iceblink.causal.moments import Floats
from iceblink.causal.passes import BLOCK_ROWS, Missing
from iceblink.causal.regression.design import quoted
from iceblink.errors import ColumnNotFound, PlanError, QueryError

if TYPE_CHECKING:
    from iceblink.dataset import Dataset

BatchFunction = Callable[[pa.RecordBatch], pa.RecordBatch]

MOST_ROUNDS = 16
"""Singletons are looked for again so often at most: those that stay change degrees of freedom, and no coefficient."""


@dataclass(frozen=True, eq=False)
class Keyed:
    """Rows as columns of numbers, beside the keys that say what they belong to.

    Parameters
    ----------
    data : Dataset
        Lazy: a column of float64 for each of `columns`, then one for each of `keys`, as the table has it.
    columns, keys : tuple of str
    effects : tuple of str
        The keys that are absorbed; after `without_singletons` the one with the most levels first.
    weight : str or None
        The key that is a weight.
    levels : tuple of int
        How many each effect has.
    rows, singletons : int
        How many there are, and how many were left out since they were alone in a level.
    """

    data: Dataset
    columns: tuple[str, ...]
    keys: tuple[str, ...]
    effects: tuple[str, ...]
    weight: str | None
    levels: tuple[int, ...] = ()
    rows: int = 0
    singletons: int = 0

    @property
    def matrix(self) -> Matrix:
        """The columns as a matrix."""
        return Matrix(tuple(map(Number, self.columns)))

    @property
    def schema(self) -> pa.Schema:
        """The columns and the keys."""
        kinds = self.data.schema
        return pa.schema([*(pa.field(name, pa.float64()) for name in self.columns), *map(kinds.field, self.keys)])

    @classmethod
    def of(
        cls,
        data: Dataset,
        matrix: Matrix,
        effects: Sequence[str],
        clusters: Sequence[str],
        weight: str | None,
        missing: Missing,
        where: str,
    ) -> Keyed:
        """Bring columns and keys of a dataset together. Lazy; names and types are checked here.

        Raises
        ------
        ColumnNotFound, TypeMismatch
        """
        keys = tuple(dict.fromkeys((*effects, *clusters, *([weight] if weight else ()))))
        for key in keys:
            if key not in data.schema.names:
                raise ColumnNotFound.of(key, data.schema.names, where)
        if weight is not None:
            Number(weight).check(data.schema, where)
        columns = tuple(f"{name} (within)" for name in matrix.names)
        shaped = cls(data, columns, keys, tuple(effects), weight)
        needed = dict.fromkeys((*matrix.inputs, *keys))
        made = data.select(*needed).map_batches(
            _Rows(matrix, keys, weight, missing, where, shaped.schema), schema=shaped.schema, batch_size=BLOCK_ROWS
        )
        return replace(shaped, data=made)

    def without_singletons(self) -> Keyed:
        """Leave out rows that are alone in a level of an effect, again until there are none [1]_.

        Eager: groups the rows by each effect in each round. Such a row is explained by its own level, and would only be
        counted where clusters are.

        References
        ----------
        .. [1] Correia: Singletons, cluster-robust standard errors and fixed effects: a bad mix, 2015.
        """
        found, first = self, 0
        for round_ in range(MOST_ROUNDS + 1):
            sizes = [_sizes(found.data, effect) for effect in self.effects]
            rows = sizes[0][1]
            first = first or rows
            if round_ == MOST_ROUNDS or not any(alone for _, _, alone in sizes):
                order = sorted(range(len(sizes)), key=lambda at: -sizes[at][0])
                return replace(
                    found,
                    effects=tuple(self.effects[at] for at in order),
                    levels=tuple(sizes[at][0] for at in order),
                    rows=rows,
                    singletons=first - rows,
                )
            lonely = [effect for effect, (_, _, alone) in zip(self.effects, sizes, strict=True) if alone]
            counts = ", ".join(
                f"count(*) OVER (PARTITION BY {quoted(effect)}) AS {quoted(f'rows of {effect}')}" for effect in lonely
            )
            several = " AND ".join(f"{quoted(f'rows of {effect}')} > 1" for effect in lonely)
            names = ", ".join(map(quoted, self.schema.names))
            found = replace(
                found, data=found.data.sql(f"SELECT {names} FROM (SELECT *, {counts} FROM this) WHERE {several}")
            )
        raise AssertionError("the last round returns")

    def within(self, effect: str) -> Keyed:
        """Subtract from the columns their means over the rows of a level. Lazy.

        Means are weighted. One query: the rows of a level are brought together once, on disk where they are many.
        """
        over = f"OVER (PARTITION BY {quoted(effect)})"

        def mean(name: str) -> str:
            if self.weight is None:
                return f"avg({quoted(name)}) {over}"
            weight = f"CAST({quoted(self.weight)} AS DOUBLE)"
            return f"sum({quoted(name)} * {weight}) {over} / sum({weight}) {over}"

        centred = [f"{quoted(name)} - {mean(name)} AS {quoted(name)}" for name in self.columns]
        chosen = ", ".join([*centred, *map(quoted, self.keys)])
        return replace(self, data=self.data.sql(f"SELECT {chosen} FROM this"))

    def mapped(self, function: BatchFunction, beside: Sequence[str] = ()) -> Keyed:
        """Call a function that gives other columns, `beside` after them, and the same keys. Lazy."""
        made = replace(self, columns=(*self.columns, *beside))
        return replace(made, data=self.data.map_batches(function, schema=made.schema, batch_size=BLOCK_ROWS))


@dataclass(frozen=True, eq=False)
class Levels:
    """The levels of some effects, numbered from 0 on, one effect after the other.

    Parameters
    ----------
    effects : tuple of str
    values : tuple of Array
        The values of each effect.
    """

    effects: tuple[str, ...]
    values: tuple[pa.Array, ...]

    @classmethod
    def of(cls, rows: Keyed, effects: Sequence[str], most: int, where: str) -> Levels:
        """Read them. Eager.

        Raises
        ------
        PlanError
            There are more than `most`.
        """
        count = sum(rows.levels[rows.effects.index(effect)] for effect in effects)
        if count > most:
            raise PlanError(
                f"{' and '.join(effects)} have {count:,} levels",
                where,
                f"all effects but the largest may have {most:,} together, which are kept in memory",
            )
        found = [rows.data.select(effect).distinct().to_arrow().column(effect) for effect in effects]
        arrays = [one.combine_chunks() for one in found]
        return cls(tuple(effects), tuple(one.take(pc.sort_indices(one)) for one in arrays))

    def __len__(self) -> int:
        return sum(map(len, self.values))

    def codes(self, batch: pa.RecordBatch) -> list[NDArray[np.int64]]:
        """Return for each effect the numbers of its levels that the rows of a batch have."""
        begins = np.cumsum([0, *map(len, self.values)])
        return [
            pc.index_in(batch.column(effect), values).to_numpy().astype(np.int64) + begin
            for effect, values, begin in zip(self.effects, self.values, begins, strict=False)
        ]


def _sizes(data: Dataset, effect: str) -> tuple[int, int, int]:
    """Return how many levels an effect has, how many rows, and how many levels of one row."""
    found = data.sql(
        "SELECT count(*) AS levels, coalesce(sum(n), 0)::BIGINT AS n, count(CASE WHEN n = 1 THEN 1 END) AS alone "
        f"FROM (SELECT count(*) AS n FROM this GROUP BY {quoted(effect)})"
    ).to_arrow()
    levels, rows, alone = (int(found.column(name)[0].as_py()) for name in ("levels", "n", "alone"))
    return levels, rows, alone


@dataclass(frozen=True, eq=False)
class _Rows:
    """Rows of a table become columns and keys; those that lack a value are left out, or an error."""

    matrix: Matrix
    keys: tuple[str, ...]
    weight: str | None
    missing: Missing
    where: str
    schema: pa.Schema

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        values = self.matrix.filled(batch)
        lacking = {name: ~np.isfinite(row) for name, row in zip(self.matrix.names, values, strict=True)}
        for key in self.keys:
            null = batch.column(key).is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
            lacking[key] = lacking.get(key, False) | null
        if self.weight is not None:
            weight = floats(batch.column(self.weight)).astype(np.float64)
            if (weight <= 0).any():
                raise QueryError(
                    f"weight {self.weight!r} is {weight[weight <= 0][0]:g}", self.where, "weights are above 0: filter"
                )
        whole = ~np.logical_or.reduce(list(lacking.values()))
        if not whole.all() and self.missing == "raise":
            name, rows = max(lacking.items(), key=lambda one: int(one[1].sum()))
            raise QueryError(
                f"{name} is missing in {int(rows.sum()):,} of {batch.num_rows:,} rows",
                self.where,
                'filter the rows, fill them by mutate, or say missing="drop" to leave out rows that lack a value',
            )
        kept = batch.select(list(self.keys)).filter(pa.array(whole))
        return pa.RecordBatch.from_arrays([*map(pa.array, values[:, whole]), *kept.columns], schema=self.schema)


def columns_of(batch: pa.RecordBatch, names: Sequence[str]) -> Floats:
    """Return columns of a batch (p, n)."""
    return np.stack([floats(batch.column(name)) for name in names]).astype(np.float64)
