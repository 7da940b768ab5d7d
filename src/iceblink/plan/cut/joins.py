"""Joins: the small side goes to every task, else both sides go by hash of the key, else one of them must."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from iceblink.plan.cut.block import Block, Rest
from iceblink.plan.cut.prepared import column
from iceblink.plan.cut.rows import Making, Placed, Relation, Steps
from iceblink.plan.late import exp
from iceblink.plan.stage import Keep

RIGHT_WHOLE = ("INNER", "LEFT", "SEMI", "ANTI")
"""Joins in which every task may see all of the right side, and a share of the left."""

WORTH_TRYING = 8
"""A side estimated to be so many times the limit of a broadcast may be smaller when it has been made."""


@dataclass(frozen=True)
class Side:
    """The right side of a join: rows under an alias."""

    relation: Relation
    alias: str


def filtered(making: Making, side: Side, conditions: Sequence[exp.Expression], rest: Rest) -> Side:
    """Keep only rows of a side that satisfy `conditions`, and only its columns that `rest` needs."""
    block = Block(making, side.relation, side.alias, rest)
    block.where = [condition.copy() for condition in conditions]
    wanted = {found.name for found in rest.columns() if found.table == side.alias}
    names = [name for name in side.relation.columns if name in wanted] or list(side.relation.columns[:1])
    return Side(block.close([(column(side.alias, name), name) for name in names]), side.alias)


def join(block: Block, side: Side, kind: str, on: list[exp.Expression]) -> Steps[Block]:
    """Join `side` to the rows in hand; `kind` is INNER, LEFT, RIGHT, FULL, SEMI or ANTI."""
    making, rest = block.making, block.rest
    if kind == "RIGHT":  # the other way round it is a LEFT JOIN
        rest.roots.extend(on)
        block.nest()
        block, side, kind = Block(making, side.relation, side.alias, rest), _as_side(block), "LEFT"
        rest.roots = [root for root in rest.roots if not any(root is part for part in on)]
    own = [part for part in on if _only(part, side.alias)] if kind in RIGHT_WHOLE else []
    on = [part for part in on if not any(part is one for one in own)]
    waiting = len(rest.roots)
    rest.roots.extend(on)
    if own:  # what fails them never matches: it need not travel
        side = filtered(making, side, own, rest)
    if kind == "FULL" and block.where:
        block.nest()
    if (block.single and side.relation.single) or (kind in RIGHT_WHOLE and _free(making, side.relation)):
        _attach(block, side, kind, on)
    else:
        block = yield from _moved(block, side, kind, on)
    del rest.roots[waiting:]
    return block


def _moved(block: Block, side: Side, kind: str, on: list[exp.Expression]) -> Steps[Block]:
    making = block.making
    keys = _keys(block, side, on)
    limit = making.broadcast_bytes
    left_bytes, right_bytes = block.size.nbytes, side.relation.size.nbytes
    whole_right, whole_left = kind in RIGHT_WHOLE, kind == "INNER"
    must = not keys and whole_right
    if whole_right and right_bytes <= making.few_bytes:
        side = filtered(making, side, [], block.rest)
        if (few := making.few(side.relation)) is not None:
            _attach(block, Side(few, side.alias), kind, on)
            return block
    if whole_right and (right_bytes <= left_bytes or not whole_left):
        if must or right_bytes <= WORTH_TRYING * limit:
            side = filtered(making, side, [], block.rest)
            made = yield from making.emit(side.relation, Keep(), f"{side.alias}, to {kind} JOIN")
            if must or made.size.nbytes <= limit:
                _attach(block, Side(making.reading(made, whole=True), side.alias), kind, on)
                return block
            side = Side(making.reading(made), side.alias)
    elif whole_left and (must or left_bytes <= WORTH_TRYING * limit):
        relation, names = block.packed([])
        made = yield from making.emit(relation, Keep(), f"{' and '.join(block.aliases)}, to JOIN {side.alias}")
        whole = must or made.size.nbytes <= limit
        block.restart(making.reading(made, whole), names)
        if whole:
            return flipped(block, side, kind, on)
    if not keys:
        yield from block.gather(f"all rows, to {kind} JOIN {side.alias} without an equality")
        right = Block(making, side.relation, side.alias, block.rest)
        yield from right.gather(f"{side.alias}, to {kind} JOIN without an equality")
        _attach(block, _as_side(right), kind, on)
        return block
    yield from _hashed(block, side, kind, on, keys)
    return block


def flipped(block: Block, side: Side, kind: str, on: list[exp.Expression]) -> Block:
    """Join the other way round: `side` leads, and every task sees all that was in hand."""
    new = Block(block.making, side.relation, side.alias, block.rest)
    _attach(new, _as_side(block), kind, on)
    return new


def _as_side(block: Block) -> Side:
    ((alias, columns),) = block.aliases.items()
    return Side(block.close([(column(alias, name), name) for name in columns]), alias)


def _attach(block: Block, side: Side, kind: str, on: list[exp.Expression]) -> None:
    block.attach(side.relation, side.alias, kind, on)
    if kind == "FULL" and not block.single:
        block.placed = None


def _free(making: Making, relation: Relation) -> bool:
    """Whether rows come from nowhere, such as VALUES: every task may make them."""
    return not any(making.reads(piece) for piece in relation.pieces)


def _only(condition: exp.Expression, alias: str) -> bool:
    return {found.table for found in condition.find_all(exp.Column) if found.table} == {alias}


@dataclass(frozen=True)
class Key:
    """An equality of a join: its sides as they stand in the condition, and the type in which both are compared."""

    left: exp.Expression
    right: exp.Expression
    kind: str
    cast: bool

    def of(self, side: exp.Expression) -> exp.Expression:
        """Return a side as it is hashed: equal values must have equal hashes."""
        if not self.cast:
            return side
        return exp.cast(side.copy(), exp.DataType.build(self.kind, dialect="duckdb"), copy=False)


def _keys(block: Block, side: Side, on: list[exp.Expression]) -> list[Key]:
    """Return the equalities between the rows in hand and a side."""
    pairs = []
    for condition in on:
        if isinstance(condition, exp.EQ | exp.NullSafeEQ) and not condition.find(exp.Query):
            for left, right in ((condition.left, condition.right), (condition.right, condition.left)):
                if left.find(exp.Column) and block.has(left) and _only(right, side.alias):
                    pairs.append((left.unnest(), right.unnest()))
                    break
    if not pairs:
        return []
    right_block = Block(block.making, side.relation, side.alias, Rest([]))
    lefts = block.kinds_of([left for left, _ in pairs])
    rights = right_block.kinds_of([right for _, right in pairs])
    keys = []
    for (left, right), one, other in zip(pairs, lefts, rights, strict=True):
        kind = one if one == other else _common(block.making, one, other)
        if kind is not None:
            keys.append(Key(left, right, kind, one != other))
    return keys


_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE", "DECIMAL")


def _common(making: Making, one: str, other: str) -> str | None:
    """Return the type in which the kernel compares two numbers of different types; None for anything else."""
    if not (one.startswith(_NUMBERS) and other.startswith(_NUMBERS)) or "[" in one + other:
        return None
    case = f"CASE WHEN true THEN CAST(NULL AS {one}) ELSE CAST(NULL AS {other}) END"
    query = exp.maybe_parse(f"SELECT {case} AS value", dialect="duckdb")
    return making.described(query)[1][0]


def _hashed(block: Block, side: Side, kind: str, on: list[exp.Expression], keys: list[Key]) -> Steps[None]:
    """Bring rows with equal keys together; a side that lies right already stays where it is."""
    making = block.making
    right = Block(making, side.relation, side.alias, block.rest)
    left_fits, right_fits = _along(block.placed, keys, "left"), _along(right.placed, keys, "right")
    if left_fits is None and right_fits is not None and right.placed is not None:
        keys, right_stays, left_stays = right_fits, True, False
        like = right.placed.like
    else:
        keys, right_stays, left_stays = left_fits or keys, False, left_fits is not None
        like = block.placed.like if left_fits is not None and block.placed is not None else None
    if left_stays:
        if kind not in RIGHT_WHOLE:
            block.together([key.left for key in keys])
    else:
        why = f"{' and '.join(block.aliases)}, by the key of the join"
        yield from block.hash([key.of(key.left) for key in keys], why, like, parted=True)
        like = block.placed.like if block.placed is not None else None
        block.divide(kind in RIGHT_WHOLE)
    if right_stays:
        right.divide(False)
    else:
        why = f"{side.alias}, by the key of the join"
        yield from right.hash([key.of(key.right) for key in keys], why, like, parted=True)
        right.divide(kind == "INNER")
    placed = _placed(block, right, kind, keys)
    block.attach(_as_side(right).relation, side.alias, kind, on)
    block.placed = placed


def _along(placed: Placed | None, keys: list[Key], side: str) -> list[Key] | None:
    """Return the keys by which rows are together already, in that order; None where they are not."""
    if placed is None or not placed.like:
        return None
    found = []
    for one, kind in zip(placed.classes, placed.kinds, strict=True):
        for key in keys:
            expression = getattr(key, side)
            is_it = isinstance(expression, exp.Column) and (expression.table, expression.name) in one
            if is_it and key.kind == kind and not key.cast:
                found.append(key)
                break
        else:
            return None
    return found


def _placed(block: Block, right: Block, kind: str, keys: list[Key]) -> Placed | None:
    """Return which rows are together after a join by hash: those that have a column equal to one that was hashed."""
    if kind == "FULL" or block.placed is None or right.placed is None:
        return None
    classes = []
    for key, one, other in zip(keys, block.placed.classes, right.placed.classes, strict=True):
        sides = [key.left, key.right] if kind == "INNER" else [key.left]
        plain = {(side.table, side.name) for side in sides if isinstance(side, exp.Column)}
        classes.append(one | (other if kind == "INNER" else frozenset()) | plain)
    return replace(block.placed, classes=tuple(classes))
