"""A stretch of relational nodes becomes one statement, and each of its scans learns what it need not read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.types as pt

from iceblink.lake.row_lineage import is_lineage
from iceblink.plan.late import exp, predicates, projections, qualifying, scopes, sqlglot
from iceblink.plan.limits import rows_wanted
from iceblink.plan.nodes import MapBatches, Memory, Plan, Query, Scan
from iceblink.plan.predicates import Evaluate, either, read_predicate
from iceblink.predicate import Everything, Predicate, conjunction
from iceblink.scan.place import is_placed


@dataclass(frozen=True)
class Reference:
    """One place where a statement reads a plan that is not SQL itself.

    Parameters
    ----------
    name : str
        Unique in the statement, and readable.
    plan : Plan
        A scan, rows in memory, or the output of a Python function.
    columns : tuple of str
        What the statement needs, in the plan's order.
    predicate : Predicate
        What every row that matters satisfies.
    unneeded : tuple of str
        Columns that the statement names and does not need, in a CTE of which it uses others.
    rows : int or None
        After so many rows nothing more matters; None when all do.
    """

    name: str
    plan: Plan
    columns: tuple[str, ...]
    predicate: Predicate = field(default_factory=Everything)
    unneeded: tuple[str, ...] = ()
    rows: int | None = None

    @property
    def named(self) -> tuple[str, ...]:
        """Columns that the statement names, needed or not, in the plan's order."""
        return tuple(name for name in self.plan.schema.names if name in self.columns or name in self.unneeded)


@dataclass(frozen=True)
class Statement:
    """One SQL statement for the kernel, and what it reads; `notes` say what could not be pushed down."""

    tree: exp.Query
    references: tuple[Reference, ...]
    notes: tuple[str, ...] = ()


def statement(query: Query, evaluate: Evaluate) -> Statement:
    """Fuse `query` with the queries below it and push columns and filters to its references.

    The tree that runs is the user's own, with inputs inlined as CTEs: the optimised copy only tells what each
    scan may leave out, so that a rewrite can never change a result, only the work.
    """
    fused = fuse(query)
    try:
        learned = pushdown(fused, evaluate)
    except (sqlglot.errors.SqlglotError, RecursionError, AttributeError, KeyError, TypeError, ValueError) as error:
        note = f"nothing pushed down: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        return replace(fused, notes=(note,))
    if len(learned) == 1 and (rows := rows_wanted(fused.tree)) is not None:
        learned = (replace(learned[0], rows=rows),)
    return replace(fused, references=learned)


def fuse(query: Query) -> Statement:
    """Inline nested queries as CTEs and give every reference a readable name of its own."""
    taken = {cte.alias.lower() for node in _queries(query) for cte in node.tree.find_all(exp.CTE)}
    references: list[Reference] = []
    steps: dict[int, str] = {}
    ctes: list[exp.CTE] = []

    def unique(base: str) -> str:
        name, number = base, 1
        while name.lower() in taken:
            number += 1
            name = f"{base}_{number}"
        taken.add(name.lower())
        return name

    def inline(node: Query) -> exp.Query:
        tree = node.tree.copy()
        for table in list(tree.find_all(exp.Table)):
            source = node.sources.get(table.name) if isinstance(table.this, exp.Identifier) else None
            if source is None:
                continue
            if isinstance(source, Query):
                if id(source) not in steps:
                    body = inline(source)
                    steps[id(source)] = unique("step")
                    alias = exp.TableAlias(this=exp.to_identifier(steps[id(source)], quoted=True))
                    ctes.append(exp.CTE(this=body, alias=alias))
                name = steps[id(source)]
            else:
                name = unique(_readable(source))
                references.append(Reference(name, source, tuple(source.schema.names)))
            table.set("this", exp.to_identifier(name, quoted=True))
            if not table.alias:
                table.set("alias", exp.TableAlias(this=exp.to_identifier(name, quoted=True)))
        return tree

    tree = inline(query)
    if ctes:
        with_ = tree.args.get("with_")
        if with_ is None:
            tree.set("with_", exp.With(expressions=ctes))
        else:
            with_.set("expressions", [*ctes, *with_.expressions])
    return Statement(tree, tuple(references))


