"""Moments that are kept with the version of the table that they are of, and follow it by reading what changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from iceblink.causal.formula import Levels
from iceblink.causal.matrix import Matrix
from iceblink.causal.moments import SCHEMA as MOMENTS
from iceblink.causal.moments import Floats, Moments
from iceblink.causal.passes import Grouping, Missing, moments
from iceblink.causal.regression.design import levels_of
from iceblink.causal.versions import Source, changed, one_row
from iceblink.errors import PlanError

if TYPE_CHECKING:
    from iceblink.dataset import Dataset

BOUND = 1e-10
"""Sums of squares of which rounding may have taken a larger part than this are computed anew."""
ROUNDING = 4 * np.finfo(np.float64).eps
LEAST_WEIGHT = 1e-6
"""A group that keeps a smaller part of its weight than this is computed anew."""

SCHEMA = pa.schema(
    [
        ("subject", pa.string()),
        ("table_uuid", pa.string()),
        ("snapshot_id", pa.int64()),
        ("statement", pa.string()),
        ("refreshes", pa.int64()),
        ("categories", pa.list_(pa.struct({"column": pa.string(), "reference": pa.string()}))),
        ("levels", pa.list_(pa.list_(pa.string()))),
        ("columns", pa.list_(pa.string())),
        *MOMENTS,
        ("noise", pa.list_(pa.float64())),
    ]
)
"""Of saved moments as one row."""


@dataclass(frozen=True, eq=False)
class Question:
    """What is asked of the rows of a dataset.

    Parameters
    ----------
    data : Dataset
    matrix : Matrix
    grouping : Grouping or None
    weight : str or None
    missing : {"raise", "drop"}
    levels : mapping of Levels to Array
        The values of the matrix' categories.
    """

    data: Dataset
    matrix: Matrix
    grouping: Grouping | None = None
    weight: str | None = None
    missing: Missing = "raise"
    levels: Mapping[Levels, pa.Array] = field(default_factory=dict)

    @property
    def subject(self) -> str:
        """What it is about besides columns: moments of another subject do not add up with these."""
        return f"weight {self.weight}, missing {self.missing}, groups {self.grouping}"

    def answer(self, where: str) -> Moments:
        """Read the dataset. Eager. Raises what `passes.moments` raises."""
        return moments(
            self.data, self.matrix, grouping=self.grouping, weight=self.weight, missing=self.missing, where=where
        )


Asks = Callable[["Dataset", Mapping[Levels, pa.Array] | None], Question]
"""Asks a model's question of a dataset, which has these levels of categories, or those that it is read for."""


@dataclass(frozen=True, eq=False, repr=False)
class SavedMoments:
    """What a linear model needs of a table's rows, at a version of the table; made by a model's ``moments``.

    A few kilobytes, from which the model is fitted without those rows. `to_arrow` is a row of a table, to be written to
    the lake or anywhere, and `from_arrow` brings it back. A model's ``moments(data, saved=...)`` reads what changed
    since.

    Parameters
    ----------
    subject : str
        What besides columns is asked: weights, folds.
    source : Source
        Table, snapshot and statement.
    levels : mapping of Levels to Array
        The values of categories, the reference first; texts where they come back from a table.
    moments : Moments
    noise : float64 array (p,)
        How far refreshing may have moved the columns' sums of squares by rounding, at most.
    refreshes : int
        How often changes were read since the whole table was.
    """

    subject: str
    source: Source
    levels: Mapping[Levels, pa.Array]
    moments: Moments
    noise: Floats
    refreshes: int = 0

    def __repr__(self) -> str:
        at = f"{self.rows:,} rows at snapshot {self.snapshot_id}, refreshed {self.refreshes} times"
        return f"moments of {', '.join(self.moments.columns)}: {at}"

    @property
    def snapshot_id(self) -> int | None:
        """The snapshot of the table that they are of; None of an empty table."""
        return self.source.snapshot_id

    @property
    def rows(self) -> int:
        """How many rows they are of."""
        return int(self.moments.rows.sum())

    def to_arrow(self) -> pa.Table:
        """Return them as one row."""
        (row,) = self.moments.to_batch().to_pylist()
        row |= {
            "subject": self.subject,
            "table_uuid": self.source.table,
            "snapshot_id": self.source.snapshot_id,
            "statement": self.source.statement,
            "refreshes": self.refreshes,
            "categories": [{"column": one.column, "reference": one.reference} for one in self.levels],
            "levels": [values.cast(pa.string()).to_pylist() for values in self.levels.values()],
            "columns": list(self.moments.columns),
            "noise": self.noise.tolist(),
        }
        return pa.Table.from_pylist([row], SCHEMA)

    @classmethod
    def from_arrow(cls, rows: pa.Table) -> Self:
        """Return what `to_arrow` gave.

        Raises
        ------
        PlanError
            There is not one row, or it has other columns.
        """
        batch = one_row(rows, SCHEMA, "SavedMoments")
        row: dict[str, Any] = {
            name: batch.column(name)[0].as_py() for name in SCHEMA.names if name not in MOMENTS.names
        }
        (found,) = Moments.from_batch(row["columns"], batch.select(MOMENTS.names))
        levels = {
            Levels(**one): pa.array(values, pa.string())
            for one, values in zip(row["categories"], row["levels"], strict=True)
        }
        source = Source(row["table_uuid"], row["snapshot_id"], row["statement"])
        return cls(row["subject"], source, levels, found, np.array(row["noise"]), row["refreshes"])


