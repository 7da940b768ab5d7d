"""DELETE, UPDATE and MERGE as frozen data, read from SQL text or made of Python's expressions.

References
----------
.. [1] ISO/IEC 9075-2:2023, <delete statement: searched>, <update statement: searched>, <merge statement>; Spark SQL's
   ``UPDATE SET *``, ``INSERT *`` and ``WHEN NOT MATCHED BY SOURCE``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import pyarrow as pa

from iceblink.errors import ColumnNotFound, DuplicateColumn, PlanError, SqlError, TypeMismatch
from iceblink.plan.clauses import Action, MergeClause, Of
from iceblink.plan.late import exp, ibis
from iceblink.plan.nodes import Memory, Plan, Scan, Tree
from iceblink.plan.query import relate
from iceblink.plan.sql import Resolve, named_inputs, one_statement

Verb: TypeAlias = Literal["delete", "update", "merge"]
MakeQuery: TypeAlias = Callable[[Tree, Mapping[str, Plan]], Plan]
TARGET, SOURCE = "target", "source"
"""How expressions in Python call the two sides."""

CHANGES = ("DELETE", "UPDATE", "MERGE")
"""What statements that change rows begin with."""
_VALUE = "iceblink value"


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
    verb : {"delete", "update", "merge"}
    target : Scan
    alias : str
        What expressions call its rows.
    clauses : tuple of Clause
        For each kind of rows the first one whose condition is true is carried out.
    plans : mapping of str to Plan
        What subqueries in expressions name.
    source : Plan or None
        Of a merge.
    source_alias : str
    on : sqlglot Expression or None
        When a row of the source matches one of the table; null is no match.
    """

    verb: Verb
    target: Scan
    alias: str
    clauses: tuple[Clause, ...]
    plans: Mapping[str, Plan]
    source: Plan | None = None
    source_alias: str = ""
    on: exp.Expression | None = None

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

    def of(self, of: str) -> tuple[Clause, ...]:
        """Return the clauses about one kind of rows."""
        return tuple(clause for clause in self.clauses if clause.of == of)


# SQL


def read_change(text: str, resolve: Resolve, query: MakeQuery) -> RowChange:
    """Read a DELETE, UPDATE or MERGE; expressions are in DuckDB's dialect.

    Parameters
    ----------
    text : str
    resolve : callable
        Given a dotted name and a version, returns the plan that reads it, or raises.
    query : callable
        Makes a plan of a subquery.

    Raises
    ------
    SqlError
        The text is none of these, or has parts that are not understood.
    ColumnNotFound, DuplicateColumn, PlanError
    """
    tree = one_statement(text)
    match tree:
        case exp.Delete():
            _only(tree, {"this", "where"}, "write WHERE ... IN (SELECT ...), or MERGE")
        case exp.Update():
            _only(tree, {"this", "where", "expressions"}, "write WHERE ... IN (SELECT ...), or MERGE")
        case exp.Merge():
            _only(tree, {"this", "using", "on", "whens"}, "write MERGE INTO t USING s ON ... WHEN ... THEN ...")
        case _:
            raise SqlError(f"{type(tree).__name__.upper()} changes no rows", text.strip().split("\n")[0])
    if not isinstance(tree.this, exp.Table):
        raise SqlError("the table to change is not named", text.strip().split("\n")[0])
    if tree.this.args.get("version") is not None:
        raise SqlError("a version of the past cannot be changed", tree.this.sql("duckdb"), "leave FOR ... AS OF out")
    name = ".".join(part.name for part in tree.this.parts)
    plans = named_inputs([tree], resolve)
    target = _target(plans[tree.this.name], name)
    alias = tree.this.alias
    where = tree.args["where"].this if tree.args.get("where") else None
    if isinstance(tree, exp.Delete):
        return RowChange("delete", target, alias, (Clause("matched", "delete", where, {}),), plans)
    if isinstance(tree, exp.Update):
        values = _assigned(tree.expressions, target, alias)
        return RowChange("update", target, alias, (Clause("matched", "update", where, values),), plans)
    source, source_alias = _using(tree.args["using"], plans, query)
    clauses = tuple(_when(when, target, alias, source, source_alias) for when in tree.args["whens"].expressions)
    return RowChange("merge", target, alias, clauses, plans, source, source_alias, tree.args["on"])


def _only(tree: exp.Expression, understood: set[str], hint: str) -> None:
    for part, value in tree.args.items():
        if value and part not in understood:
            shown = value.sql("duckdb") if isinstance(value, exp.Expression) else part.rstrip("_").upper()
            raise SqlError(f"{type(tree).__name__.upper()} takes no {part.rstrip('_').upper()} here", shown, hint)


