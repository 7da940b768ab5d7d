"""What stands beside the table of a change, behind ``USING`` or ``FROM``: one plan, whose rows meet the table's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from iceblink.errors import AmbiguousColumn, ColumnNotFound, SqlError
from iceblink.plan.changes import column_of
from iceblink.plan.late import exp
from iceblink.plan.nodes import Plan, Scan, Tree

MakeQuery: TypeAlias = Callable[[Tree, Mapping[str, Plan]], Plan]
_SEVERAL = "iceblink source"


@dataclass(frozen=True)
class Beside:
    """A source, and what an expression over it and the table became.

    Parameters
    ----------
    plan : Plan
    alias : str
    on : sqlglot Expression
        When a row of it matches one of the table.
    values : list of sqlglot Expression
    """

    plan: Plan
    alias: str
    on: exp.Expression
    values: list[exp.Expression]


def called(given: exp.Expression) -> str:
    """Return what the rows of a source are called; empty for a subquery without a name. A pivot has the last word."""
    pivots = given.args.get("pivots") or ()
    own = given.alias or (given.name if isinstance(given, exp.Table) else "")
    return next((str(one.alias) for one in reversed(pivots) if one.alias), own)


def source_of(given: exp.Expression, target: str, plans: Mapping[str, Plan], query: MakeQuery) -> tuple[Plan, str]:
    """Return the plan of one table, subquery, ``VALUES`` or table function, and what its rows are called.

    Raises
    ------
    SqlError
        A subquery has no name, or that by which the rows of the table that is changed are called, which is `target`.
    """
    own = called(given)
    if not own:
        raise SqlError("a subquery has no name of its own", given.sql("duckdb"), "write (SELECT ...) AS s")
    if own.lower() == target.lower():
        raise SqlError(f"two tables are called {own}", given.sql("duckdb"), "give one of them another name: AS s")
    if isinstance(given, exp.Table) and given.name in plans:
        more = [part for part, value in given.args.items() if value and part not in ("this", "alias")]
        if not more and not given.args["alias"].args.get("columns"):
            return plans[given.name], own
    return query(exp.select("*").from_(given.copy()), _used(given, plans)), own


def beside(
    given: exp.Expression,
    where: exp.Expression | None,
    values: Sequence[exp.Expression],
    target: Scan,
    alias: str,
    plans: Mapping[str, Plan],
    query: MakeQuery,
) -> Beside:
    """Return what ``FROM`` or ``USING`` names as one source, and ``WHERE`` as the condition that a row of it matches.

    Of several tables it is the join, of the columns that `where` and `values` name; what `where` says of these tables
    alone is left to it.

    Raises
    ------
    SqlError, ColumnNotFound, AmbiguousColumn
    """
    joins: list[exp.Join] = given.args.get("joins") or []
    if not joins:
        plan, own = source_of(given, alias, plans, query)
        return Beside(plan, own, exp.true() if where is None else where, list(values))
    first = given.copy()
    first.set("joins", None)
    sides = dict(source_of(one, alias, plans, query)[::-1] for one in (first, *(join.this for join in joins)))
    names = _Names({name.lower(): (name, plan) for name, plan in sides.items()}, target)
    parts = [] if where is None else list(where.flatten()) if isinstance(where, exp.And) else [where]
    own_parts = [part for part in parts if names.tells(part)]
    on = exp.and_(*(part.copy() for part in parts if part not in own_parts), copy=False) or exp.true()
    wrapped = [exp.Paren(this=one.copy()) for one in (on, *values)]  # so that none is a root, which cannot be replaced
    for one in wrapped:
        names.replace(one)
    used = names.used or [(name, plan.schema.names[0]) for name, plan in list(sides.items())[:1]]
    shown = [exp.alias_(column_of(column, side), f"{side}.{column}", quoted=True) for side, column in used]
    select = exp.select(*shown).from_(first)
    select.set("joins", [join.copy() for join in joins])
    for part in own_parts:
        select = select.where(part.copy(), copy=False)
    condition, *made = [one.this for one in wrapped]
    return Beside(query(select, _used(select, plans)), _SEVERAL, condition, made)


def _used(tree: exp.Expression, plans: Mapping[str, Plan]) -> Mapping[str, Plan]:
    return {one.name: plans[one.name] for one in tree.find_all(exp.Table) if one.name in plans}


class _Names:
    """Whose columns names are, where several tables stand beside the one that is changed."""

    def __init__(self, sides: Mapping[str, tuple[str, Plan]], target: Scan) -> None:
        self._sides = sides
        self._own = {name.lower() for name in target.table.schema.names}
        self.used: list[tuple[str, str]] = []

    def tells(self, condition: exp.Expression) -> bool:
        """Whether a condition is about these tables alone."""
        columns = list(condition.find_all(exp.Column))
        return condition.find(exp.Query) is None and bool(columns) and all(map(self._of, columns))

    def replace(self, tree: exp.Expression) -> None:
        """Let columns of these tables be those of the join, in place."""
        for column in list(tree.find_all(exp.Column)):
            found = self._of(column)
            if found is not None:
                if found not in self.used:
                    self.used.append(found)
                column.replace(column_of(".".join(found), _SEVERAL))

    def _of(self, column: exp.Column) -> tuple[str, str] | None:
        """Return the table of these that a column is of, and its name there; None if it is another's."""
        inside = column.find_ancestor(exp.Select, exp.SetOperation)
        if column.table:
            side = self._sides.get(column.table.lower())
            if side is None or (inside is not None and _shadowed(column)):
                return None
            name, plan = side
            return name, _own_name(column, name, plan)
        if inside is not None:  # most likely of a table there; if not, the kernel says so
            return None
        wanted = column.name.lower()
        having = [(name, plan) for name, plan in self._sides.values() if wanted in map(str.lower, plan.schema.names)]
        if len(having) + (wanted in self._own) > 1:
            choices = " or ".join(f"{name}.{column.name}" for name, _ in having)
            raise AmbiguousColumn(f"column {column.name!r} is in more than one input", "", f"write {choices}")
        return (having[0][0], _own_name(column, *having[0])) if having else None


def _shadowed(column: exp.Column) -> bool:
    """Whether a query around a column has a table of its own that is called as the column says."""
    query = column.find_ancestor(exp.Select)
    while query is not None:
        if any(one.alias_or_name.lower() == column.table.lower() for one in query.find_all(exp.Table, exp.Subquery)):
            return True
        query = query.find_ancestor(exp.Select)
    return False


def _own_name(column: exp.Column, side: str, plan: Plan) -> str:
    names: list[str] = plan.schema.names
    own = column.name if column.name in names else {name.lower(): name for name in names}.get(column.name.lower())
    if own is None:
        raise ColumnNotFound.of(column.name, names, side)
    return own