def _queries(query: Query) -> Iterable[Query]:
    yield query
    for source in query.inputs:
        if isinstance(source, Query):
            yield from _queries(source)


def _readable(plan: Plan) -> str:
    match plan:
        case Scan(table=table):
            return table.name.rsplit(".", 1)[-1]
        case Memory(label=label):
            return label
        case MapBatches():
            return "batches"
        case _:
            return type(plan).__name__.lower()


def pushdown(fused: Statement, evaluate: Evaluate) -> tuple[Reference, ...]:
    """Return the references with their columns and predicates narrowed."""
    by_name = {reference.name.lower(): reference for reference in fused.references}
    if not by_name:
        return ()
    schema = {  # quoted: sqlglot reads bare names as SQL, and takes the space off " x"
        name: {'"' + column.replace('"', '""') + '"': "UNKNOWN" for column in reference.plan.schema.names}
        for name, reference in by_name.items()
    }
    tree = qualifying.qualify(
        fused.tree.copy(), schema=schema, dialect="duckdb", quote_identifiers=False, validate_qualify_columns=False
    )
    found = scopes.traverse_scope(tree)
    # what each scope says of its own references is read as it stands; only between scopes there is something to push
    rounded = False
    if nested := [scope for scope in found if any(isinstance(one, scopes.Scope) for one in scope.sources.values())]:
        tree = projections.pushdown_projections(tree)
        if any(scope.expression.args.get("where") or scope.expression.args.get("joins") for scope in nested):
            # the pass turns x + 1 <= 5 into x <= 4, and sums of floats round
            rounded = any(node.find(exp.Column) for node in tree.find_all(exp.Add, exp.Sub, exp.Mul, exp.Div))
            tree = predicates.pushdown_predicates(tree, dialect="duckdb")
        found = scopes.traverse_scope(tree)
    seen: dict[str, tuple[set[str], Predicate]] = {}
    everything = names_by_pattern(tree)
    for scope in found:
        for alias, source in scope.sources.items():
            if not isinstance(source, exp.Table) or source.name.lower() not in by_name:
                continue
            name = source.name.lower()
            fields = {field.name.lower(): field for field in by_name[name].plan.schema}
            used = set(by_name[name].plan.schema.names) if everything else _used(scope, alias, fields)
            sure = {  # of what no file has, or only some rows of it, there are no statistics
                key: one
                for key, one in fields.items()
                if not is_placed(key) and not is_lineage(one) and not (rounded and pt.is_floating(one.type))
            }
            pivoted = source.args.get("pivots")  # a condition is about what came of it
            predicate = Everything() if pivoted else _implied(scope, alias, sure, evaluate)
            if name in seen:  # a rewrite may read one reference in two places
                used |= seen[name][0]
                predicate = either(predicate, seen[name][1])
            seen[name] = used, predicate
    named = _named(fused.tree)
    return tuple(_narrow(reference, seen.get(reference.name.lower()), named) for reference in fused.references)


def names_by_pattern(tree: exp.Query) -> bool:
    """Whether only the kernel can tell which columns are meant: ``COLUMNS(...)``, ``* LIKE 'a%'``, ``t`` for a row.

    A pivot gives columns of values, and groups by all that it does not name.
    """
    if tree.find(exp.Columns, exp.TableColumn, exp.Pivot) is not None:
        return True
    stars = (star.parent if isinstance(star.parent, exp.Column) else star for star in tree.find_all(exp.Star))
    if not all(isinstance(star.parent, exp.Select | exp.Count) for star in stars):
        return True
    return any(not column.table and column.name.lower() in _in_sight(column) for column in tree.find_all(exp.Column))


