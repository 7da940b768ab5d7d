"""Relations that tasks have in hand, and the making of stages from them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias, TypeVar

import pyarrow as pa

from iceblink.plan.cut.prepared import Uncuttable, column, named, unique
from iceblink.plan.late import exp
from iceblink.plan.stage import Gather, Hash, Leaf, Observed, Order, Range, Read, Send, Stage

T = TypeVar("T")
Steps: TypeAlias = Generator[Stage, Observed | None, T]
"""Planning goes on as stages are run: each is yielded, and what it gave is sent back."""

Describe: TypeAlias = Callable[[str, Mapping[str, pa.Schema]], tuple[pa.Schema, tuple[str, ...]]]
"""`run.kernel.Kernel.describe`: the schema of a statement, and the kernel's words for its types."""


@dataclass(frozen=True)
class Placed:
    """Which rows are in one task: those that are equal in one column of each class; all where there is no class.

    Parameters
    ----------
    classes : tuple of frozenset
        Of output columns, or of (alias, column); those of one class have equal values.
    like : str or None
        The exchange that put them there.
    kinds : tuple of str
        Types of the keys as that exchange saw them.
    """

    classes: tuple[frozenset[object], ...] = ()
    like: str | None = None
    kinds: tuple[str, ...] = ()

    def by(self, keys: set[object]) -> bool:
        """Whether rows with equal `keys` are in one task."""
        return all(one & keys for one in self.classes)

    def renamed(self, names: Mapping[object, object]) -> Placed | None:
        """Return the same in other names; None where a class has none."""
        classes = tuple(frozenset(names[old] for old in one if old in names) for one in self.classes)
        return replace(self, classes=classes) if all(classes) else None


ONE_TASK = Placed()


@dataclass(frozen=True)
class Relation:
    """Rows as queries over what tasks read; they are in hand, not yet anywhere.

    Parameters
    ----------
    pieces : tuple of sqlglot Query
        Under a UNION ALL several: the rows of each, by tasks of its own.
    columns : tuple of str
    placed : Placed or None
        None where any task may have any row.
    size : Observed
    order : tuple of Order
        In which order the rows are wanted, if nobody else orders them; its columns may be others than `columns`.
    kinds : mapping of str to str
        The kernel's words for the types of columns, where they are known without asking.
    """

    pieces: tuple[exp.Query, ...]
    columns: tuple[str, ...]
    placed: Placed | None
    size: Observed
    order: tuple[Order, ...] = ()
    kinds: Mapping[str, str] = field(default_factory=dict)

    @property
    def single(self) -> bool:
        """Whether one task has all rows."""
        return self.placed is not None and not self.placed.classes

    @property
    def hidden(self) -> tuple[str, ...]:
        """Columns that are there only to sort by."""
        return tuple(dict.fromkeys(key.column for key in self.order if key.column not in self.columns))


@dataclass(frozen=True)
class Made:
    """Rows that stages have made, to be read as often as wanted."""

    stages: tuple[str, ...]
    schema: pa.Schema
    kinds: Mapping[str, str]
    casts: Mapping[str, str]
    size: Observed
    placed: Placed | None
    seen: bool


