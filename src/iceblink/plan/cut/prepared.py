"""A statement made ready to be cut: every column says where it comes from, and no name is used twice."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping

import pyarrow as pa

from iceblink.plan.cut.functions import aggregates
from iceblink.plan.late import exp, qualifying, scopes
from iceblink.plan.optimize import names_by_pattern

DIALECT = "duckdb"
EXACT = "duckdb, normalization_strategy=case_sensitive"


class Uncuttable(Exception):
    """What a statement has that the planner does not cut; the message says it in plain words."""


def prepared(tree: exp.Query, leaves: Mapping[str, pa.Schema]) -> exp.Query:
    """Return a copy of `tree` that gives the same rows, names in lower case, columns qualified.

    Afterwards each source of a statement has an alias of its own, joins are explicit, and ``*``, ``USING``,
    ``GROUP BY ALL`` and positions in ``ORDER BY`` are spelled out.

    Raises
    ------
    Uncuttable
    """
    tree = tree.copy()
    _refuse_what_hides_names(tree)
    _lower(tree)
    schema = {
        name.lower(): {'"' + column.lower().replace('"', '""') + '"': "UNKNOWN" for column in leaf.names}
        for name, leaf in leaves.items()
    }
    tree = qualifying.qualify(
        tree, schema=schema, dialect=EXACT, quote_identifiers=False, validate_qualify_columns=False
    )
    if names_by_pattern(tree):
        raise Uncuttable("it chooses columns by pattern, or takes rows whole")
    for select in list(tree.find_all(exp.Select)):
        _explicit_joins(select)
        _spelled_out_windows(select)
        _group_by_all(select)
        _order_by_all(select)
    _own_aliases(tree)
    _no_column_untraced(tree)
    for identifier in tree.find_all(exp.Identifier):
        identifier.set("quoted", not plain(identifier.name))
    return tree


def plain(name: str) -> bool:
    """Whether an identifier needs no quotes; those of reserved words come when it is written."""
    return re.fullmatch("[a-z_][a-z0-9_]*", name) is not None


def named(name: str) -> exp.Identifier:
    """Return an identifier, quoted where it must be."""
    return exp.to_identifier(name, quoted=not plain(name))


def column(table: str, name: str) -> exp.Column:
    """Return ``table.name``."""
    return exp.Column(this=named(name), table=named(table))


def unique(base: str, taken: Collection[str]) -> str:
    """Return `base`, with a number if it is taken."""
    name, number = base, 1
    while name in taken:
        number += 1
        name = f"{base}_{number}"
    return name


def conjuncts(condition: exp.Expression | None) -> list[exp.Expression]:
    """Return the parts of a condition that all must be true."""
    if condition is None:
        return []
    if isinstance(condition, exp.Paren):
        return conjuncts(condition.this)
    return [part.unnest() if isinstance(part, exp.Paren) else part for part in _flat_and(condition)]


def _flat_and(condition: exp.Expression) -> Iterator[exp.Expression]:
    if isinstance(condition, exp.And):
        yield from _flat_and(condition.left)
        yield from _flat_and(condition.right)
    elif isinstance(condition, exp.Paren) and isinstance(condition.this, exp.And):
        yield from _flat_and(condition.this)
    else:
        yield condition


def _refuse_what_hides_names(tree: exp.Query) -> None:
    if tree.find(exp.Columns):
        raise Uncuttable("COLUMNS(...) chooses columns by pattern")
    if any(with_.args.get("recursive") for with_ in tree.find_all(exp.With)):
        raise Uncuttable("WITH RECURSIVE reads its own rows")
    if tree.find(exp.Placeholder, exp.Parameter):
        raise Uncuttable("it has parameters")


def _lower(tree: exp.Query) -> None:
    """Lower-case what SQL compares without regard to case, and leave the names of fields in values as they are."""
    for identifier in tree.find_all(exp.Identifier):
        parent = identifier.parent
        if isinstance(parent, exp.PropertyEQ | exp.ColumnDef | exp.Dot) and identifier.arg_key != "expressions":
            continue
        identifier.set("this", identifier.name.lower())


def _explicit_joins(select: exp.Select) -> None:
    from_ = select.args.get("from_")
    if from_ is None:
        return
    if isinstance(from_.this, exp.Table) and from_.this.args.get("joins") and not select.args.get("joins"):
        select.set("joins", from_.this.args.pop("joins"))  # FROM first: they hang on the table
    comma = False
    for join in select.args.get("joins") or []:
        local = isinstance(join.this, exp.Unnest)
        if not (join.args.get("on") or join.kind or join.side or join.method or local):
            join.set("kind", "CROSS")
            comma = True
        elif comma and join.side in ("RIGHT", "FULL"):
            raise Uncuttable(f"a comma comes before a {join.side} JOIN")
        if join.args.get("using") or join.method:
            raise Uncuttable(f"{join.method or 'USING'} joins are not cut")


def _spelled_out_windows(select: exp.Select) -> None:
    """Write what ``WINDOW w AS (...)`` says where ``OVER w`` stands."""
    named_windows = {window.name: window for window in select.args.get("windows") or []}
    for window in list(select.find_all(exp.Window)):
        meant = named_windows.get(window.alias) if window.args.get("alias") else None
        if meant is None:
            continue
        if any(window.args.get(part) for part in _OVER) or meant.args.get("alias"):
            raise Uncuttable("a window extends another one")
        window.set("alias", None)
        for part in _OVER:
            value = meant.args.get(part)
            copied = [one.copy() for one in value] if isinstance(value, list) else value.copy() if value else None
            window.set(part, copied)
    select.set("windows", None)


_OVER = ("partition_by", "order", "spec")


def _group_by_all(select: exp.Select) -> None:
    group = select.args.get("group")
    if group is not None and group.args.get("all"):
        keys = [projection.unalias() for projection in select.expressions if not any(aggregates(projection))]
        select.set("group", exp.Group(expressions=[key.copy() for key in keys]) if keys else None)


def _order_by_all(select: exp.Select) -> None:
    order = select.args.get("order")
    if order is None:
        return
    for ordered in list(order.expressions):
        if isinstance(ordered.this, exp.Var) or (isinstance(ordered.this, exp.Column) and ordered.this.name == "all"):
            names = [projection.alias_or_name for projection in select.expressions]
            settings = {key: value for key, value in ordered.args.items() if key != "this"}
            order.set("expressions", [exp.Ordered(this=exp.column(named(name)), **settings) for name in names])
            return


def _own_aliases(tree: exp.Query) -> None:
    """Rename sources whose alias another SELECT has too."""
    taken: set[str] = set()
    for scope in reversed(scopes.traverse_scope(tree)):  # the outermost keeps its name
        for alias, (node, _) in list(scope.selected_sources.items()):
            new = unique(alias, taken)
            taken.add(new)
            if new == alias:
                continue
            holder = node if isinstance(node, exp.Table | exp.Subquery | exp.Unnest) else node.parent
            if holder is None or holder.args.get("alias") is None:
                raise Uncuttable(f"{alias!r} is read in two places")
            holder.args["alias"].set("this", exp.to_identifier(new))
            for found in scope.columns:
                if found.table == alias:
                    found.set("table", exp.to_identifier(new))


def _no_column_untraced(tree: exp.Query) -> None:
    for found in tree.find_all(exp.Column):
        if found.table or isinstance(found.this, exp.Star):
            continue
        if found.find_ancestor(exp.Lambda, exp.Comprehension) is not None:
            continue
        if found.find_ancestor(exp.Ordered, exp.Distinct) is None:
            raise Uncuttable(f"it is not clear where column {found.name!r} comes from")
