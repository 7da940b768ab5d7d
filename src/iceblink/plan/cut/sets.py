"""UNION, INTERSECT and EXCEPT."""

from __future__ import annotations

from dataclasses import replace

from iceblink.plan.cut.finish import distinct_rows
from iceblink.plan.cut.rows import Making, Relation, Steps, one_query, selecting, unordered
from iceblink.plan.late import exp
from iceblink.plan.stage import Hash, Observed


def combined(making: Making, tree: exp.SetOperation, left: Relation, right: Relation) -> Steps[Relation]:
    """Combine two relations, column by column in their places; the names are the left one's."""
    left, right = _alike(making, unordered(left), unordered(right))
    rows = left.size.rows + right.size.rows
    size = Observed(rows, left.size.nbytes + right.size.nbytes)
    if isinstance(tree, exp.Union):
        both = Relation((*left.pieces, *right.pieces), left.columns, None, size)
        if left.single and right.single:
            both = replace(both, pieces=(one_query(both),), placed=left.placed)
        if not tree.args.get("distinct"):
            return both
        return (yield from distinct_rows(making, both))
    placed = left.placed
    if not (left.single and right.single):
        why = "rows by all columns, to find them on both sides"
        left = yield from making.exchanged(left, Hash(left.columns), why, parted=True)
        placed = left.placed
        like = placed.like if placed is not None else None
        right = yield from making.exchanged(right, Hash(right.columns, like), why, parted=True)
    operation = type(tree)(this=one_query(left), expression=one_query(right), distinct=bool(tree.args.get("distinct")))
    query = selecting(operation, left.columns)
    return Relation((query,), left.columns, placed, left.size)


def _alike(making: Making, left: Relation, right: Relation) -> tuple[Relation, Relation]:
    """Give both the names of the left one and the types of their union."""
    (_, ones), (_, others) = making.described(left.pieces[0]), making.described(right.pieces[0])
    right = _renamed(right, left.columns)
    if ones == others:
        return left, right
    pair = exp.Union(this=left.pieces[0].copy(), expression=right.pieces[0].copy(), distinct=False)
    _, kinds = making.described(pair)
    return _cast(left, ones, kinds), _cast(right, others, kinds)


def _renamed(relation: Relation, columns: tuple[str, ...]) -> Relation:
    if relation.columns == columns:
        return relation
    names: dict[object, object] = dict(zip(relation.columns, columns, strict=True))
    pieces = tuple(selecting(piece, relation.columns, names=columns) for piece in relation.pieces)
    placed = relation.placed.renamed(names) if relation.placed is not None else None
    return replace(relation, pieces=pieces, columns=columns, placed=placed, kinds={})


def _cast(relation: Relation, given: tuple[str, ...], wanted: tuple[str, ...]) -> Relation:
    casts = {name: kind for name, have, kind in zip(relation.columns, given, wanted, strict=True) if have != kind}
    if not casts:
        return relation
    pieces = tuple(selecting(piece, relation.columns, casts) for piece in relation.pieces)
    return replace(relation, pieces=pieces, placed=relation.placed if relation.single else None, kinds={})