class Making:
    """Names, reads and types of a plan in the making."""

    def __init__(
        self,
        leaves: Mapping[str, Leaf],
        describe: Describe,
        broadcast_bytes: float,
        few_bytes: float,
        taken: set[str],
    ) -> None:
        self.broadcast_bytes, self.few_bytes = broadcast_bytes, few_bytes
        self._leaves = leaves
        self._describe = describe
        self._taken = taken | set(leaves)
        self._stages = 0
        self._notes: list[str] = []
        self._reads: dict[str, tuple[Read, pa.Schema]] = {}
        self._words: dict[pa.DataType, str] = {}

    def fresh(self, base: str) -> str:
        """Return a name that nothing in the statement has."""
        name = unique(base, self._taken)
        self._taken.add(name)
        return name

    def is_leaf(self, name: str) -> bool:
        return name in self._leaves

    def leaf(self, name: str, whole: bool = False) -> Relation:
        """Return the rows of a leaf: any share of them, or all."""
        leaf = self._leaves[name]
        read = name if name not in self._reads else self.fresh(name)
        self._reads[read] = Read(read, (leaf.name,), whole), leaf.schema
        columns = tuple(field.lower() for field in leaf.schema.names)
        outputs = [
            exp.column(named(own)) if own == lower else exp.alias_(exp.column(named(own)), named(lower))
            for own, lower in zip(leaf.schema.names, columns, strict=True)
        ]
        query = exp.Select(expressions=outputs, from_=_from(read))
        placed, size = ONE_TASK if whole else None, Observed(leaf.rows * leaf.kept, leaf.nbytes * leaf.kept)
        return Relation((query,), columns, placed, size, kinds=self._as_read(leaf.schema, columns))

    def reading(self, made: Made, whole: bool = False) -> Relation:
        """Return the rows of earlier stages: a partition or share of them, or all."""
        first = made.stages[0]
        read = self.fresh(first) if first in self._reads else first
        self._reads[read] = Read(read, made.stages, whole), made.schema
        columns = tuple(made.schema.names)
        outputs = [
            exp.alias_(_cast(exp.column(named(c)), made.casts[c]), named(c))
            if c in made.casts
            else exp.column(named(c))
            for c in columns
        ]
        query = exp.Select(expressions=outputs, from_=_from(read))
        return Relation((query,), columns, ONE_TASK if whole else made.placed, made.size, kinds=made.kinds)

    def few(self, relation: Relation) -> Relation | None:
        """Return the rows of a leaf that is so small that every task may read all of it; None for any other."""
        names = [name for piece in relation.pieces for name in self._named_in(piece)]
        if len(relation.pieces) != 1 or len(names) != 1:
            return None
        read, schema = self._reads[names[0]]
        leaf = self._leaves.get(read.of[0].lower())
        if leaf is None or leaf.nbytes > self.few_bytes:
            return None
        self._reads[names[0]] = replace(read, whole=True), schema
        return replace(relation, placed=ONE_TASK)

    def divide(self, query: exp.Expression, divisible: bool) -> None:
        """Say whether the partitions that a query reads may be shared out."""
        for name in self._named_in(query):
            read, schema = self._reads[name]
            self._reads[name] = replace(read, divisible=divisible and not read.whole), schema

    def reads(self, query: exp.Expression) -> tuple[Read, ...]:
        """Return what a query reads."""
        return tuple(self._reads[name][0] for name in self._named_in(query))

    def described(self, query: exp.Query) -> tuple[pa.Schema, tuple[str, ...]]:
        """Return the schema of a query over reads, and the kernel's words for its types."""
        return self._describe(query.sql("duckdb"), {name: self._reads[name][1] for name in self._named_in(query)})

    def note(self, reason: str) -> None:
        """Have the next stage say why a part of the statement is not cut."""
        self._notes.append(f"a part of it in one task: {reason}")

    def noted(self, why: str) -> str:
        """Return `why` with the notes so far."""
        notes, self._notes = self._notes, []
        return "; ".join([why, *notes])

    def emit(self, relation: Relation, send: Send, why: str) -> Steps[Made]:
        """Make one stage of each piece of a relation; its order is lost, except by ranges."""
        relation = relation if isinstance(send, Range) else unordered(relation)
        schema, kinds = self.described(relation.pieces[0])
        if set(schema.names) != {*relation.columns, *relation.hidden}:
            raise Uncuttable("a part of it gives other columns than it names")
        wide = {name for name, kind in zip(schema.names, kinds, strict=True) if kind in ("HUGEINT", "UHUGEINT")}
        if any("HUGEINT" in kind and name not in wide for name, kind in zip(schema.names, kinds, strict=True)):
            raise Uncuttable("a list or struct of 128-bit integers does not go from task to task")
        schema = pa.schema([pa.field(f.name, pa.decimal128(38, 0) if f.name in wide else f.type) for f in schema])
        why = self.noted(why)
        names, rows, nbytes, known = [], 0.0, 0.0, True
        for piece in relation.pieces:
            name = self._next_stage()
            expected = Observed(relation.size.rows / len(relation.pieces), relation.size.nbytes / len(relation.pieces))
            query = _with_decimals(piece, wide)
            seen = yield Stage(name, query, self.reads(query), send, schema, why, expected)
            names.append(name)
            known = known and seen is not None
            rows += (seen or expected).rows
            nbytes += (seen or expected).nbytes
        types = dict(zip(schema.names, kinds, strict=True))
        casts = {name: types[name] for name, word in self._as_read(schema, schema.names).items() if types[name] != word}
        placed: Placed | None = None
        if isinstance(send, Hash):
            classes = tuple(frozenset((key,)) for key in send.keys)
            placed = Placed(classes, send.like or names[0], tuple(types[key] for key in send.keys))
        return Made(tuple(names), schema, types, casts, Observed(rows, nbytes), placed, known)

    def exchanged(self, relation: Relation, send: Send, why: str, parted: bool = False) -> Steps[Relation]:
        """Send rows on and return them where they arrive; few of them in one task, unless they are to stay `parted`."""
        made = yield from self.emit(relation, send, why)
        few = isinstance(send, Hash) and not parted and made.seen and made.size.nbytes <= self.few_bytes
        return self.reading(made, whole=few or isinstance(send, Gather))

    def _next_stage(self) -> str:
        """Return the next number as a name; one that a table of the user's has is passed over."""
        while True:
            self._stages += 1
            if (name := f"stage_{self._stages}") not in self._taken:
                self._taken.add(name)
                return name

    def _as_read(self, schema: pa.Schema, names: Sequence[str]) -> dict[str, str]:
        """Return the kernel's words for the types of what it reads."""
        if new := list(dict.fromkeys(one.type for one in schema if one.type not in self._words)):
            asked = pa.schema([pa.field(f"type_{at}", dtype) for at, dtype in enumerate(new)])
            self._words.update(zip(new, self._describe("SELECT * FROM types", {"types": asked})[1], strict=True))
        return {name: self._words[one.type] for name, one in zip(names, schema, strict=True)}

    def _named_in(self, query: exp.Expression) -> list[str]:
        found = (table.name for table in query.find_all(exp.Table) if isinstance(table.this, exp.Identifier))
        return list(dict.fromkeys(name for name in found if name in self._reads))


