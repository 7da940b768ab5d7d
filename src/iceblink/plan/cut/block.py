"""FROM, joins and filters that tasks have in hand, while the rest of a SELECT waits to be computed over them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from iceblink.plan.cut.functions import aggregates
from iceblink.plan.cut.prepared import column, named, unique
from iceblink.plan.cut.rows import ONE_TASK, Making, Placed, Relation, Steps, item, one_query
from iceblink.plan.late import exp
from iceblink.plan.stage import Gather, Hash, Observed, Send

Output = tuple[exp.Expression, str]


class Rest:
    """Expressions that wait: they keep columns needed, and follow them when an exchange gives them new names."""

    def __init__(self, roots: Sequence[exp.Expression]) -> None:
        self.roots = list(roots)

    def drop(self, root: exp.Expression | None) -> None:
        """Let an expression wait no more."""
        self.roots = [one for one in self.roots if one is not root]

    def columns(self) -> Iterator[exp.Column]:
        """Yield the columns of what waits."""
        for root in self.roots:
            yield from root.find_all(exp.Column)


class Block:
    """A SELECT up to its WHERE, in hand.

    `where` holds after the joins so far. Each head is read by tasks of its own, and joined alike.
    """

    def __init__(self, making: Making, relation: Relation, alias: str, rest: Rest) -> None:
        self.making = making
        self.rest = rest
        self._start(relation, alias)

    def _start(self, relation: Relation, alias: str) -> None:
        self.heads = [item(piece, alias) for piece in relation.pieces]
        self.joins: list[exp.Join] = []
        self.where: list[exp.Expression] = []
        self.aliases: dict[str, tuple[str, ...]] = {alias: (*relation.columns, *relation.hidden)}
        self.size = relation.size
        self.kinds = {(alias, name): kind for name, kind in relation.kinds.items()}
        self.placed: Placed | None = None
        if relation.placed is not None and len(self.heads) == 1:
            self.placed = relation.placed.renamed({name: (alias, name) for name in relation.columns})

    @property
    def single(self) -> bool:
        """Whether one task has all rows."""
        return self.placed is not None and not self.placed.classes

    def has(self, expression: exp.Expression) -> bool:
        """Whether all columns of an expression are in hand."""
        return all(found.table in self.aliases for found in expression.find_all(exp.Column) if found.table)

    def together(self, keys: Sequence[exp.Expression]) -> bool:
        """Whether rows with equal `keys` are in one task; then it is relied on, and partitions stay undivided."""
        columns: set[object] = {(key.table, key.name) for key in keys if isinstance(key, exp.Column)}
        if self.placed is None or not self.placed.by(columns):
            return False
        self.divide(False)
        return True

    def divide(self, divisible: bool) -> None:
        """Say whether the partitions in hand may be shared out among tasks."""
        for node in [*self.heads, *self.joins]:
            self.making.divide(node, divisible)

    def attach(self, relation: Relation, alias: str, kind: str, on: list[exp.Expression]) -> None:
        """Join what every task sees the right part of."""
        query = one_query(relation)
        condition = exp.and_(*(part.copy() for part in on), copy=False) if on else None
        if kind == "INNER" and condition is None:
            join = exp.Join(this=item(query, alias), kind="CROSS")
        else:
            sides = {"LEFT": ("LEFT", None), "FULL": ("FULL", None), "INNER": (None, None)}
            side, word = sides.get(kind, (None, kind))
            join = exp.Join(this=item(query, alias), side=side, kind=word, on=condition or exp.true())
        self.joins.append(join)
        if kind not in ("SEMI", "ANTI"):
            self.aliases[alias] = relation.columns
            self.kinds |= {(alias, name): kind for name, kind in relation.kinds.items()}

    def kinds_of(self, expressions: Sequence[exp.Expression]) -> list[str]:
        """Return the kernel's words for the types of expressions."""
        known = [self.kinds.get((one.table, one.name)) for one in expressions if isinstance(one, exp.Column)]
        found = [kind for kind in known if kind is not None]
        if len(found) == len(expressions):
            return found
        relation = self.close([(expression, f"value_{at}") for at, expression in enumerate(expressions)])
        return list(self.making.described(relation.pieces[0])[1])

    def close(
        self,
        outputs: Sequence[Output],
        *,
        group: bool = False,
        distinct: exp.Expression | None = None,
        qualify: exp.Expression | None = None,
    ) -> Relation:
        """Return the relation of these outputs; `group` groups by those that are no aggregates."""
        pieces = tuple(self._select(head, outputs, group, distinct, qualify) for head in self.heads)
        placed = None
        if self.placed is not None:
            by_column: dict[object, object] = {
                (e.table, e.name): name for e, name in outputs if isinstance(e, exp.Column)
            }
            placed = self.placed.renamed(by_column)
        known = [(self.kinds.get((e.table, e.name)), name) for e, name in outputs if isinstance(e, exp.Column)]
        kinds = {name: kind for kind, name in known if kind is not None}
        return Relation(pieces, tuple(name for _, name in outputs), placed, self.size, kinds=kinds)

    def _select(
        self,
        head: exp.Expression,
        outputs: Sequence[Output],
        group: bool,
        distinct: exp.Expression | None,
        qualify: exp.Expression | None,
    ) -> exp.Select:
        if not (self.joins or self.where or group or distinct or qualify):
            inner = _inner(head, [expression for expression, _ in outputs])
            if inner is not None:
                by_name = {one.alias_or_name: one.unalias() for one in inner.expressions}
                inner.set("expressions", [_output(by_name[e.name].copy(), name) for e, name in outputs])
                return inner
        select = exp.Select(
            expressions=[_output(expression.copy(), name) for expression, name in outputs],
            from_=exp.From(this=head.copy()),
            joins=[join.copy() for join in self.joins],
        )
        if self.where:
            select.set("where", exp.Where(this=exp.and_(*(part.copy() for part in self.where), copy=False)))
        if group:
            select.set("group", exp.Group(all=True))
        if distinct is not None:
            select.set("distinct", distinct.copy())
        if qualify is not None:
            select.set("qualify", exp.Qualify(this=qualify.copy()))
        return select

    def nest(self) -> None:
        """Put what is in hand in a subquery, where a join would come before the filters otherwise."""
        relation, names = self.packed([])
        self.restart(relation, names)

    def hash(
        self, keys: Sequence[exp.Expression], why: str, like: str | None = None, parted: bool = False
    ) -> Steps[list[exp.Column]]:
        """Bring rows with equal `keys` together; return the columns that are the keys now.

        Few rows come to one task, unless they have to stay `parted`, as others will follow them.
        """
        return (yield from self._exchange(keys, lambda names: Hash(names, like), why, parted))

    def gather(self, why: str) -> Steps[None]:
        """Bring all rows to one task."""
        if not self.single:
            yield from self._exchange([], lambda names: Gather(), why)

    def _exchange(
        self, keys: Sequence[exp.Expression], send: object, why: str, parted: bool = False
    ) -> Steps[list[exp.Column]]:
        relation, names = self.packed(keys)
        key_names = [names[key] for key in keys]
        sent: Send = send(tuple(key_names))  # type: ignore[operator]
        moved = yield from self.making.exchanged(relation, sent, why, parted)
        alias = self.restart(moved, names)
        return [column(alias, name) for name in key_names]

    def packed(self, keys: Sequence[exp.Expression]) -> tuple[Relation, dict[exp.Expression, str]]:
        """Return what is needed of the rows in hand, and `keys`, with the names they have there."""
        needed = {(found.table, found.name) for found in self.rest.columns()}
        wanted: list[exp.Expression] = [
            column(alias, name) for alias, names in self.aliases.items() for name in names if (alias, name) in needed
        ]
        names: dict[exp.Expression, str] = {}
        for part in [*wanted, *(key.copy() for key in keys)]:
            if part in names:
                continue
            base = part.name if isinstance(part, exp.Column) else "key"
            taken = set(names.values())
            if base in taken and isinstance(part, exp.Column):
                base = f"{part.table}_{part.name}"
            names[part] = unique(base, taken)
        outputs: list[Output] = list(names.items()) or [(exp.Literal.number(1), "one")]
        return self.close(outputs), names

    def restart(self, relation: Relation, names: dict[exp.Expression, str]) -> str:
        alias = next(iter(self.aliases)) if len(self.aliases) == 1 else self.making.fresh("joined")
        new = {(part.table, part.name): name for part, name in names.items() if isinstance(part, exp.Column)}
        for found in self.rest.columns():
            if (found.table, found.name) in new:
                name = new[found.table, found.name]
                found.set("this", named(name))
                found.set("table", named(alias))
        self._start(relation, alias)
        return alias


