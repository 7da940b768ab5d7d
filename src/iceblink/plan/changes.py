"""Changes of rows as frozen data, and how one is made of Python's expressions; `change_statements` reads SQL."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import pyarrow as pa

from iceblink.errors import ColumnNotFound, DuplicateColumn, PlanError, TypeMismatch
from iceblink.plan.clauses import Action, MergeClause, Of
from iceblink.plan.late import exp, ibis
from iceblink.plan.nodes import Memory, Plan, Scan
from iceblink.plan.query import relate
from iceblink.plan.sql import QueryText, Resolve, named_inputs, one_statement, point_at_place
from iceblink.plan.understood import check_whole

Verb: TypeAlias = Literal["delete", "update", "merge", "overwrite", "upsert"]
TARGET, SOURCE = "target", "source"
"""How expressions in Python call the two sides."""

_VALUE = "iceblink value"
_QUOTED = re.compile(r"(?<=['\"])[^'\"]+(?=['\"])")


@dataclass(frozen=True)
class Clause:
    """What becomes of some rows.

    Parameters
    ----------
    of : {"matched", "not matched", "not matched by source"}
        ``matched`` also for all rows of a DELETE or an UPDATE.
    action : {"update", "delete", "insert"}
    condition : sqlglot Expression or None
        Of the rows that no clause before it took; None for all of them.
    values : mapping of str to sqlglot Expression
        By column of the table.
    """

    of: Of
    action: Action
    condition: exp.Expression | None
    values: Mapping[str, exp.Expression]


@dataclass(frozen=True)
class RowChange:
    """A change of some rows of one table.

    Parameters
    ----------
    verb : {"delete", "update", "merge", "overwrite", "upsert"}
    target : Scan
    alias : str
        What expressions call its rows.
    clauses : tuple of Clause
        For each kind of rows the first one whose condition is true is carried out.
    plans : mapping of str to Plan
        What subqueries in expressions name.
    source : Plan or None
        Of a merge or an upsert, and what ``UPDATE ... FROM`` and ``DELETE ... USING`` name.
    source_alias : str
    on : sqlglot Expression or None
        When a row of the source matches one of the table; null is no match.
    added : Plan or None
        Rows that come in whatever matches, of an overwrite or an upsert; with the table's columns.
    text : str
        The statement as it was typed, for errors; empty if it is Python's.
    """

    verb: Verb
    target: Scan
    alias: str
    clauses: tuple[Clause, ...]
    plans: Mapping[str, Plan]
    source: Plan | None = None
    source_alias: str = ""
    on: exp.Expression | None = None
    added: Plan | None = None
    text: str = ""

    def __post_init__(self) -> None:
        for clause in self.of("not matched by source"):  # stands beside the source's columns in some statements
            for tree in (clause.condition, *clause.values.values()):
                if tree is not None:
                    _qualify(tree, self.target, self.alias)
        for of in ("matched", "not matched", "not matched by source"):
            for clause in self.of(of)[:-1]:
                if clause.condition is None:
                    what = f"a clause follows WHEN {of.upper()} without a condition, which takes all such rows"
                    raise PlanError(what, self.place, "put the one without a condition last")

    @property
    def place(self) -> str:
        """Verb and table, as errors name them."""
        return f"{self.verb} {self.target.table.name}"

    def where(self, expression: exp.Expression, what: str = "") -> str:
        """Return where an expression is, for an error: the line of the statement that has it, or the expression.

        Parameters
        ----------
        expression : sqlglot Expression
        what : str
            What is wrong, with the names in quotes of which the first one in the expression is pointed at.
        """
        places: dict[str, int] = {}
        for part in expression.find_all(exp.Identifier):
            if "start" in part.meta:
                places.setdefault(part.name.lower(), part.meta["start"])
        if not self.text or not places:
            return f"{self.place}: {expression.sql('duckdb')}"
        named = (name.lower() for name in _QUOTED.findall(what))
        return point_at_place(self.text, next((places[name] for name in named if name in places), min(places.values())))

    @property
    def takes_out_matches(self) -> bool:
        """Whether all rows go that any row of the source matches, so that it is no matter how many match."""
        return self.source is not None and self.verb in ("delete", "upsert")

    def of(self, of: str) -> tuple[Clause, ...]:
        """Return the clauses about one kind of rows."""
        return tuple(clause for clause in self.clauses if clause.of == of)


# Python


def make_change(
    verb: Verb,
    target: Scan,
    clauses: Sequence[MergeClause],
    resolve: Resolve,
    source: Plan | None = None,
    on: Any = None,
    added: Plan | None = None,
) -> RowChange:
    """Make a change of expressions as Python has them: Ibis', SQL text, or plain values.

    Raises
    ------
    ColumnNotFound, TypeMismatch, SqlError, PlanError
    """
    place = f"{verb} {target.table.name}"
    read: list[exp.Expression] = []

    def tree(given: Any, sides: Mapping[str, Plan]) -> exp.Expression:
        made = _tree(given, sides, place)
        read.append(made)
        return made

    target_only: dict[str, Plan] = {TARGET: target}
    both = target_only if source is None else {TARGET: target, SOURCE: source}
    source_only = {} if source is None else {SOURCE: source}
    sides: dict[str, dict[str, Plan]] = {
        "matched": both,
        "not matched": source_only,
        "not matched by source": target_only,
    }
    matches = None if source is None else _matches(on, target, source, place) or tree(on, both)
    made = []
    for clause in clauses:
        seen = sides[clause.of]
        condition = None if clause.condition is None else tree(clause.condition, seen)
        if clause.values is None and clause.action != "delete" and source is not None:
            values = all_of(target, source, SOURCE, clause.of)
        else:
            values = by_column([(name, tree(one, seen)) for name, one in (clause.values or {}).items()], target)
        made.append(Clause(clause.of, clause.action, condition, values))
    wrapped = [exp.Paren(this=one) for one in read]  # so that none is a root, which cannot be replaced
    plans = named_inputs(wrapped, resolve)
    for one in read:
        one.pop()
    alias = SOURCE if source is not None else ""
    return RowChange(verb, target, TARGET, tuple(made), plans, source, alias, matches, added)


def _matches(on: Any, target: Scan, source: Plan, place: str) -> exp.Expression | None:
    """Return the condition that columns of these names are equal; None where `on` names no columns."""
    known = target.table.schema.names
    names = [on] if isinstance(on, str) and on in known else on
    if not isinstance(names, list | tuple) or not names:
        return None
    for name in names:
        for side, schema in (("the table", target.table.schema), ("the source", source.schema)):
            if name not in schema.names:
                raise ColumnNotFound.of(name, schema.names, f"{place}, on, in {side}")
    return exp.and_(
        *(exp.EQ(this=column_of(name, TARGET), expression=column_of(name, SOURCE)) for name in names), copy=False
    )


def _tree(given: Any, sides: Mapping[str, Plan], place: str) -> exp.Expression:
    if isinstance(given, str):
        read = one_statement(QueryText(given))
        if isinstance(read, exp.Select | exp.SetOperation | exp.DML | exp.DDL | exp.Command | exp.Alias):
            raise TypeMismatch(f"{given!r} is no expression", place, "write a condition or a value, as inside a SELECT")
        check_whole(read, given)
        return read
    if given is None:
        return exp.null()
    if len(sides) > 1 and isinstance(given, type(ibis._)):
        hint = "write lambda target, source: target.n + source.n, or SQL text: 'target.n + source.n'"
        raise TypeMismatch("`_` may be of the table or of the source", place, hint)
    stand_ins = {name: Memory(plan.schema, plan.schema.empty_table(), label=name) for name, plan in sides.items()}
    relation = relate(place, list(stand_ins.values()), lambda *tables: _selected(given, tables))
    tree = relation.tree
    by_plan = {stand_in.name: name for name, stand_in in stand_ins.items()}
    from_ = tree.args.get("from_")
    tables = [] if from_ is None else [from_.this, *(join.this for join in tree.args.get("joins") or ())]
    one_row = all(isinstance(table, exp.Table) for table in tables) and tree.find(exp.Window) is None
    if len(tables) != len(sides) or not one_row:
        raise PlanError("an expression looks at more than one row of the table", place, "write it as SQL text")
    aliases = {table.alias_or_name: by_plan[table.name] for table in tables}
    value: exp.Expression = tree.expressions[0].unalias()
    for column in list(value.find_all(exp.Column)):
        if column.table in aliases:
            column.set("table", exp.to_identifier(aliases[column.table], quoted=True))
    return value.pop()


def _selected(given: Any, tables: tuple[Any, ...]) -> Any:
    known = isinstance(given, type(ibis._) | ibis.Expr)
    if len(tables) == 1:
        (table,) = tables
        value = given if known else given(table) if callable(given) else ibis.literal(given)
        return table.select(**{_VALUE: value})
    value = given if known else given(*tables) if callable(given) else ibis.literal(given)
    left, right = tables
    return left.cross_join(right, lname="", rname="{name} of the source").select(**{_VALUE: value})


# both


def column_of(name: str, alias: str) -> exp.Column:
    """Return a column of the rows that are called `alias`."""
    return exp.column(exp.to_identifier(name, quoted=True), table=exp.to_identifier(alias, quoted=True))


def _qualify(tree: exp.Expression, target: Scan, alias: str) -> None:
    """Say of columns without a table that they are the target's, in place; subqueries have tables of their own."""
    names = {name.lower() for name in target.table.schema.names}
    for column in tree.find_all(exp.Column):
        if not column.table and column.name.lower() in names and column.find_ancestor(exp.Query) is None:
            column.set("table", exp.to_identifier(alias, quoted=True))


