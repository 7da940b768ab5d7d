"""A rewritten statement, SELECT by SELECT, becomes rows in hand and stages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from iceblink.plan.cut.block import Block, Output, Rest, nothing
from iceblink.plan.cut.finish import finished, top
from iceblink.plan.cut.functions import aggregates
from iceblink.plan.cut.grouping import grouped
from iceblink.plan.cut.joins import Side, join
from iceblink.plan.cut.prepared import column, conjuncts, named
from iceblink.plan.cut.rewritten import WHOLE, nested
from iceblink.plan.cut.rows import ONE_TASK, Made, Making, Relation, Steps, item, selecting
from iceblink.plan.cut.sets import combined
from iceblink.plan.cut.subqueries import correlated
from iceblink.plan.late import exp
from iceblink.plan.stage import Keep, Observed, Order


@dataclass
class Cte:
    """A named query: planned where it is read if that is one place, else made once."""

    query: exp.Query
    scope: Scope
    uses: int
    made: Made | None = None


Scope = Mapping[str, Cte]


class Queries:
    """Plans queries over one `Making`."""

    def __init__(self, making: Making) -> None:
        self.making = making

    def query(self, tree: exp.Query, scope: Scope) -> Steps[Relation]:
        """Plan a query of any form."""
        if isinstance(tree, exp.Subquery):
            return (yield from self.query(tree.this, scope))
        scope = _extended(tree, scope)
        if WHOLE in tree.meta:
            return (yield from self._whole(tree, scope))
        if isinstance(tree, exp.SetOperation):
            left = yield from self.query(tree.left, scope)
            right = yield from self.query(tree.right, scope)
            both = yield from combined(self.making, tree, left, right)
            return (yield from top(self.making, *_limits(tree), replace(both, order=_named_order(tree))))
        return (yield from self._select(tree, scope))

    def _select(self, select: exp.Select, around: Scope) -> Steps[Relation]:
        scope = dict(around)
        yield from self._subqueries(select, scope)
        block, order = yield from self._sources(select, scope)
        outputs: list[Output] = [(output.unalias(), output.alias_or_name) for output in select.expressions]
        group = select.args.get("group")
        if group is None and not any(any(aggregates(expression)) for expression, _ in outputs):
            relation = yield from finished(block, select, outputs, order)
            return (yield from top(self.making, *_limits(select), relation))
        keys = set(group.expressions) if group is not None else set()
        is_key = [expression in keys for expression, _ in outputs]
        return (yield from grouped(block, outputs, is_key))

    def _sources(self, select: exp.Select, scope: Scope) -> Steps[tuple[Block, tuple[exp.Ordered, ...]]]:
        """Plan FROM, the joins and WHERE."""
        where = select.args.pop("where", None)
        conditions = conjuncts(where.this) if where is not None else []
        clauses = ("group", "qualify", "distinct", "order")
        waiting = [*select.expressions, *(select.args[c] for c in clauses if select.args.get(c)), *conditions]
        from_ = select.args.get("from_")
        if from_ is None:
            block = nothing(self.making, Rest(waiting))
            block.where = conditions
            return block, ()
        joins: list[exp.Join] = select.args.get("joins") or []
        rest = Rest([*waiting, *(join.args["on"] for join in joins if join.args.get("on"))])
        rest.roots += [join.this for join in joins if isinstance(join.this, exp.Unnest)]
        first = yield from self._side(from_.this, scope)
        order = tuple(
            exp.Ordered(this=column(first.alias, k.column), desc=k.descending, nulls_first=k.nulls_first)
            for k in (first.relation.order if not joins else ())
        )
        rest.roots += order
        pool = Pool(self.making, rest, conditions, late=any(join.side in ("RIGHT", "FULL") for join in joins))
        block = yield from pool.cluster(None, [first, *(yield from self._inner(joins, 0, scope, pool))])
        at = pool.taken
        while at < len(joins):
            block = yield from self._outer(block, joins[at], scope, pool)
            sides = yield from self._inner(joins, at + 1, scope, pool)
            block = yield from pool.cluster(block, sides)
            at += 1 + pool.taken
        pool.late = False
        pool.apply(block)
        return block, order

    def _inner(self, joins: list[exp.Join], at: int, scope: Scope, pool: Pool) -> Steps[list[Side]]:
        """Plan the sides of inner joins that follow each other; their conditions join the pool."""
        sides = []
        pool.taken = 0
        for one in joins[at:]:
            if one.side or one.kind in ("SEMI", "ANTI") or isinstance(one.this, exp.Unnest):
                break
            sides.append((yield from self._side(one.this, scope)))
            pool.rest.drop(one.args.get("on"))
            pool.add(conjuncts(one.args.get("on")))
            pool.taken += 1
        return sides

    def _outer(self, block: Block, one: exp.Join, scope: Scope, pool: Pool) -> Steps[Block]:
        on = [part for part in conjuncts(one.args.get("on")) if not isinstance(part, exp.Boolean) or not part.this]
        pool.rest.drop(one.args.get("on"))
        if isinstance(one.this, exp.Unnest):  # of each row its own list: it goes where the row is
            pool.rest.drop(one.this)
            block.joins.append(one)
            alias = one.this.args["alias"]
            block.aliases[one.this.alias] = tuple(name.name for name in alias.columns)
            return block
        pool.apply(block)
        side = yield from self._side(one.this, scope)
        kind = one.kind if one.kind in ("SEMI", "ANTI") else one.side
        return (yield from join(block, side, kind, on))

    def _side(self, source: exp.Expression, scope: Scope) -> Steps[Side]:
        alias = source.alias_or_name
        if isinstance(source, exp.Subquery):
            return Side((yield from self.query(source.this, scope)), alias)
        if isinstance(source, exp.Table) and isinstance(source.this, exp.Identifier):
            return Side((yield from self._table(source.name, scope)), alias)
        query = exp.Select(expressions=[exp.Star()], from_=exp.From(this=source.copy()))
        names = tuple(self.making.described(query)[0].names)
        query.set("expressions", [column(alias, name) for name in names])
        return Side(Relation((query,), names, ONE_TASK, Observed(0, 0)), alias)

    def _table(self, name: str, scope: Scope) -> Steps[Relation]:
        if name not in scope:
            return self.making.leaf(name)
        cte = scope[name]
        if cte.uses == 1:
            return (yield from self.query(cte.query, cte.scope))
        return self.making.reading((yield from self._made(name, cte)))

    def _made(self, name: str, cte: Cte) -> Steps[Made]:
        if cte.made is None:
            relation = yield from self.query(cte.query, cte.scope)
            cte.made = yield from self.making.emit(relation, Keep(), f"{name}, which is read more than once")
        return cte.made

    def _subqueries(self, select: exp.Select, scope: dict[str, Cte]) -> Steps[None]:
        """Make what subqueries in expressions read: all rows of it are there in every task."""
        from_, with_ = select.args.get("from_"), select.args.get("with_")
        parts = [part for part in select.iter_expressions() if part is not from_ and part is not with_]
        conditions = [part.args.get("on") if isinstance(part, exp.Join) else part for part in parts]
        for query in [query for part in conditions if part is not None for query in _queries(part)]:
            if correlated(query):
                yield from self._tables_whole(query, scope)
                continue
            if isinstance(query.parent, exp.Exists) and query.args.get("limit") is None:
                query.set("limit", exp.Limit(expression=exp.Literal.number(1)))
            relation = yield from self.query(query.copy(), scope)
            made = yield from self.making.emit(relation, Keep(), "a subquery, for every task")
            test = _not_in(select, query)
            if test is not None and made.size.nbytes > self.making.broadcast_bytes:
                yield from self._excluded(select, test, made, scope)
                continue
            query.replace(self.making.reading(made, whole=True).pieces[0])

    def _excluded(self, select: exp.Select, test: exp.Expression, made: Made, scope: dict[str, Cte]) -> Steps[None]:
        """Turn NOT IN over many rows into an anti join, and mind the nulls: a null among them excludes every row."""
        name = self.making.fresh("excluded")
        scope[name] = Cte(exp.Select(), scope, 2, made)
        (value,) = made.schema.names
        counts = exp.select(
            exp.alias_(exp.Count(this=exp.Star()), "n"), exp.alias_(exp.Count(this=column("them", value)), "m")
        )
        counted = yield from self.query(
            counts.from_(exp.Table(this=named(name), alias=exp.to_identifier("them"))), scope
        )
        flags = self.making.reading((yield from self.making.emit(counted, Keep(), "how many are null")), whole=True)
        (table,) = (piece.args["from_"].this for piece in flags.pieces)
        given = test.this.unnest().this
        none = exp.select(exp.EQ(this=exp.column("n"), expression=exp.Literal.number(0))).from_(table.copy())
        no_null = exp.select(exp.EQ(this=exp.column("n"), expression=exp.column("m"))).from_(table.copy())
        known = exp.Not(this=exp.Is(this=given.copy(), expression=exp.null()))
        test.replace(exp.or_(none.subquery(), exp.and_(known, no_null.subquery())))
        on = exp.EQ(this=given.copy(), expression=column(name, value))
        source = exp.Table(this=named(name), alias=exp.TableAlias(this=named(name)))
        select.set("joins", [*(select.args.get("joins") or []), exp.Join(this=source, kind="ANTI", on=on)])

    def _whole(self, tree: exp.Query, scope: Scope) -> Steps[Relation]:
        self.making.note(tree.meta[WHOLE])
        tree = tree.copy()
        yield from self._tables_whole(tree, scope)
        tree.set("with_", None)
        own = self.making.described(tree)[0].names
        names = tuple(name.lower() for name in own)
        query = tree if names == tuple(own) else selecting(tree, own, names=names)
        return Relation((query,), names, ONE_TASK, Observed(0, 0))

    def _tables_whole(self, tree: exp.Query, scope: Scope) -> Steps[None]:
        """Let a query read all rows of its tables."""
        own = {cte.alias for cte in tree.find_all(exp.CTE)}
        for table in list(tree.find_all(exp.Table)):
            if not isinstance(table.this, exp.Identifier) or (table.name in own and table.name not in scope):
                continue
            if table.name in scope:
                made = yield from self._made(table.name, scope[table.name])
                table.replace(item(self.making.reading(made, whole=True).pieces[0], table.alias_or_name))
            elif self.making.is_leaf(table.name):
                whole = self.making.leaf(table.name, whole=True)
                table.set("this", whole.pieces[0].args["from_"].this.this.copy())


class Pool:
    """Conditions of WHERE and inner joins that wait until their columns are in hand.

    While RIGHT or FULL joins are to come (`late`), those of WHERE have to wait for them.
    """

    def __init__(self, making: Making, rest: Rest, where: Iterable[exp.Expression], late: bool) -> None:
        self.making = making
        self.rest = rest
        self.late = late
        self.taken = 0
        self._where = list(where)
        self._on: list[exp.Expression] = []

    def add(self, conditions: Iterable[exp.Expression]) -> None:
        """Take the conditions of an inner join."""
        conditions = list(conditions)
        self._on += conditions
        self.rest.roots += conditions

    def _ready(self) -> list[exp.Expression]:
        return self._on if self.late else [*self._on, *self._where]

    def take(self, block: Block, side: Side | None = None) -> list[exp.Expression]:
        """Return, and drop, the conditions whose columns are in hand, `side` being one hand."""
        aliases = {*block.aliases, *([side.alias] if side is not None else [])}
        found = [one for one in self._ready() if _tables(one) <= aliases]
        self._on = [one for one in self._on if not any(one is other for other in found)]
        self._where = [one for one in self._where if not any(one is other for other in found)]
        self.rest.roots = [root for root in self.rest.roots if not any(root is one for one in found)]
        return found

    def apply(self, block: Block) -> None:
        """Filter what is in hand."""
        block.where += self.take(block)

    def cluster(self, block: Block | None, sides: list[Side]) -> Steps[Block]:
        """Join sides to what is in hand: the largest leads, then always the smallest that has an equality."""
        sides = list(sides)
        if block is None:
            lead = max(sides, key=lambda side: side.relation.size.nbytes)
            sides.remove(lead)
            block = Block(self.making, lead.relation, lead.alias, self.rest)
        self.apply(block)
        while sides:
            linked = [side for side in sides if self._linked(block, side)] or sides
            side = min(linked, key=lambda side: side.relation.size.nbytes)
            sides.remove(side)
            on = self.take(block, side)
            block = yield from join(block, side, "INNER", on)
            self.apply(block)
        return block

    def _linked(self, block: Block, side: Side) -> bool:
        reach = {*block.aliases, side.alias}
        return any(
            isinstance(one, exp.EQ) and side.alias in _tables(one) and len(_tables(one)) > 1 and _tables(one) <= reach
            for one in self._ready()
        )


def _not_in(select: exp.Select, query: exp.Query) -> exp.Expression | None:
    """Return the condition of WHERE that is ``x NOT IN (query)``."""
    where = select.args.get("where")
    for condition in conjuncts(where.this) if where is not None else []:
        test = condition.this.unnest() if isinstance(condition, exp.Not) else None
        if isinstance(test, exp.In) and test.args.get("query") is not None and test.args["query"].unnest() is query:
            return condition if not isinstance(test.this, exp.Tuple) else None
    return None


def _tables(condition: exp.Expression) -> set[str]:
    inside = {node.alias_or_name for node in condition.find_all(exp.Table, exp.Subquery)}
    return {found.table for found in condition.find_all(exp.Column) if found.table} - inside


def _queries(part: exp.Expression) -> list[exp.Query]:
    if isinstance(part, exp.Query) and not isinstance(part, exp.Subquery):
        return [part]
    return list(nested(part))


def _extended(tree: exp.Query, scope: Scope) -> Scope:
    with_ = tree.args.get("with_")
    if with_ is None:
        return scope
    extended = dict(scope)
    for cte in with_.expressions:
        name = cte.alias
        uses = sum(table.name == name for table in tree.find_all(exp.Table))
        extended[name] = Cte(cte.this, dict(extended), uses)
    return extended


def _limits(tree: exp.Query) -> tuple[int | None, int]:
    limit, offset = tree.args.get("limit"), tree.args.get("offset")
    return int(limit.expression.name) if limit else None, int(offset.expression.name) if offset else 0


def _named_order(tree: exp.Query) -> tuple[Order, ...]:
    order = tree.args.get("order")
    return tuple(
        Order(key.this.name, bool(key.args.get("desc")), bool(key.args.get("nulls_first")))
        for key in (order.expressions if order is not None else ())
    )
