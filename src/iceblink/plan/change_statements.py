"""DELETE, UPDATE and MERGE read from SQL text, in DuckDB's dialect.

References
----------
.. [1] ISO/IEC 9075-2:2023, <delete statement: searched>, <update statement: searched>, <merge statement>; Spark SQL's
   ``UPDATE SET *``, ``INSERT *`` and ``WHEN NOT MATCHED BY SOURCE``; PostgreSQL's ``UPDATE ... FROM`` and ``DELETE ...
   USING``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from iceblink.errors import PlanError, SqlError
from iceblink.plan.change_sources import Beside, MakeQuery, beside, called, source_of
from iceblink.plan.changes import Clause, RowChange, Verb, all_of, by_column
from iceblink.plan.clauses import Of
from iceblink.plan.late import exp
from iceblink.plan.nodes import Plan, Scan
from iceblink.plan.sql import QueryText, Resolve, named_inputs, one_statement
from iceblink.plan.understood import check_only, check_whole

CHANGES = ("DELETE", "UPDATE", "MERGE")
"""What statements that change rows begin with, but for a ``WITH``."""


def read_change(text: str, resolve: Resolve, query: MakeQuery) -> RowChange:
    """Read a DELETE, UPDATE or MERGE.

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
    ColumnNotFound, AmbiguousColumn, DuplicateColumn, PlanError
    """
    tree = one_statement(QueryText(text))
    line = text.strip().split("\n")[0]
    match tree:
        case exp.Delete():
            check_only(tree, {"this", "where", "using", "with_"}, "write DELETE FROM t USING s WHERE ...")
        case exp.Update():
            hint = "write UPDATE t SET ... FROM s WHERE ..."
            check_only(tree, {"this", "where", "expressions", "from_", "with_"}, hint)
        case exp.Merge():
            hint = "write MERGE INTO t USING s ON ... WHEN ... THEN ..."
            check_only(tree, {"this", "using", "on", "whens", "with_"}, hint)
            if not tree.args.get("on"):
                raise SqlError("a MERGE needs a condition: ON", line, hint)
            for when in tree.args["whens"].expressions:
                _check_then(when.args["then"])
        case _:
            raise SqlError(f"{type(tree).__name__.upper()} changes no rows", line)
    _check_target(tree.this, line)
    check_whole(tree, text)
    _hand_down(tree)
    name = ".".join(part.name for part in tree.this.parts)
    plans = named_inputs([tree], resolve)
    target = _target(plans[tree.this.name], name)
    reader = _Reader(text, target, tree.this.alias, plans, query)
    match tree:
        case exp.Delete():
            return reader.delete(tree)
        case exp.Update():
            return reader.update(tree)
    return reader.merge(tree)


def _check_target(given: exp.Expression, line: str) -> None:
    if not isinstance(given, exp.Table):
        raise SqlError("the table to change is not named", line)
    if given.args.get("version") or given.args.get("when"):
        raise SqlError("a version of the past cannot be changed", given.sql("duckdb"), "name the table alone")
    if given.args.get("joins"):
        raise SqlError("one table is changed at a time", given.sql("duckdb"), "join others behind FROM or USING")
    check_only(given, {"this", "db", "catalog", "alias"}, "name the table alone; WHERE says which of its rows")
    alias = given.args.get("alias")
    if alias is not None:
        check_only(alias, {"this"}, "the columns of the table to change are called as they are")


def _check_then(then: exp.Expression) -> None:
    """Refuse what is not looked at of what becomes of rows."""
    if isinstance(then, exp.Update | exp.Insert):
        stars = [one for one in (then.this, *then.expressions) if isinstance(one, exp.Star)]
        parts = {"expressions"} if isinstance(then, exp.Update) else {"this"} if stars else {"this", "expression"}
        check_only(then, parts, "conditions are written before: WHEN ... AND s.n > 3 THEN")
        for star in stars:
            check_only(star, (), "name the columns")
        if stars and len(then.expressions) > 1:
            raise SqlError("* sets every column", then.sql("duckdb"), "name all columns, or none")


def _target(plan: Plan, name: str) -> Scan:
    if not isinstance(plan, Scan):
        raise PlanError(f"the rows of {name!r} cannot be changed", name, "name a table: no view, no metadata")
    return plan


def _hand_down(tree: exp.Expression) -> None:
    """Give the queries of a leading ``WITH`` to all queries of a statement, and to the source that names one."""
    with_ = tree.args.get("with_")
    if with_ is None:
        return
    check_only(with_, {"expressions", "recursive"}, "write SELECT * FROM (WITH ...)")
    tree.set("with_", None)
    names = {one.alias.lower() for one in with_.expressions}
    if not tree.this.args.get("db") and tree.this.name.lower() in names:
        raise SqlError("a query of WITH cannot be changed", tree.this.sql("duckdb"), "name a table")
    for table in list(tree.find_all(exp.Table)):
        named = not table.args.get("db") and table.name.lower() in names
        if named and table is not tree.this and table.find_ancestor(exp.Select, exp.SetOperation) is None:
            alias = table.args.get("alias") or exp.TableAlias(this=exp.to_identifier(called(table), quoted=True))
            inner, joins = table.copy(), table.args.get("joins")
            inner.set("joins", None)
            inner.set("alias", None)
            table.replace(exp.Subquery(this=exp.select("*").from_(inner, copy=False), alias=alias, joins=joins))
    for query in list(tree.find_all(exp.Select, exp.SetOperation)):
        if query.find_ancestor(exp.Select, exp.SetOperation) is None:
            own = query.args.get("with_")
            taken = set() if own is None else {one.alias.lower() for one in own.expressions}
            given = [one.copy() for one in with_.expressions if one.alias.lower() not in taken]
            inner = [] if own is None else own.expressions
            recursive = with_.args.get("recursive") or (own is not None and own.args.get("recursive"))
            query.set("with_", exp.With(expressions=[*given, *inner], recursive=recursive))


@dataclass(frozen=True)
class _Reader:
    """Reads the parts of a statement whose tables are found."""

    text: str
    target: Scan
    alias: str
    plans: Mapping[str, Plan]
    query: MakeQuery

    def delete(self, tree: exp.Delete) -> RowChange:
        using = tree.args.get("using")
        if not using:
            return self._change("delete", Clause("matched", "delete", _where(tree), {}))
        found = self._beside(_one(using), _where(tree), [])
        return self._change("delete", Clause("matched", "delete", None, {}), found=found)

    def update(self, tree: exp.Update) -> RowChange:
        pairs = self._pairs(tree)
        from_ = tree.args.get("from_")
        if from_ is None:
            return self._change("update", Clause("matched", "update", _where(tree), by_column(pairs, self.target)))
        found = self._beside(from_.this, _where(tree), [value for _, value in pairs])
        values = by_column(zip((name for name, _ in pairs), found.values, strict=True), self.target)
        return self._change("update", Clause("matched", "update", None, values), found=found)

    def merge(self, tree: exp.Merge) -> RowChange:
        plan, alias = source_of(tree.args["using"], self.alias, self.plans, self.query)
        clauses = [self._when(when, plan, alias) for when in tree.args["whens"].expressions]
        return self._change("merge", *clauses, found=Beside(plan, alias, tree.args["on"], []))

    def _change(self, verb: Verb, *clauses: Clause, found: Beside | None = None) -> RowChange:
        made = RowChange(verb, self.target, self.alias, clauses, self.plans, text=self.text)
        return made if found is None else replace(made, source=found.plan, source_alias=found.alias, on=found.on)

    def _beside(self, given: exp.Expression, where: exp.Expression | None, values: Sequence[exp.Expression]) -> Beside:
        return beside(given, where, values, self.target, self.alias, self.plans, self.query)

    def _pairs(self, tree: exp.Expression) -> list[tuple[str, exp.Expression]]:
        """Return the columns that an UPDATE sets, and their values."""
        if not tree.expressions:
            raise SqlError("an UPDATE sets something", tree.sql("duckdb"), "write SET name = value")
        return [pair for one in tree.expressions for pair in self._assigned(one)]

    def _assigned(self, one: exp.Expression) -> Iterator[tuple[str, exp.Expression]]:
        if not isinstance(one, exp.EQ):
            raise SqlError("this sets no column", one.sql("duckdb"), "write SET name = value")
        if isinstance(one.this, exp.Tuple):
            names, values = one.this.expressions, one.expression
            if not isinstance(values, exp.Tuple) or len(values.expressions) != len(names):
                raise SqlError("give a value for each column", one.sql("duckdb"), "write SET (a, b) = (1, 2)")
            for name, value in zip(names, values.expressions, strict=True):
                yield self._column(name, one), value
        else:
            yield self._column(one.this, one), one.expression

    def _column(self, given: exp.Expression, one: exp.Expression) -> str:
        if not isinstance(given, exp.Column):
            raise SqlError("this sets no column", one.sql("duckdb"), "write SET name = value")
        parts = given.parts
        if len(parts) > 2 or (len(parts) == 2 and given.table.lower() != self.alias.lower()):
            hint = "set the whole column: SET s = struct_update(s, a := 1)"
            raise SqlError("only whole columns of the table can be set", one.sql("duckdb"), hint)
        return str(given.name)

    def _when(self, when: exp.When, source: Plan, source_alias: str) -> Clause:
        of: Of = "matched" if when.args["matched"] else "not matched"
        if not when.args["matched"] and when.args.get("source"):
            of = "not matched by source"
        condition, then = when.args.get("condition"), when.args["then"]
        every = isinstance(then.this, exp.Star) or any(isinstance(one, exp.Star) for one in then.expressions)
        match then:
            case exp.Update() if of != "not matched":
                if every:
                    return Clause(of, "update", condition, all_of(self.target, source, source_alias, of))
                return Clause(of, "update", condition, by_column(self._pairs(then), self.target))
            case exp.Insert() if of == "not matched":
                if every:
                    return Clause(of, "insert", condition, all_of(self.target, source, source_alias, of))
                return Clause(of, "insert", condition, self._inserted(then))
            case exp.Var() if then.name.upper() == "DELETE" and of != "not matched":
                return Clause(of, "delete", condition, {})
        hint = "see WHEN ... THEN in the page on merging"
        raise SqlError(f"WHEN {of.upper()} cannot do that", when.sql("duckdb"), hint)

    def _inserted(self, then: exp.Insert) -> Mapping[str, exp.Expression]:
        values = then.expression.expressions if isinstance(then.expression, exp.Tuple) else []
        named = then.this.expressions if isinstance(then.this, exp.Tuple) else None
        names = self.target.table.schema.names if named is None else [self._column(one, then) for one in named]
        if len(names) != len(values):
            raise SqlError(f"{len(names)} columns and {len(values)} values", then.sql("duckdb"), "give one for each")
        return by_column(zip(names, values, strict=True), self.target)


def _where(tree: exp.Expression) -> exp.Expression | None:
    where = tree.args.get("where")
    found: exp.Expression | None = None if where is None else where.this
    return found


def _one(using: Sequence[exp.Expression]) -> exp.Expression:
    """Return the tables of ``USING a, b`` as one with joins."""
    first, *more = using
    if more:
        first.set("joins", [*(first.args.get("joins") or []), *(exp.Join(this=one) for one in more)])
    return first
