"""One scan: what metrics need of rows, by arm, stratum and segment, as a statement in SQL.

Sums of raw squares would lose the digits of a column whose values are large and close. So a constant near the mean is
subtracted from each value of such a column first, one and the same everywhere: sums add up over cells as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations_with_replacement

import pyarrow as pa

from iceblink.causal.experiments.metrics import Averaged, Conversion, Metric, Quantile, columns_of
from iceblink.causal.passes import Missing
from iceblink.causal.regression.design import quoted

MOST_CELLS = 100_000


@dataclass(frozen=True)
class Group:
    """Columns that are summed over the rows in which all of them have a value.

    Parameters
    ----------
    columns : tuple of str
    pairs : tuple of (int, int)
        Of which columns products are needed: 1 is the first one, 0 a column of ones.
    """

    columns: tuple[str, ...]
    pairs: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, metrics: Sequence[Averaged]) -> Group:
        """Return what some metrics need."""
        columns = tuple(dict.fromkeys(name for metric in metrics for name in columns_of(metric)))
        pairs: dict[tuple[int, int], None] = {}
        for metric in metrics:
            places = sorted(columns.index(name) + 1 for name in columns_of(metric))
            pairs.update(dict.fromkeys(combinations_with_replacement([0, *places], 2)))
        return cls(columns, tuple(pairs))


@dataclass(frozen=True, eq=False)
class Scan:
    """What is read.

    Parameters
    ----------
    arm : str
    strata, cluster : str or None
        The columns of strata, and of what was randomised where rows are only parts of that.
    metrics : tuple
    schema : pa.Schema
        Of the rows.
    missing : {"raise", "drop"}
        With ``drop`` a metric has the rows that have all of its columns; other metrics may have more.
    where : str
        Who asks, for errors.
    """

    arm: str
    strata: str | None
    cluster: str | None
    metrics: tuple[Metric, ...]
    schema: pa.Schema
    missing: Missing
    where: str
    groups: tuple[Group, ...] = field(init=False)
    """All columns together; where rows may be left out, those of each metric."""

    def __post_init__(self) -> None:
        averaged = self.averaged
        parts = [[metric] for metric in averaged] if self.missing == "drop" else [averaged] if averaged else []
        object.__setattr__(self, "groups", tuple(map(Group.of, parts)))

    @property
    def averaged(self) -> list[Averaged]:
        """The metrics that sums decide."""
        return [metric for metric in self.metrics if not isinstance(metric, Quantile)]

    @property
    def quantiles(self) -> tuple[str, ...]:
        """The columns of which quantiles are wanted."""
        return tuple(dict.fromkeys(one.column for one in self.metrics if isinstance(one, Quantile)))

    @cached_property
    def binary(self) -> frozenset[str]:
        """The columns that are 0 or 1, and so their own squares."""
        return frozenset(one.column for one in self.metrics if isinstance(one, Conversion))

    @cached_property
    def checked(self) -> frozenset[str]:
        """The columns of numbers that have to be 0 or 1."""
        return frozenset(name for name in self.binary if not pa.types.is_boolean(self.schema.field(name).type))

    @property
    def keys(self) -> tuple[str, ...]:
        """The columns that say where a row or a cluster belongs as a whole."""
        return (self.arm,) if self.strata is None else (self.arm, self.strata)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of all metrics, each once."""
        return tuple(dict.fromkeys(name for metric in self.metrics for name in columns_of(metric)))

    def place(self, metric: Averaged) -> tuple[int, list[int]]:
        """Return the group of a metric, and the places of ones and of its columns in it."""
        number = self.averaged.index(metric) if self.missing == "drop" else 0
        columns = self.groups[number].columns
        return number, [0, *(columns.index(name) + 1 for name in columns_of(metric))]

    def name(self, number: int, left: int, right: int) -> str:
        """Return the name of a sum of products of two columns of a group; 0 and 1 are their own squares."""
        left, right = min(left, right), max(left, right)
        if self.cluster is None:
            if right == 0:
                return f"n{number}"
            if left == 0 or (left == right and self.groups[number].columns[left - 1] in self.binary):
                return f"s{number}_{right}"
        return f"p{number}_{left}_{right}"

    @property
    def sums(self) -> tuple[str, ...]:
        """The names of all that adds up: counts, sums, sums of products."""
        return tuple(one.rpartition(" AS ")[2] for one in (*self._tallied(), *self._summed()))

    def statement(self, shifts: Mapping[str, float], segments: Sequence[str]) -> str:
        """Return the statement over `this`, a row for each cell.

        Its columns: ``k0``, ``k1`` and so on are keys, then segments; ``n``, ``s`` and ``p`` with numbers are counts,
        sums and sums of products; ``q``, ``l`` and ``h`` are counts, least and greatest values; the others tell of what
        is wrong.
        """
        keys = [*self.keys, *segments]
        by = ", ".join(f"k{at}" for at in range(len(keys)))
        cells = "rows" if self.cluster is None else "clusters"
        text = self._rows(shifts, keys) if self.cluster is None else self._clusters(shifts, keys)
        found = ", ".join([*self._tallied(), *self._summed(), *self._ends()])
        return f"SELECT {by}, {found} FROM ({text}) AS of_{cells} GROUP BY {by} LIMIT {MOST_CELLS + 1}"

    def _rows(self, shifts: Mapping[str, float], keys: Sequence[str]) -> str:
        """Return the rows: keys, and values with their constants subtracted."""
        made = [f"{quoted(name)} AS k{at}" for at, name in enumerate(keys)]
        for number, group in enumerate(self.groups):
            complete = " AND ".join(f"isfinite({self._number(name)})" for name in group.columns)
            for at, name in enumerate(group.columns, 1):
                value = self._number(name)
                if shifts[name]:
                    value += f" - {shifts[name]:.11e}"  # with an exponent a number is a DOUBLE and no DECIMAL
                if self.missing == "drop":
                    value = f"CASE WHEN {complete} THEN {value} END"
                made.append(f"{value} AS c{number}_{at}")
        for at, name in enumerate(self.quantiles):
            value = self._number(name)
            made.append(f"CASE WHEN NOT isnan({value}) THEN {value} END AS c_{at}")
        needed = [self.arm]
        if self.cluster is not None:
            made.append(f"{quoted(self.cluster)} AS cluster")
            needed.append(self.cluster)
        text = f"SELECT {', '.join(made)} FROM this"
        if self.missing == "drop":
            text += " WHERE " + " AND ".join(f"{quoted(name)} IS NOT NULL" for name in needed)
        return text

    def _clusters(self, shifts: Mapping[str, float], keys: Sequence[str]) -> str:
        """Return the clusters, in each segment apart: keys, and sums over their rows, ones among them."""
        fixed = len(self.keys)
        ends = [f"min(k{at}) AS k{at}, max(k{at}) AS last{at}" for at in range(fixed)]
        free = [f"k{at}" for at in range(fixed, len(keys))]
        tallied = [f"count({what}) AS {name}" for name, what in self._tallies.items()]
        sums = [
            f"count(c{number}_1) AS t{number}_0" if at == 0 else f"sum(c{number}_{at}) AS t{number}_{at}"
            for number, group in enumerate(self.groups)
            for at in range(len(group.columns) + 1)
        ]
        by = ", ".join(["cluster", *free])
        rows = self._rows(shifts, keys)
        return f"SELECT {by}, {', '.join([*ends, *tallied, *sums])} FROM ({rows}) AS of_rows GROUP BY {by}"

    @property
    def _tallies(self) -> dict[str, str]:
        """What is counted over rows: that it is not null."""
        found = {"rows": "1"}
        if self.cluster is not None:
            found["unassigned"] = "CASE WHEN k0 IS NULL THEN 1 END"
        odd = []
        for number, group in enumerate(self.groups):
            columns = [f"c{number}_{at}" for at in range(1, len(group.columns) + 1)]
            if self.missing == "raise":
                found |= {f"v{one[1:]}": one for one in columns}
            named = zip(columns, group.columns, strict=True)
            odd += [f"{one} <> 0 AND {one} <> 1" for one, name in named if name in self.checked]
        if odd:
            found["odd"] = f"CASE WHEN {' OR '.join(f'({one})' for one in odd)} THEN 1 END"
        return found

    def _tallied(self) -> list[str]:
        if self.cluster is None:
            return [f"count({what}) AS {name}" for name, what in self._tallies.items()]
        crossed = " OR ".join(f"k{at} <> last{at}" for at in range(len(self.keys)))
        return [
            *(f"sum({name}) AS {name}" for name in self._tallies),
            "count(1) AS units",
            f"count(CASE WHEN {crossed} THEN 1 END) AS crossed",
            "count(CASE WHEN cluster IS NULL THEN 1 END) AS unclustered",
        ]

    def _summed(self) -> list[str]:
        letter = "c" if self.cluster is None else "t"
        found = []
        for number, group in enumerate(self.groups):
            found.append(f"count({letter}{number}_1) AS n{number}")
            places = range(self.cluster is None, len(group.columns) + 1)
            found += [f"sum({letter}{number}_{at}) AS s{number}_{at}" for at in places]
            named = [(self.name(number, *pair), pair) for pair in group.pairs]
            found += [
                f"sum({letter}{number}_{left} * {letter}{number}_{right}) AS {name}"
                for name, (left, right) in named
                if name.startswith("p")
            ]
        return found

    def _ends(self) -> list[str]:
        return [
            f"count(c_{at}) AS q{at}, min(c_{at}) AS l{at}, max(c_{at}) AS h{at}" for at in range(len(self.quantiles))
        ]

    def _number(self, name: str) -> str:
        is_double = pa.types.is_float64(self.schema.field(name).type)
        return quoted(name) if is_double else f"CAST({quoted(name)} AS DOUBLE)"
