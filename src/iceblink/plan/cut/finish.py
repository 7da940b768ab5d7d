"""The end of a SELECT: windows, DISTINCT, the order and how many rows of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from iceblink.plan.cut.block import Block, Output
from iceblink.plan.cut.prepared import Uncuttable, named, unique
from iceblink.plan.cut.rewritten import windows
from iceblink.plan.cut.rows import ONE_TASK, Making, Relation, Steps, one_query, selecting
from iceblink.plan.late import exp
from iceblink.plan.stage import Gather, Hash, Order, Range


def finished(
    block: Block, select: exp.Select, outputs: Sequence[Output], inherited: tuple[exp.Ordered, ...]
) -> Steps[Relation]:
    """Compute the outputs of a SELECT that groups nothing, over what is in hand.

    An order that rows have from a subquery (`inherited`) stays theirs where the SELECT has none of its own.
    """
    over = list(windows(select))
    if over:
        keys = _common([window.args.get("partition_by") or [] for window in over])
        if not keys:
            yield from block.gather("all rows: a window goes over them")
        elif not block.single and not block.together(keys):
            yield from block.hash(keys, f"rows by {', '.join(key.sql('duckdb') for key in keys)}: windows go over them")
            block.divide(False)
    distinct, order = select.args.get("distinct"), select.args.get("order")
    on = distinct.args.get("on") if distinct is not None else None
    ordered = order.expressions if order is not None else (() if distinct is not None else inherited)
    keys_of, hidden = _order(ordered, outputs, free=distinct is None or on is not None)
    qualify = select.args.get("qualify")
    columns = tuple(name for _, name in outputs)
    condition = _spelled_out(qualify.this, outputs) if qualify is not None else None
    if on is not None:
        return (yield from _distinct_on(block, select, outputs, hidden, keys_of, condition))
    plain = exp.Distinct() if distinct is not None else None
    relation = block.close([*outputs, *hidden], qualify=condition, distinct=plain)
    relation = replace(relation, columns=columns)
    if plain is not None:
        relation = yield from distinct_rows(block.making, relation)
    return replace(relation, order=keys_of)


def distinct_rows(making: Making, relation: Relation) -> Steps[Relation]:
    """Bring equal rows together and keep one of each; what a task has twice does not travel."""
    columns: set[object] = set(relation.columns)
    if len(relation.pieces) > 1 or relation.placed is None or not relation.placed.by(columns):
        pieces = tuple(_distinct(piece) for piece in relation.pieces)
        sent = replace(relation, pieces=pieces)
        relation = yield from making.exchanged(
            sent, Hash(relation.columns), "distinct rows of each task, by all columns"
        )
    for piece in relation.pieces:
        making.divide(piece, False)
    return replace(relation, pieces=tuple(_distinct(piece) for piece in relation.pieces))


def _distinct(query: exp.Query) -> exp.Query:
    if isinstance(query, exp.Select) and not any(query.args.get(key) for key in ("order", "limit", "offset")):
        query = query.copy()
        query.set("distinct", exp.Distinct())
        return query
    selected = selecting(query, [output.alias_or_name for output in query.selects])
    selected.set("distinct", exp.Distinct())
    return selected


def _distinct_on(
    block: Block,
    select: exp.Select,
    outputs: Sequence[Output],
    hidden: Sequence[Output],
    order: tuple[Order, ...],
    qualify: exp.Expression | None,
) -> Steps[Relation]:
    on = select.args["distinct"].args["on"]
    keys = [_spelled_out(key, outputs) for key in (on.expressions if isinstance(on, exp.Tuple) else [on])]
    if not block.single and not block.together(keys):
        block.rest.roots += keys
        yield from block.hash(keys, f"rows by {', '.join(key.sql('duckdb') for key in keys)}, to keep one of each")
        block.divide(False)
    distinct = exp.Distinct(on=exp.Tuple(expressions=[key.copy() for key in keys]))
    relation = block.close([*outputs, *hidden], qualify=qualify, distinct=distinct)
    for piece in relation.pieces:
        if order:
            piece.set("order", _ordering(order))
    return replace(relation, columns=tuple(name for _, name in outputs), order=order)


def top(making: Making, limit: int | None, offset: int, relation: Relation) -> Steps[Relation]:
    """Keep the first rows: each task its own first, one task those of all."""
    if limit is None and not offset:
        return relation
    if not relation.single:
        sent = relation
        if limit is not None:
            pieces = tuple(_first(piece, relation.order, limit + offset, 0) for piece in relation.pieces)
            sent = replace(relation, pieces=pieces)
        every = (*relation.columns, *relation.hidden)
        sent = replace(sent, columns=every, order=())
        moved = yield from making.exchanged(sent, Gather(), "first rows of each task")
        relation = replace(moved, columns=relation.columns, order=relation.order)
    piece = _first(one_query(relation), relation.order, limit, offset)
    return replace(relation, pieces=(piece,), placed=ONE_TASK)


def _first(query: exp.Query, order: tuple[Order, ...], limit: int | None, offset: int) -> exp.Query:
    clauses = ("order", "limit", "offset")
    if isinstance(query, exp.Select) and not any(query.args.get(key) for key in clauses):
        query = query.copy()
    else:
        query = selecting(query, [output.alias_or_name for output in query.selects])
    if order:
        query.set("order", _ordering(order))
    if limit is not None:
        query.set("limit", exp.Limit(expression=exp.Literal.number(limit)))
    if offset:
        query.set("offset", exp.Offset(expression=exp.Literal.number(offset)))
    return query


def in_order(making: Making, relation: Relation, names: Sequence[str]) -> Steps[tuple[tuple[exp.Query, ...], bool]]:
    """Return the queries of a result under the names a user gave, and whether its tasks follow each other in order."""
    if not relation.order:
        return tuple(_renamed(piece, relation.columns, names) for piece in relation.pieces), relation.single
    order = relation.order
    if not relation.single:
        every = replace(relation, columns=(*relation.columns, *relation.hidden))
        moved = yield from making.exchanged(every, Range(order), "rows by ranges of the order")
        relation = replace(moved, columns=relation.columns, order=order)
    (piece,) = relation.pieces
    if not relation.hidden and relation.columns == tuple(names):
        done = piece.args.get("order") is not None
        return (piece if done else _first(piece, order, None, 0),), True
    query = selecting(piece, relation.columns, names=names)
    query.set("order", _ordering(order, "rows"))
    return (query,), True


def _renamed(query: exp.Query, columns: Sequence[str], names: Sequence[str]) -> exp.Query:
    if tuple(columns) == tuple(names) and [output.alias_or_name for output in query.selects] == list(columns):
        return query
    return selecting(query, columns, names=names)


def _ordering(order: tuple[Order, ...], table: str | None = None) -> exp.Order:
    return exp.Order(
        expressions=[
            exp.Ordered(
                this=exp.column(named(key.column), table=named(table) if table else None),
                desc=key.descending,
                nulls_first=key.nulls_first,
            )
            for key in order
        ]
    )


def _common(lists: Sequence[Sequence[exp.Expression]]) -> list[exp.Expression]:
    first, *others = lists
    return [key for key in first if key.find(exp.Column) and all(key in other for other in others)]


def _order(
    ordered: Sequence[exp.Ordered], outputs: Sequence[Output], free: bool
) -> tuple[tuple[Order, ...], list[Output]]:
    """Return the keys of an ORDER BY as columns; what is no output becomes a hidden one."""
    taken = {name for _, name in outputs}
    keys: list[Order] = []
    hidden: list[Output] = []
    for one in ordered:
        expression = one.this.unnest()
        if isinstance(expression, exp.Column) and not expression.table and expression.name in taken:
            name = expression.name
        else:
            expression = _spelled_out(expression, outputs)
            name = next((name for output, name in [*outputs, *hidden] if output == expression), "")
            if not name and not free:
                raise Uncuttable("DISTINCT rows are ordered by something else")
            if not name:
                name = unique(expression.name if isinstance(expression, exp.Column) else "order_key", taken)
                taken.add(name)
                hidden.append((expression, name))
        keys.append(Order(name, bool(one.args.get("desc")), bool(one.args.get("nulls_first"))))
    return tuple(keys), hidden


def _spelled_out(expression: exp.Expression, outputs: Sequence[Output]) -> exp.Expression:
    """Return an expression with names of outputs replaced by what they stand for."""
    by_name = {name: output for output, name in outputs}

    def replaced(node: exp.Expression) -> exp.Expression:
        if isinstance(node, exp.Column) and not node.table and node.name in by_name:
            if node.find_ancestor(exp.Lambda, exp.Comprehension) is not None:
                return node
            output = by_name[node.name]
            return output.copy() if isinstance(output, exp.Column) else exp.paren(output.copy())
        return node

    return expression.transform(replaced)
