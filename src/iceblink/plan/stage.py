"""The words of a distributed plan: stages of SQL, what each reads, and where its rows go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import pyarrow as pa

from iceblink.plan.late import exp
from iceblink.plan.optimize import names_by_pattern


@dataclass(frozen=True)
class Observed:
    """How much a stage gave, or is taken to give: rows, and bytes [B]."""

    rows: float
    nbytes: float


@dataclass(frozen=True)
class Leaf:
    """What a statement reads and no stage makes; its name is the table's name in the statement.

    Parameters
    ----------
    schema : pa.Schema
        The columns that the statement may name.
    rows, nbytes : float
        Estimates: what would be read, decoded [B].
    kept : float
        Which part of that the statement's filters are taken to keep, from 0 to 1.
    """

    name: str
    schema: pa.Schema
    rows: float = 0
    nbytes: float = 0
    kept: float = 1.0


@dataclass(frozen=True)
class Read:
    """One table in a stage's SQL.

    Parameters
    ----------
    name : str
        The table's name in the SQL.
    of : tuple of str
        A leaf, or earlier stages whose rows follow each other: of an exchange, the same partition of each.
    whole : bool
        Every task sees all of it. What a `Gather` stage made is always read so.
    divisible : bool
        The rows of one partition may be shared out among several tasks, each of which sees the other reads' rows of
        that partition whole; of two divisible reads, one may be.
    """

    name: str
    of: tuple[str, ...]
    whole: bool = False
    divisible: bool = False


@dataclass(frozen=True)
class Keep:
    """Rows stay as they are, in any number of blocks: read in any shares, or whole."""


@dataclass(frozen=True)
class Hash:
    """Rows with equal `keys` (output columns; null equals null) come to the same partition.

    Where `like` names an earlier stage, there are as many partitions as that one has, and equal keys go to those of
    the same number: the keys have pairwise the same types.
    """

    keys: tuple[str, ...]
    like: str | None = None


@dataclass(frozen=True)
class Order:
    """One key of a sort."""

    column: str
    descending: bool = False
    nulls_first: bool = False


@dataclass(frozen=True)
class Range:
    """Partitions follow each other in this order; within one, whoever reads it sorts. Equal keys share one."""

    order: tuple[Order, ...]


@dataclass(frozen=True)
class Gather:
    """One task sees all rows."""


@dataclass(frozen=True)
class Result:
    """What the statement gives. Where `ordered`, the tasks' rows follow each other in the order of their partitions.

    Under a UNION ALL there may be several such stages, the last ones of a plan: their rows follow each other.
    """

    ordered: bool = False


Send: TypeAlias = Keep | Hash | Range | Gather | Result


@dataclass(frozen=True)
class Stage:
    """One statement that every task runs over its share of what is read.

    Shares of reads that are not whole belong together: they are the same partition of exchanges with as many. A stage
    with one read that is not whole, of a leaf or a `Keep` stage, takes any share of it. One whose reads are all whole
    is one task. Of any other a task may be left out whose shares are all empty.

    Parameters
    ----------
    name : str
    query : sqlglot Query
        In DuckDB's dialect.
    reads : tuple of Read
        Every table that the query names.
    send : Send
        How the rows leave.
    schema : pa.Schema
        Of the rows that leave; of a `Result`, what the kernel says of the statement.
    why : str
        What the stage does, for people.
    expected : Observed
        What it is taken to give, before it has run: to send back where nothing runs.
    planned : bool
        Whether its joins stand in an order that was chosen here; else in whatever order the user wrote.
    """

    name: str
    query: exp.Query
    reads: tuple[Read, ...]
    send: Send
    schema: pa.Schema
    why: str
    expected: Observed
    planned: bool = True

    @property
    def names(self) -> frozenset[str] | None:
        """Every name in the statement, in lower case: it reads no other columns; None where it may read all."""
        stars = (star.find_ancestor(exp.Count) is None for star in self.query.find_all(exp.Star))
        if any(stars) or names_by_pattern(self.query):
            return None
        return frozenset(identifier.name.lower() for identifier in self.query.find_all(exp.Identifier))

    @property
    def single(self) -> bool:
        """Whether the stage is one task."""
        return all(read.whole for read in self.reads)


def stage_sql(stage: Stage) -> str:
    """Return the statement as a person reads it."""
    text: str = stage.query.sql("duckdb", pretty=True)
    return text


def described(plan: Sequence[Stage]) -> str:
    """Return stages as text: why, where the rows go, and the SQL."""
    return "\n\n".join(_described(stage) for stage in plan)


def _described(stage: Stage) -> str:
    match stage.send:
        case Hash(keys=keys):
            goes = f"hash of {', '.join(keys)}"
        case Range(order=order):
            goes = f"ranges of {', '.join(key.column + (' DESC' if key.descending else '') for key in order)}"
        case Result(ordered=ordered):
            goes = "result, in order" if ordered else "result"
        case other:
            goes = type(other).__name__.lower()
    reads = ", ".join(f"{' + '.join(read.of)}{' (whole)' if read.whole else ''}" for read in stage.reads)
    lines = "\n".join(f"    {line}" for line in stage_sql(stage).split("\n"))
    return f"{stage.name}: {stage.why}\n  reads {reads or 'nothing'}; to {goes}\n{lines}"