def saved_moments(data: Dataset, asks: Asks, saved: SavedMoments | None, where: str) -> SavedMoments:
    """Return the moments of a dataset at its version, by what changed since others were saved where that is less.

    Eager. All rows are read where none were saved, where more rows came and went than there are, where categories have
    levels that they had not or no more that with which others are compared, and where rounding would take more of some
    column's sum of squares than `BOUND`.

    Raises
    ------
    SnapshotNotFound
        Snapshots between the two versions were expired.
    PlanError
        The dataset is not one table, row by row; the saved moments are of something else; the version was not made from
        theirs.
    """
    source = Source.of(data, where)
    found = None if saved is None else _refreshed(saved, data, asks, source, where)
    if found is not None:
        return found
    question = asks(data, None)
    whole = question.answer(where)
    return SavedMoments(question.subject, source, question.levels, whole, np.zeros(len(whole.columns)))


def _refreshed(saved: SavedMoments, data: Dataset, asks: Asks, source: Source, where: str) -> SavedMoments | None:
    """Return saved moments at another version; None where it is better to read that version as a whole."""
    source.check_follows(saved.source, where)
    question = asks(data, saved.levels)
    if (question.subject, question.matrix.names) != (saved.subject, saved.moments.columns):
        what = f"the saved moments are of {', '.join(saved.moments.columns)} with {saved.subject}"
        raise PlanError(what, where, f"here it is {', '.join(question.matrix.names)} with {question.subject}")
    if source.snapshot_id == saved.source.snapshot_id:
        return saved
    rows = changed(data, saved.source.snapshot_id, where)
    if rows.most_rows > rows.whole_rows or any(
        _unseen(rows.came, one, saved, where) or _lost(rows.went, data, one, saved) for one in saved.levels
    ):
        return None
    came, went = (asks(part, saved.levels).answer(where) for part in (rows.came, rows.went))
    both = saved.moments.merged(came)
    with np.errstate(divide="ignore", invalid="ignore"):
        left = both.removed(went)
    kept = both.weights[np.isin(both.groups, left.groups)]
    noise = saved.noise + _noise(both.total, went.total, left.total)
    if (left.weights <= LEAST_WEIGHT * kept).any() or not _small(noise, left.total):
        return None
    return SavedMoments(saved.subject, source, saved.levels, left, noise, saved.refreshes + 1)


def _unseen(rows: Dataset, category: Levels, saved: SavedMoments, where: str) -> bool:
    """Whether a category has values that it had not."""
    found, known = levels_of(rows, category.column, where), saved.levels[category]
    return not pc.all(pc.is_in(found, known.cast(found.type)), min_count=0).as_py()


def _lost(went: Dataset, data: Dataset, category: Levels, saved: SavedMoments) -> bool:
    """Whether a category has no row any more of the level that others are compared with."""
    column, known = category.column, saved.levels[category]
    if not len(known):
        return False
    reference = known[:1].cast(data.schema.field(column).type)[0].as_py()
    return _has(went, column, reference) and not _has(data, column, reference)


def _has(rows: Dataset, column: str, value: object) -> bool:
    return bool(rows.filter(lambda t: t[column] == value).select(column).limit(1).to_arrow().num_rows)


def _noise(both: Moments, went: Moments, left: Moments) -> Floats:
    """Return how much of the sums of squares (p,) of what is left may be rounding, to first order."""
    if not len(both.groups):
        return np.zeros(len(both.columns))
    noise = np.diag(both.products[0]).copy()
    if len(went.groups) and len(left.groups):
        apart = np.abs(went.means[0] - left.means[0])
        noise += 2 * went.weights[0] * left.weights[0] / both.weights[0] * apart * np.abs(both.means[0])
    return np.asarray(ROUNDING * noise)


def _small(noise: Floats, left: Moments) -> bool:
    """Whether that is little beside the sums of squares; of a constant column there is none but rounding."""
    if not len(left.groups):
        return True
    constant = left.weights[0] * (np.finfo(np.float64).eps * left.means[0]) ** 2
    return bool((noise <= BOUND * np.diag(left.products[0]) + constant).all())