def nothing(making: Making, rest: Rest) -> Block:
    """Return the block of a SELECT without FROM: one row of no columns."""
    one = exp.Select(expressions=[exp.alias_(exp.Literal.number(1), "one")])
    return Block(making, Relation((one,), ("one",), ONE_TASK, Observed(1, 8)), making.fresh("nothing"), rest)


def _output(expression: exp.Expression, name: str) -> exp.Expression:
    if isinstance(expression, exp.Column) and expression.name == name:
        return expression
    return exp.alias_(expression, named(name), copy=False)


_COMPUTES = {"expressions", "from_", "joins", "where", "group"}


def _inner(head: exp.Expression, chosen: list[exp.Expression]) -> exp.Select | None:
    """Return the SELECT inside a subquery where choosing some of its columns can be done there."""
    if not isinstance(head, exp.Subquery) or not all(isinstance(one, exp.Column) for one in chosen):
        return None
    inner = head.this
    if not isinstance(inner, exp.Select) or any(value and key not in _COMPUTES for key, value in inner.args.items()):
        return None
    kept = {one.name for one in chosen}
    dropped = [output for output in inner.expressions if output.alias_or_name not in kept]
    grouped = inner.args.get("group") or any(any(aggregates(output)) for output in inner.expressions)
    repeated = len(kept) < len(chosen)
    if repeated or (dropped and (grouped or any(output.find(exp.Unnest, exp.Explode) for output in inner.expressions))):
        return None
    copied: exp.Select = inner.copy()
    return copied