def all_of(target: Scan, source: Plan, source_alias: str, of: str) -> Mapping[str, exp.Expression]:
    """Return the source's column for each of the table's. Raises ColumnNotFound, PlanError."""
    names = target.table.schema.names
    if of == "not matched by source":
        raise PlanError("rows that the source lacks have no values in it", f"WHEN {of.upper()}", "name the columns")
    lowered = {name.lower(): name for name in source.schema.names}
    found = {}
    for name in names:
        own = name if name in source.schema.names else lowered.get(name.lower())
        if own is None:
            place = f"merge {target.table.name}, * of {source_alias}"
            raise ColumnNotFound.of(name, source.schema.names, place)
        found[name] = column_of(own, source_alias)
    return found


def by_column(pairs: Iterable[tuple[str, exp.Expression]], target: Scan) -> Mapping[str, exp.Expression]:
    """Return values by the table's own names. Raises ColumnNotFound, DuplicateColumn."""
    schema: pa.Schema = target.table.schema
    lowered = {name.lower(): name for name in schema.names}
    found: dict[str, exp.Expression] = {}
    for name, value in pairs:
        own = name if name in schema.names else lowered.get(name.lower())
        if own is None:
            raise ColumnNotFound.of(name, schema.names, f"table {target.table.name}")
        if own in found:
            raise DuplicateColumn(f"column {own!r} is set twice", f"table {target.table.name}", "set it once")
        found[own] = value
    return found