def one_query(relation: Relation) -> exp.Query:
    """Return a relation as one query."""
    first, *others = relation.pieces
    query = first.copy()
    for other in others:
        query = exp.Union(this=query, expression=other.copy(), distinct=False)
    return query


def unordered(relation: Relation) -> Relation:
    """Return a relation without its order, and the columns that only served it."""
    if relation.hidden:
        pieces = tuple(selecting(piece, relation.columns) for piece in relation.pieces)
        return replace(relation, pieces=pieces, order=())
    return replace(relation, order=())


def selecting(
    query: exp.Query, columns: Sequence[str], casts: Mapping[str, str] | None = None, names: Sequence[str] | None = None
) -> exp.Select:
    """Return ``SELECT columns FROM query``, cast and named anew where that is said."""
    outputs = []
    for name, new in zip(columns, names or columns, strict=True):
        value: exp.Expression = column("rows", name)
        if casts and name in casts:
            value = _cast(value, casts[name])
        outputs.append(value if isinstance(value, exp.Column) and name == new else exp.alias_(value, named(new)))
    return exp.Select(expressions=outputs, from_=exp.From(this=item(query, "rows")))


def item(query: exp.Query, alias: str) -> exp.Expression:
    """Return a query as something FROM can read; the bare table where it is no more than that."""
    as_alias = exp.TableAlias(this=named(alias))
    if is_plain(query):
        table = query.args["from_"].this
        return exp.Table(this=table.this.copy(), alias=as_alias if table.name != alias else None)
    return exp.Subquery(this=query.copy(), alias=as_alias)


def is_plain(query: exp.Query) -> bool:
    """Whether a query is a table's columns and nothing else."""
    return (
        isinstance(query, exp.Select)
        and {key for key, value in query.args.items() if value} <= {"expressions", "from_"}
        and query.args.get("from_") is not None
        and isinstance(query.args["from_"].this, exp.Table)
        and isinstance(query.args["from_"].this.this, exp.Identifier)
        and all(isinstance(output, exp.Column) for output in query.expressions)
    )


def _from(table: str) -> exp.From:
    return exp.From(this=exp.Table(this=named(table)))


def _cast(value: exp.Expression, kind: str) -> exp.Cast:
    return exp.cast(value, exp.DataType.build(kind, dialect="duckdb"), copy=False)


def _with_decimals(query: exp.Query, wide: set[str]) -> exp.Query:
    """Let 128-bit integers leave as decimals, which Arrow has; those beyond 38 digits are an error."""
    if not wide:
        return query
    if not isinstance(query, exp.Select) or any(query.args.get(key) for key in ("order", "limit", "distinct")):
        return selecting(query, _names(query), dict.fromkeys(wide, "DECIMAL(38, 0)"))
    query = query.copy()
    for output in list(query.expressions):
        name = output.alias_or_name
        if name in wide:
            output.replace(exp.alias_(_cast(output.unalias().copy(), "DECIMAL(38, 0)"), named(name)))
    return query


def _names(query: exp.Query) -> list[str]:
    return [output.alias_or_name for output in query.selects]
