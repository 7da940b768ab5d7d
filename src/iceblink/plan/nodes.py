"""What to do, as frozen data: a dataset is a tree of these nodes, and every node knows its schema."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeAlias

import pyarrow as pa

from iceblink.lake.table import Table
from iceblink.plan.function import Function
from iceblink.plan.late import exp
from iceblink.scan.place import placed_field
from iceblink.scan.plan import ScanPlan

Tree: TypeAlias = "exp.Query"
"""A query as sqlglot's tree."""

_serial = itertools.count(1)


class Plan:
    """A node. Equality is identity; `name` is how a statement above refers to it."""

    schema: pa.Schema

    @property
    def inputs(self) -> tuple[Plan, ...]:
        """The nodes this one reads."""
        return ()

    @property
    def name(self) -> str:
        """A name that no user writes and no other node has."""
        raise TypeError(f"{type(self).__name__} has no name")


@dataclass(frozen=True, eq=False)
class Scan(Plan):
    """Read a table at the version it is pinned to: the columns of `schema`, in that order.

    Parameters
    ----------
    schema : pa.Schema
        Of columns of the table, and after them columns of place.
    table : Table
    files : frozenset of str or None
        Just these data files.
    part : ScanPlan or None
        Just these row groups, planned before.
    """

    schema: pa.Schema
    table: Table
    files: frozenset[str] | None = None
    part: ScanPlan | None = None

    @classmethod
    def of(cls, table: Table) -> Scan:
        return cls(table.schema, table)

    def only(self, files: frozenset[str]) -> Scan:
        """Return the scan of just these data files."""
        return replace(self, files=files)

    def choose(self, names: Sequence[str]) -> Scan:
        """Return the scan of just these columns, in this order."""
        return replace(self, schema=pa.schema([self.schema.field(name) for name in names]))

    def with_placed(self, name: str) -> Scan:
        """Return the scan with one more column, made of each row's place in its data file."""
        return replace(self, schema=self.schema.append(placed_field(name)))

    @property
    def name(self) -> str:
        files = "" if self.files is None else f".{hash(self.files):x}"
        names = "" if self.schema.names == self.table.schema.names else f".{hash(tuple(self.schema.names)):x}"
        return f"{self.table.name}@{self.table.version}.{self.table.schema_id}{files}{names}"


@dataclass(frozen=True, eq=False)
class _Numbered(Plan):
    """A node whose name is its kind and a serial number."""

    serial: int = field(default_factory=lambda: next(_serial), kw_only=True)

    @property
    def name(self) -> str:
        return f"{type(self).__name__.lower()}@{self.serial}"


@dataclass(frozen=True, eq=False)
class Memory(_Numbered):
    """Rows that are in memory already; may be read many times."""

    schema: pa.Schema
    data: pa.Table
    label: str = "arrow"


@dataclass(frozen=True, eq=False)
class Stream(_Numbered):
    """Rows that come once: `open` gives the batches, and the second call is an error."""

    schema: pa.Schema
    open: Callable[[], pa.RecordBatchReader]


@dataclass(frozen=True, eq=False)
class Query(_Numbered):
    """One SQL statement over named inputs.

    Parameters
    ----------
    tree : sqlglot Query
        In DuckDB's dialect; a table in it whose name is a key of `sources` is that input. Never changed in
        place: whoever rewrites it copies it first.
    sources : mapping of str to Plan
        Name in the tree to node.
    expression : ibis Table or None
        The same query as Ibis sees it, when it was made of verbs, so that the next verb extends it.
    """

    schema: pa.Schema
    tree: Tree
    sources: Mapping[str, Plan]
    expression: Any = None

    @property
    def inputs(self) -> tuple[Plan, ...]:
        return tuple(self.sources.values())


@dataclass(frozen=True, eq=False)
class MapBatches(_Numbered):
    """Apply a Python function to batches, in order.

    Parameters
    ----------
    source : Plan
    function : Function
    find : callable
        Gives the output schema when none was declared: it runs `source` until there is one batch.
    reject : run.quarantine.Quarantine or None
        Takes the rows that the function refused.
    """

    source: Plan
    function: Function
    find: Callable[[MapBatches], pa.Schema]
    reject: Any = None

    @cached_property
    def schema(self) -> pa.Schema:
        """Declared, or found on the first batch when it is first asked for, and held from then on."""
        return self.function.declared or self.find(self)

    @property
    def known_schema(self) -> pa.Schema | None:
        """The schema, if knowing it costs nothing."""
        return self.function.declared or self.__dict__.get("schema")

    @property
    def inputs(self) -> tuple[Plan, ...]:
        return (self.source,)


@dataclass(frozen=True, eq=False)
class Repartition(_Numbered):
    """Divide the rows in `partitions` parts: rows of equal `by` in one part, one data file for each."""

    source: Plan
    partitions: int
    by: tuple[str, ...] = ()

    @property
    def schema(self) -> pa.Schema:
        """The source's."""
        return self.source.schema

    @property
    def inputs(self) -> tuple[Plan, ...]:
        return (self.source,)


@dataclass(frozen=True, eq=False)
class Drawn(_Numbered):
    """Number the rows, and give them columns of chance by their number."""

    source: Plan
    chances: tuple[str, ...] = ()

    def with_placed(self, name: str) -> Drawn:
        """Return the same with one more column, of chance."""
        return replace(self, chances=(*self.chances, name))

    @cached_property
    def schema(self) -> pa.Schema:
        """The source's, and the columns of chance."""
        return pa.schema([*self.source.schema, *map(placed_field, self.chances)])

    @property
    def inputs(self) -> tuple[Plan, ...]:
        return (self.source,)
