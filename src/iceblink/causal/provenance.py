"""Where numbers come from: the tables that were read, at which snapshots, and what else decided them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from iceblink.plan.nodes import Memory, Plan, Query, Scan, Stream
from iceblink.plan.sql import table_functions

if TYPE_CHECKING:
    from iceblink.dataset import Dataset

LONGEST = 100
"""So much of a query without tables, or of a function in one, is shown [characters]."""


@dataclass(frozen=True)
class Source:
    """What was read.

    Parameters
    ----------
    name : str
        A table's full name, or what the rows were if they were of none: ``1,000 rows in memory``.
    snapshot : int or None
        The id of the table's snapshot; None where there is none.
    """

    name: str
    snapshot: int | None = None

    def __str__(self) -> str:
        return self.name if self.snapshot is None else f"{self.name} at snapshot {self.snapshot}"


@dataclass(frozen=True)
class Provenance:
    """What a result was made of: the same call on these sources gives the same numbers, wherever it runs.

    Parameters
    ----------
    sources : tuple of Source
        In the order of the plan, each once; empty where it is not known.
    folds : int or None
        How many folds models were crossed over; None where there are none.
    seed : int or None
        Of folds and of all chance; None where there is none.
    conventions : tuple of str
        How errors, intervals and units came about, by the names of the field: ``HC1``.
    """

    sources: tuple[Source, ...] = ()
    folds: int | None = None
    seed: int | None = None
    conventions: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, data: Dataset, *, folds: int | None = None, seed: int | None = None, conventions: tuple[str, ...] = ()
    ) -> Self:
        """Return that of what is computed of a dataset. Reads nothing: the plan names its tables and versions."""
        return cls(tuple(dict.fromkeys(_sources(data.plan))), folds, seed, conventions)

    @property
    def lines(self) -> tuple[str, ...]:
        """What a summary says of it: a line, or none if nothing is known. Conventions stand elsewhere there."""
        parts = [f"data {', '.join(map(str, self.sources))}"] if self.sources else []
        parts += [f"folds {self.folds}"] if self.folds is not None else []
        parts += [f"seed {self.seed}"] if self.seed is not None else []
        return (", ".join(parts),) if parts else ()


UNKNOWN = Provenance()
"""Of a result whose maker did not say."""


def _sources(plan: Plan) -> Iterator[Source]:
    """Yield what a plan reads, from left to right."""
    match plan:
        case Scan(table=table):
            yield Source(table.name, table.snapshot_id)
        case Memory(data=data):
            yield Source(f"{data.num_rows:,} rows in memory")
        case Stream():
            yield Source("a stream, read once")
        case Query(sources=sources, tree=tree) if not sources:  # files, or numbers made by SQL: no node says more
            yield _written(tree)
        case Query(tree=tree):
            for source in plan.inputs:
                yield from _sources(source)
            yield from map(_written, table_functions(tree))  # as read_parquet(...), of files beside tables
        case _:
            for source in plan.inputs:
                yield from _sources(source)


def _written(tree: Any) -> Source:
    """Return a part of a statement as it is written."""
    text = str(tree.sql(dialect="duckdb"))
    return Source(text if len(text) <= LONGEST else text[: LONGEST - 1] + "…")
