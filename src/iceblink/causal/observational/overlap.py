"""Propensity scores, and whether the arms of a study have any in common."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from iceblink.causal.blas import one_thread
from iceblink.causal.moments import Floats
from iceblink.causal.observational.choice import Choice, Link, choice
from iceblink.causal.observational.problem import Problem
from iceblink.causal.observational.study import Reader, Study
from iceblink.causal.passes import BLOCK_ROWS
from iceblink.causal.plots.overlap import overlap
from iceblink.causal.provenance import Provenance
from iceblink.causal.result import Result
from iceblink.causal.sheet import Sheet
from iceblink.causal.whole import check_whole
from iceblink.errors import DuplicateColumn, PlanError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from iceblink.dataset import Dataset

RARE = 0.01
"""Of a chance below this a row says little of what would be, and much of the model."""
LONG = pa.schema({"chance_of": pa.int32(), "arm": pa.int32(), "chance": pa.float64()})


@dataclass(frozen=True)
class Propensity:
    """The chance of each treatment given the confounders, by maximum likelihood [1]_.

    Parameters
    ----------
    link : {"logit", "probit"}
        With more than two arms a multinomial logit.

    References
    ----------
    .. [1] Rosenbaum, Rubin: The central role of the propensity score in observational studies, Biometrika 1983.
    """

    link: Link = "logit"

    def fit(self, problem: Problem) -> Scores:
        """Estimate it. Eager: about three passes, and two for what the problem's estimators share.

        Raises
        ------
        ColumnNotFound, TypeMismatch, QueryError
        PlanError
            Some confounders tell the arms apart without error.
        """
        title = f"Propensity of {problem}"
        found, dropped = choice(problem.study, self.link, title)
        provenance = replace(problem.study.provenance, conventions=(f"{self.link} by maximum likelihood",))
        return Scores(title, problem.study, found, dropped, provenance)


@dataclass(frozen=True, eq=False, repr=False)
class Scores(Result):
    """Fitted propensity scores.

    Parameters
    ----------
    title : str
    study : Study
    choice : Choice
    dropped : tuple of str
        Columns of the model that follow from others.
    provenance : Provenance
    """

    keys: ClassVar[tuple[str, ...]] = ("arm", "name")

    title: str
    study: Study
    choice: Choice
    dropped: tuple[str, ...]
    provenance: Provenance

    def to_arrow(self) -> pa.Table:
        """Return the coefficients of the linear scores, in the columns' units: arm, name, coefficient.

        A row for each arm but the control, and the intercept or a column.
        """
        reader, places = self.study.reader, list(self.choice.places)
        slopes = self.choice.coefficients[:, 1:] / reader.scales[places]
        intercepts = self.choice.coefficients[:, 0] - slopes @ reader.centres[places]
        names = ["(Intercept)", *(self.study.names[place] for place in places)]
        return pa.table(
            {
                "arm": np.repeat(self.study.arms.names[1:], len(names)).tolist(),
                "name": names * len(slopes),
                "coefficient": np.column_stack([intercepts, slopes]).ravel(),
            }
        )

    def sheet(self) -> Sheet:
        """Return what `summary` and notebooks show: the linear scores of each arm against the control."""
        found, names = self.to_arrow(), self.study.arms.names[1:]
        numbers = found["coefficient"].to_numpy().reshape(len(names), -1)
        lines = [
            [name, *(f"{number:.6g}" for number in row)]
            for name, row in zip(found["name"].to_pylist(), numbers.T, strict=False)
        ]
        foot = f"rows {self.study.rows:,}, {', '.join(self.provenance.conventions)}"
        left = [f"left out, for they follow from others: {', '.join(self.dropped)}"] if self.dropped else []
        return Sheet((self.title,), ("", *names), lines, (foot, *self.provenance.lines, *left))

    def scored(self, column: str = "propensity") -> Dataset:
        """Return the rows with their scores. Lazy.

        Of two arms the chance of not being a control; of more a column for each arm, ``propensity[arm]``.

        Raises
        ------
        DuplicateColumn
        """
        arms, data = self.study.arms.names, self.study.data
        names = [column] if len(arms) == 2 else [f"{column}[{arm}]" for arm in arms]
        for one in names:
            if one in data.columns:
                raise DuplicateColumn(f"there is a column {one!r} already", self.title, "scored(column=...)")
        schema = pa.schema([*data.schema, *(pa.field(one, pa.float64()) for one in names)])
        scores = _Scored(self.study.reader, self.choice, tuple(names))
        return data.map_batches(scores, schema=schema, batch_size=BLOCK_ROWS).select(*self.study.columns, *names)

    def overlap(self, bins: int = 20) -> Overlap:
        """Compare the scores of the arms. Eager: one pass.

        Parameters
        ----------
        bins : int
            Of the histogram, from 0 to 1.

        Raises
        ------
        PlanError
            There are no bins.
        """
        check_whole(self.title, bins=bins)
        if bins < 1:
            raise PlanError(f"bins is {bins}", self.title, "one or more")
        blocks = self.study.needed().map_batches(
            _Long(self.study.reader, self.choice), schema=LONG, batch_size=BLOCK_ROWS
        )
        counted = blocks.sql(
            f"SELECT chance_of, arm, least(CAST(floor(chance * {bins}) AS INTEGER), {bins - 1}) AS bin, "
            f"count(*) AS n, min(chance) AS low, max(chance) AS high, sum(chance) AS total, "
            f"sum(CASE WHEN chance < {RARE} THEN 1 ELSE 0 END) AS rare, "
            f"sum(CASE WHEN chance > {1 - RARE} THEN 1 ELSE 0 END) AS sure FROM this GROUP BY 1, 2, 3"
        ).to_arrow()
        return _overlap(self, counted, bins)


@dataclass(frozen=True)
class _Scored:
    reader: Reader
    choice: Choice
    names: tuple[str, ...]

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        with one_thread():
            chances = self.choice.chances(self.reader.rows(batch)).of
        added = chances if len(self.names) > 1 else chances[1:]
        arrays = [*batch.columns, *map(pa.array, added)]
        return pa.RecordBatch.from_arrays(arrays, names=[*batch.schema.names, *self.names])


@dataclass(frozen=True)
class _Long:
    """Rows become their arm and their chance of each arm, one below the other; of two arms only that of the second."""

    reader: Reader
    choice: Choice

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        with one_thread():
            rows = self.reader.rows(batch)
            chances = self.choice.chances(rows).of
        of = np.arange(len(chances)) if len(chances) > 2 else np.array([1])
        arrays = [np.repeat(of, len(rows.arm)), np.tile(rows.arm, len(of)), chances[of].ravel()]
        return pa.RecordBatch.from_arrays(
            [pa.array(array, kind.type) for array, kind in zip(arrays, LONG, strict=True)], schema=LONG
        )


@dataclass(frozen=True, eq=False, repr=False)
class Overlap(Result):
    """The chance of an arm among those who have it, and among the others.

    Parameters
    ----------
    title : str
    treatment : str
    arms : tuple of str
    of : tuple of int
        Whose chance: of two arms that of the second, else each.
    counts : int64 array (c, J, bins)
        How many rows of each arm have a chance in each bin from 0 to 1.
    least, most, mean : float64 arrays (c, J)
    rare, sure : int64 arrays (c, J)
        Rows whose chance is below 0.01, and above 0.99.
    provenance : Provenance
    """

    keys: ClassVar[tuple[str, ...]] = ("chance_of", "arm")

    title: str
    treatment: str
    arms: tuple[str, ...]
    of: tuple[int, ...]
    counts: NDArray[np.int64]
    least: Floats
    most: Floats
    mean: Floats
    rare: NDArray[np.int64]
    sure: NDArray[np.int64]
    provenance: Provenance

    @property
    def common(self) -> Floats:
        """The bounds (c, 2) of chances that occur in all arms; the first is above the second where none do."""
        return np.column_stack([self.least.max(axis=1), self.most.min(axis=1)])

    @property
    def warnings(self) -> tuple[str, ...]:
        """What speaks against positivity."""
        found = []
        for at, of in enumerate(self.of):
            whose = f"{self.treatment} {self.arms[of]}"
            low, high = self.common[at]
            if low > high:
                found.append(f"no chance of {whose} occurs in all arms: nobody can be compared")
            rows = self.counts[at].sum()
            for count, how in ((self.rare[at].sum(), f"below {RARE:g}"), (self.sure[at].sum(), f"above {1 - RARE:g}")):
                if count:
                    found.append(f"{count:,} of {rows:,} rows have a chance of {whose} {how}")
        return tuple(found)

    def to_arrow(self) -> pa.Table:
        """Return a row for each chance and arm: chance_of, arm, rows, least, mean, most, rare, sure, counts."""
        shape = self.least.shape
        return pa.table(
            {
                "chance_of": np.repeat([self.arms[of] for of in self.of], shape[1]).tolist(),
                "arm": list(self.arms) * shape[0],
                "rows": self.counts.sum(axis=2).ravel(),
                "least": self.least.ravel(),
                "mean": self.mean.ravel(),
                "most": self.most.ravel(),
                "rare": self.rare.ravel(),
                "sure": self.sure.ravel(),
                "counts": self.counts.reshape(-1, self.counts.shape[2]).tolist(),
            }
        )

    def sheet(self) -> Sheet:
        """Return what `summary` and notebooks show: in each bin a bar as high as the part of the arm's rows."""
        head = (f"chance of {self.treatment}", "arm", "from 0 to 1", "least", "mean", "most")
        lines = [
            [
                self.arms[of],
                name,
                f"|{''.join(BARS[int(np.ceil(part * 8))] for part in _parts(self.counts[at, arm]))}|",
                *(f"{numbers[at, arm]:.4f}" for numbers in (self.least, self.mean, self.most)),
            ]
            for at, of in enumerate(self.of)
            for arm, name in enumerate(self.arms)
        ]
        warnings = (f"warning: {one}" for one in self.warnings)
        return Sheet((self.title,), head, lines, (*self.provenance.lines, *warnings), words=3)

    def plot(self, ax: Axes | None = None, *, of: str | None = None) -> Axes:
        """Draw the chance of an arm as a histogram for each arm, of its own rows.

        Parameters
        ----------
        ax : Axes, optional
            Of matplotlib. Default: those of a new figure.
        of : str, optional
            Whose chance; to be said where there are more than two arms.

        Raises
        ------
        PlanError
            There is no such arm, or there are several.
        ConfigError
            matplotlib is not installed.
        """
        whose = self.arms[1] if of is None and len(self.arms) == 2 else of
        return overlap(self.to_arrow(), of=whose, xlabel=f"chance of {self.treatment} {whose}", ax=ax)


BARS = " ▁▂▃▄▅▆▇█"


def _parts(counts: NDArray[np.int64]) -> Floats:
    """Return counts as parts of the largest."""
    return counts / max(int(counts.max()), 1)


def _overlap(scores: Scores, counted: pa.Table, bins: int) -> Overlap:
    study = scores.study
    arms = len(study.arms)
    of = tuple(range(arms)) if arms > 2 else (1,)
    shape = (len(of), arms)
    counts, rare, sure = np.zeros((*shape, bins), np.int64), np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    least, most, total = np.full(shape, np.inf), np.full(shape, -np.inf), np.zeros(shape)
    for row in sorted(counted.to_pylist(), key=lambda row: (row["chance_of"], row["arm"], row["bin"])):
        at = (of.index(row["chance_of"]), row["arm"])
        counts[(*at, row["bin"])] = row["n"]
        rare[at] += row["rare"]
        sure[at] += row["sure"]
        total[at] += row["total"]
        least[at], most[at] = min(least[at], row["low"]), max(most[at], row["high"])
    mean = total / counts.sum(axis=2)
    title = f"{scores.title}: overlap"
    names = study.arms.names
    return Overlap(title, study.arms.column, names, of, counts, least, most, mean, rare, sure, scores.provenance)
