"""What every regression is asked for, and checks before it is given any data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import pyarrow as pa

from iceblink.causal.formula import Formula, Levels, parsed
from iceblink.causal.matrix import Number
from iceblink.causal.moments import Moments
from iceblink.causal.passes import Missing, check_missing
from iceblink.causal.regression.design import Design, complete
from iceblink.causal.regression.errors import Errors, Kind
from iceblink.causal.saved import Question, SavedMoments, saved_moments
from iceblink.errors import ColumnNotFound, ConfigError

if TYPE_CHECKING:
    from iceblink.dataset import Dataset


@dataclass(frozen=True)
class Regression:
    """A formula, and how it is estimated; what the parameters mean is said by each regression.

    Raises
    ------
    ConfigError, PlanError
    """

    formula: str
    errors: Kind = "HC1"
    cluster: str | Sequence[str] | None = None
    weight: str | None = None
    missing: Missing = "raise"

    no_leverage: ClassVar[str | None] = "is for least squares"
    """Why HC2 and HC3, which need the leverage of each row, are refused; None where they are not."""

    def __post_init__(self) -> None:
        name = type(self).__name__
        Errors.of(self.errors, self.cluster, name)
        check_missing(self.missing, name)
        if self.no_leverage is not None and self.errors in ("HC2", "HC3"):
            raise ConfigError(f"{self.errors} {self.no_leverage}", name, "HC1 is its like here")
        self._check(parsed(self.formula))

    def designed(self, data: Dataset, where: str, levels: Mapping[Levels, pa.Array] | None = None) -> Design:
        """Bring the formula and a dataset together, and check what else is named. As eager as `Design.of`.

        Raises
        ------
        ColumnNotFound, TypeMismatch, PlanError
        """
        design = Design.of(data, parsed(self.formula), where, levels)
        clusters = Errors.of(self.errors, self.cluster, where).clusters
        weights = () if self.weight is None else (self.weight,)
        schema = design.data.schema
        for name in (*clusters, *weights):
            if name not in schema.names:
                raise ColumnNotFound.of(name, schema.names, where)
        for name in weights:
            Number(name).check(schema, where)
        if clusters and self.missing == "drop":  # a cluster all of whose rows lack a value is none
            return replace(design, data=complete(design.data, (*design.matrix.inputs, *clusters, *weights)))
        return design

    def _check(self, formula: Formula) -> None:
        """Refuse a formula with parts that this regression has not."""


@dataclass(frozen=True)
class OfMoments(Regression):
    """A regression whose coefficients follow from moments, which can be saved."""

    @property
    def _where(self) -> str:
        return f"{type(self).__name__} {self.formula}"

    def moments(self, data: Dataset, *, saved: SavedMoments | None = None) -> SavedMoments:
        """Return what the coefficients need of a table, at the version that the dataset is of, to be saved.

        Eager. With moments that were saved at an earlier version only the rows that came and went since are read, where
        these are fewer than all and rounding stays below 1e-10 of each column's variation; else all rows are.

        Parameters
        ----------
        data : Dataset
            A table, with filters and computed columns as they were then.
        saved : SavedMoments, optional

        Raises
        ------
        ColumnNotFound, TypeMismatch, QueryError
        SnapshotNotFound
            Snapshots between the two versions were expired.
        PlanError
            The dataset is not one table, row by row; the saved moments are of something else; the version was not made
            from theirs.
        """
        return saved_moments(data, self._asks, saved, self._where)

    def _asks(self, data: Dataset, levels: Mapping[Levels, pa.Array] | None) -> Question:
        design = self.designed(data, self._where, levels)
        return Question(design.data, design.matrix, weight=self.weight, missing=self.missing, levels=design.levels)

    def _read(self, data: Dataset, saved: SavedMoments | None) -> tuple[Design, Moments]:
        """Return a dataset's design and moments, with saved ones by what changed since."""
        found = None if saved is None else self.moments(data, saved=saved)
        design = self.designed(data, self._where, None if found is None else found.levels)
        if found is not None:
            return design, found.moments
        question = Question(design.data, design.matrix, weight=self.weight, missing=self.missing)
        return design, question.answer(self._where)