def _target(plan: Plan, name: str) -> Scan:
    if not isinstance(plan, Scan):
        raise PlanError(f"the rows of {name!r} cannot be changed", name, "name a table, not its metadata")
    return plan


def _using(given: exp.Expression, plans: Mapping[str, Plan], query: MakeQuery) -> tuple[Plan, str]:
    if isinstance(given, exp.Table) and given.name in plans:
        return plans[given.name], given.alias
    if given.alias:  # a subquery, VALUES, a function such as read_parquet
        used = {one.name: plans[one.name] for one in given.find_all(exp.Table) if one.name in plans}
        return query(exp.select("*").from_(given.copy()), used), given.alias
    raise SqlError(
        "MERGE needs a table, or a subquery with a name of its own",
        given.sql("duckdb"),
        "write USING (SELECT ...) AS s",
    )


def _when(when: exp.When, target: Scan, alias: str, source: Plan, source_alias: str) -> Clause:
    of: Of = "matched" if when.args["matched"] else "not matched"
    if not when.args["matched"] and when.args.get("source"):
        of = "not matched by source"
    condition, then = when.args.get("condition"), when.args["then"]
    every = isinstance(then.this, exp.Star) or any(isinstance(one, exp.Star) for one in then.expressions)
    match then:
        case exp.Update() if of != "not matched":
            if every:
                return Clause(of, "update", condition, _all_of(target, source, source_alias, of))
            return Clause(of, "update", condition, _assigned(then.expressions, target, alias))
        case exp.Insert() if of == "not matched":
            if every:
                return Clause(of, "insert", condition, _all_of(target, source, source_alias, of))
            return Clause(of, "insert", condition, _inserted(then, target))
        case exp.Var() if then.name.upper() == "DELETE" and of != "not matched":
            return Clause(of, "delete", condition, {})
    raise SqlError(f"WHEN {of.upper()} cannot do that", when.sql("duckdb"), "see WHEN ... THEN in the page on merging")


def _inserted(then: exp.Insert, target: Scan) -> Mapping[str, exp.Expression]:
    values = then.expression.expressions if isinstance(then.expression, exp.Tuple) else []
    named = then.this.expressions if isinstance(then.this, exp.Tuple) else None
    names = target.table.schema.names if named is None else [one.name for one in named]
    if len(names) != len(values):
        raise SqlError(f"{len(names)} columns and {len(values)} values", then.sql("duckdb"), "give one for each")
    return _by_column(zip(names, values, strict=True), target)


def _assigned(assignments: Sequence[exp.Expression], target: Scan, alias: str) -> Mapping[str, exp.Expression]:
    pairs = []
    for one in assignments:
        if not isinstance(one, exp.EQ) or not isinstance(one.this, exp.Column):
            raise SqlError("this sets no column", one.sql("duckdb"), "write SET name = value")
        if len(one.this.parts) > 1 and (len(one.this.parts) > 2 or one.this.table.lower() != alias.lower()):
            hint = "set the whole column: SET s = struct_update(s, a := 1)"
            raise SqlError("only whole columns of the table can be set", one.sql("duckdb"), hint)
        pairs.append((one.this.name, one.expression))
    return _by_column(pairs, target)


# Python


def make_change(
    verb: Verb,
    target: Scan,
    clauses: Sequence[MergeClause],
    resolve: Resolve,
    source: Plan | None = None,
    on: Any = None,
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
            values = _all_of(target, source, SOURCE, clause.of)
        else:
            values = _by_column([(name, tree(one, seen)) for name, one in (clause.values or {}).items()], target)
        made.append(Clause(clause.of, clause.action, condition, values))
    wrapped = [exp.Paren(this=one) for one in read]  # so that none is a root, which cannot be replaced
    plans = named_inputs(wrapped, resolve)
    for one in read:
        one.pop()
    return RowChange(verb, target, TARGET, tuple(made), plans, source, SOURCE if source is not None else "", matches)


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
        read = one_statement(given)
        if isinstance(read, exp.Select | exp.SetOperation | exp.DML | exp.DDL | exp.Command | exp.Alias):
            raise TypeMismatch(f"{given!r} is no expression", place, "write a condition or a value, as inside a SELECT")
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
    if len(tables) != len(sides) or not all(isinstance(table, exp.Table) for table in tables):
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


def _all_of(target: Scan, source: Plan, source_alias: str, of: str) -> Mapping[str, exp.Expression]:
    """Return the source's column for each of the table's."""
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


def _by_column(pairs: Any, target: Scan) -> Mapping[str, exp.Expression]:
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