def _in_sight(column: exp.Column) -> set[str]:
    """Return the names of the tables that a column may be of, in its SELECT or one around it."""
    names: set[str] = set()
    select = column.find_ancestor(exp.Select)
    while select is not None:
        parts = [select.args.get("from_"), *(select.args.get("joins") or ())]
        sources = [part.this for part in parts if part is not None]  # a function such as range() gives values
        rows = [one for one in sources if isinstance(one.this, exp.Identifier | exp.Query)]
        names |= {one.alias_or_name.lower() for one in rows}
        select = select.find_ancestor(exp.Select)
    return names


def _named(tree: exp.Query) -> frozenset[str] | None:
    """Return every word of a statement that may be a column, lower-case; None where it names columns by pattern."""
    if any(any(star.args.values()) for star in tree.find_all(exp.Star)) or tree.find(exp.Columns):
        return None
    return frozenset(word.name.lower() for word in tree.find_all(exp.Identifier))


def _narrow(
    reference: Reference, learned: tuple[set[str], Predicate] | None, named: frozenset[str] | None
) -> Reference:
    if learned is None:  # the optimiser found that it is not needed, or lost it: read it whole
        return reference
    used, predicate = learned
    names = reference.plan.schema.names
    columns = tuple(name for name in names if name in used) or (_narrowest(reference.plan.schema),)
    unneeded = tuple(name for name in names if name not in columns and (named is None or name.lower() in named))
    return replace(reference, columns=columns, predicate=predicate, unneeded=unneeded)


def _narrowest(schema: pa.Schema) -> str:
    """The cheapest column to read when only the number of rows matters."""
    width: dict[str, int] = {
        field.name: field.type.bit_width if pt.is_primitive(field.type) else 1 << 20 for field in schema
    }
    return min(width, key=lambda name: width[name])


def _used(scope: scopes.Scope, alias: str, fields: Mapping[str, pa.Field]) -> set[str]:
    """Names of `alias` that the scope mentions, correlated subqueries included; all if a star is left."""
    if any(isinstance(star.parent, exp.Select) for star in scope.expression.find_all(exp.Star)):
        return {field.name for field in fields.values()}
    mentioned = scope.expression.find_all(exp.Column)
    return {fields[c.name.lower()].name for c in mentioned if c.table == alias and c.name.lower() in fields}


def _implied(scope: scopes.Scope, alias: str, fields: Mapping[str, pa.Field], evaluate: Evaluate) -> Predicate:
    """Return the conjuncts of WHERE and ON that rows of `alias` must satisfy to matter (SQL join semantics)."""
    select = scope.expression
    if not isinstance(select, exp.Select):
        return Everything()
    joins: list[exp.Join] = select.args.get("joins") or []
    position = next((i for i, join in enumerate(joins) if join.this.alias_or_name == alias), None)
    null_supplied = position is not None and joins[position].side in ("LEFT", "FULL")
    parts: list[Predicate] = []
    for index, join in enumerate(joins):
        if join.method or join.kind not in ("", "INNER", "CROSS", "OUTER", "SEMI", "ANTI"):
            return Everything()  # ASOF, POSITIONAL, LATERAL: say nothing
        on = join.args.get("on")
        if index == position:
            applies = join.side in ("", "LEFT")  # rows that fail ON never match; RIGHT and FULL keep them
        else:
            after = position is None or index > position
            applies = after and not null_supplied and join.side in ("", "RIGHT") and join.kind != "ANTI"
        if on is not None and applies:
            parts.append(read_predicate(on, alias, fields, evaluate))
        if (position is None or index > position) and join.side in ("RIGHT", "FULL"):
            null_supplied = True
    where = select.args.get("where")
    if where is not None and not null_supplied:
        parts.append(read_predicate(where.this, alias, fields, evaluate))
    return conjunction(*parts)
