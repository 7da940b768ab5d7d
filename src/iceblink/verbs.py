"""The relational verbs of a dataset: each builds one node, lazily, and is checked where it is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import SystemRandom
from typing import Any, Literal, Self

from iceblink.errors import ColumnNotFound, ConfigError, DuplicateColumn, PlanError, SchemaMismatch, TypeMismatch
from iceblink.plan.chance import Drawing, sampled, shuffled
from iceblink.plan.nodes import Plan, Repartition, Scan
from iceblink.plan.query import column, ibis_type, join, keys, relate
from iceblink.plan.sql import union_query
from iceblink.run.session import Session
from iceblink.types import is_number, parse_type, show_type

JoinHow = Literal["inner", "left", "right", "outer", "semi", "anti", "cross"]


@dataclass(frozen=True, eq=False, repr=False)
class Verbs:
    """A plan and the session it belongs to; immutable, so that every verb gives a new one."""

    plan: Plan
    session: Session

    def _relate(self, verb: str, build: Callable[..., Any], *others: Verbs) -> Self:
        relation = relate(verb, [self.plan, *(other.plan for other in others)], build)
        query = self.session.engine.query(relation.tree, relation.sources, relation.expression)
        return type(self)(query, self.session)

    def _stated(self, drawing: Drawing) -> Self:
        return type(self)(self.session.engine.query(*drawing), self.session)

    def filter(self, *conditions: Any) -> Self:
        """Keep the rows where every condition is true; null counts as false, as in SQL ``WHERE``.

        Lazy; names and types are checked here.

        Parameters
        ----------
        *conditions : boolean expression
            ``_.price > 3``, ``_.city.isin(["Oslo", "Rome"])``.

        Raises
        ------
        ColumnNotFound, TypeMismatch
        """
        text = next((condition for condition in conditions if isinstance(condition, str)), None)
        if text is not None:
            hint = "write _.price > 3, or use .sql('SELECT * FROM this WHERE ...')"
            raise TypeMismatch(f"{text!r} is text, not a condition", "filter", hint)
        if not conditions:
            raise PlanError("filter() has no condition", "filter", "write .filter(_.price > 3)")
        return self._relate("filter", lambda t: t.filter(*conditions))

    def select(self, *columns: Any, **named: Any) -> Self:
        """Keep these columns, in this order; expressions may be given by name: ``select("id", total=_.a + _.b)``.

        Lazy; names and types are checked here.

        Raises
        ------
        ColumnNotFound, DuplicateColumn, TypeMismatch
        """
        if not columns and not named:
            raise PlanError("no column is selected", "select", "name one; .count() counts rows")
        names = [item for item in columns if isinstance(item, str)]
        twice = next((name for name in [*names, *named] if [*names, *named].count(name) > 1), None)
        if twice is not None:
            raise DuplicateColumn(f"column {twice!r} is selected twice", "select", "name one of them differently")
        plain = len(names) == len(columns) and not named
        if plain and names == self.plan.schema.names:
            return self
        if isinstance(self.plan, Scan) and plain:  # nothing to compute
            for name in names:
                if name not in self.plan.schema.names:
                    raise ColumnNotFound.of(name, self.plan.schema.names, "select")
            return type(self)(self.plan.choose(names), self.session)
        return self._relate(
            "select",
            lambda t: t.select(*(column(c, t, "select") if isinstance(c, str) else c for c in columns), **named),
        )

    def mutate(self, **named: Any) -> Self:
        """Add columns, or replace those of the same name: ``mutate(total=_.a + _.b)``. Lazy, checked here.

        Raises
        ------
        ColumnNotFound, TypeMismatch
        """
        return self._relate("mutate", lambda t: t.mutate(**named))

    def drop(self, *columns: str) -> Self:
        """Leave these columns out. Lazy; raises ColumnNotFound here."""

        def build(t: Any) -> Any:
            for name in columns:
                column(name, t, "drop")
            if set(columns) == set(t.columns):  # Ibis would drop none
                raise PlanError("all columns are dropped", "drop", "keep one; .count() counts rows")
            return t.drop(*columns)

        return self._relate("drop", build)

    def rename(self, **new_from_old: str) -> Self:
        """Rename columns: ``rename(new="old")``. Lazy; raises ColumnNotFound and DuplicateColumn here."""

        def build(t: Any) -> Any:
            for new, old in new_from_old.items():
                column(old, t, "rename")
                if new in t.columns and new not in new_from_old.values():
                    raise DuplicateColumn(f"there is a column {new!r} already", "rename", f"first .drop({new!r})")
            return t.rename(**new_from_old)

        return self._relate("rename", build)

    def cast(self, **types: str) -> Self:
        """Change types: ``cast(id="long", price="decimal(10,2)")``, in the words of `Lake.create`.

        Lazy. A value that does not fit raises QueryError when it is read.

        Raises
        ------
        ColumnNotFound, TypeMismatch
        """
        wanted = {name: ibis_type(parse_type(word)) for name, word in types.items()}

        def build(t: Any) -> Any:
            return t.mutate(**{name: column(name, t, "cast").cast(to) for name, to in wanted.items()})

        return self._relate("cast", build)

    def distinct(self, *on: str) -> Self:
        """Keep one of each set of equal rows, or of rows equal in the columns `on`. Lazy."""
        if not on:
            return self._relate("distinct", lambda t: t.distinct())
        return self._relate(
            "distinct", lambda t: t.distinct(on=[column(name, t, "distinct").get_name() for name in on], keep="first")
        )

    def order_by(self, *by: Any) -> Self:
        """Sort the rows: names, ``"-name"`` for descending, or expressions such as ``_.x.desc()``.

        Lazy; larger than memory is sorted on disk. Nulls come last.

        Raises
        ------
        ColumnNotFound, TypeMismatch
        """
        if not by:
            raise PlanError("order_by() has no key", "order_by", "write .order_by('id') or .order_by('-id')")
        return self._relate("order_by", lambda t: t.order_by(keys(t, by, "order_by")))

    def limit(self, n: int, offset: int = 0) -> Self:
        """Keep at most `n` rows after the first `offset`. Lazy; stops reading when it has them."""
        if n < 0 or offset < 0:
            raise ConfigError(f"limit({n}, offset={offset}) is negative", "limit")
        return self._relate("limit", lambda t: t.limit(n, offset=offset))

    def sample(self, fraction: float | None = None, seed: int | None = None, *, n: int | None = None) -> Self:
        """Keep each row with probability `fraction`, independently (Bernoulli), or exactly `n` rows. Lazy.

        The choice is made row by row as in `shuffle`: by the seed and the row's place. With a fraction rows stream and
        keep their order; `n` rows come in a random one.

        Parameters
        ----------
        fraction : float, optional
            In [0, 1].
        seed : int, optional
            Same seed, same table version, same rows. Default: one that is drawn here, once for this dataset.
        n : int, optional
            How many rows; all of them where there are no more.
        """
        if (fraction is None) == (n is None):
            raise ConfigError("sample() takes a fraction or n", "sample", "write .sample(0.1) or .sample(n=1000)")
        if n is not None:
            if n < 0:
                raise ConfigError(f"n is {n}", "sample", "0 or more rows")
            return self._stated(shuffled(self.plan, _seed(seed), n))
        assert fraction is not None, "else n is given"
        if not 0 <= fraction <= 1:
            raise ConfigError(f"fraction is {fraction}, not in [0, 1]", "sample", "0.1 keeps about a tenth")
        return self if fraction == 1 else self._stated(sampled(self.plan, fraction, _seed(seed)))

    def unnest(self, name: str, keep_empty: bool = False) -> Self:
        """Give each element of the list column `name` a row of its own. Lazy.

        Parameters
        ----------
        name : str
            A column of lists.
        keep_empty : bool
            Whether a row whose list is empty or null stays, with null.
        """
        return self._relate(
            "unnest", lambda t: t.unnest(column(name, t, "unnest"), keep_empty=keep_empty)[list(t.columns)]
        )

    def union(self, *others: Verbs, distinct: bool = False) -> Self:
        """Put the rows of datasets with the same columns under each other, matched by name. Lazy.

        Raises
        ------
        SchemaMismatch
            A column is missing on one side.
        """
        for other in others:
            ours, theirs = set(self.plan.schema.names), set(other.plan.schema.names)
            if ours != theirs:
                odd = sorted(ours ^ theirs)[0]
                side = "second" if odd in ours else "first"
                raise SchemaMismatch(f"the {side} dataset has no column {odd!r}", "union", "select the same columns")
            for field in self.plan.schema:
                kind = other.plan.schema.field(field.name).type
                if kind != field.type and not (is_number(kind) and is_number(field.type)):
                    what = f"column {field.name!r} is {show_type(field.type)} here and {show_type(kind)} there"
                    raise TypeMismatch(what, "union", f"cast one: .cast({field.name}='{show_type(field.type)}')")
        plans = {plan.name: plan for plan in (self.plan, *(other.plan for other in others))}
        names = [plan.name for plan in (self.plan, *(other.plan for other in others))]
        tree = union_query(names, self.plan.schema.names, distinct)
        return type(self)(self.session.engine.query(tree, plans), self.session)

    def join(self, other: Verbs, on: Any = None, how: JoinHow = "inner") -> Self:
        """Join with another dataset. Lazy; names and types are checked here.

        Parameters
        ----------
        other : Dataset
        on : str, list of str, or callable
            Names that both sides have (each appears once in the result), or ``lambda left, right: condition``.
        how : {"inner", "left", "right", "outer", "semi", "anti", "cross"}

        Raises
        ------
        ColumnNotFound
            A key that one side does not have.
        DuplicateColumn
            Both sides have another column of the same name.
        """
        if on is None and how != "cross":
            raise ConfigError("a join needs `on`", "join", "on='key', on=['a', 'b'], or how='cross'")
        return self._relate("join", lambda left, right: join(left, right, on, how), other)

    def group_by(self, *keys: Any, **named: Any) -> GroupBy:
        """Group rows by names or expressions; aggregate with ``.agg(...)``. Lazy."""
        return GroupBy(self, keys, named)

    def agg(self, **named: Any) -> Self:
        """Aggregate all rows to one: ``agg(n=_.count(), mean=_.x.mean())``. Lazy, checked here."""
        if not named:
            raise ConfigError("agg() has no aggregate", "agg", "write .agg(n=_.count())")
        return self._relate("agg", lambda t: t.aggregate(**named))

    def shuffle(self, seed: int | None = None) -> Self:
        """Put all rows in a random order: every row may come to any place. Lazy; larger than memory uses disk.

        Rows are sorted by a random number that the seed and the row's place give: its data file and position there,
        also behind `filter`, `select` and the like, on any engine. Rows of anything else (of memory, functions, joins)
        have the number with which they come; they are the same again if those rows come in the same order again.

        Parameters
        ----------
        seed : int, optional
            Same seed, same table version, same order. Default: one that is drawn here, once for this dataset.
        """
        return self._stated(shuffled(self.plan, _seed(seed)))

    def repartition(self, n: int, by: str | Sequence[str] | None = None) -> Self:
        """Divide the rows in `n` parts, rows of equal `by` in the same part. Lazy.

        In one process it decides how many files `write_parquet` makes, and which rows go to which.
        """
        if n < 1:
            raise ConfigError(f"repartition({n})", "repartition", "at least one part")
        names = (by,) if isinstance(by, str) else tuple(by or ())
        if not names:
            return type(self)(Repartition(self.plan, n), self.session)
        for name in names:
            if name not in self.plan.schema.names:
                raise ColumnNotFound.of(name, self.plan.schema.names, "repartition")
        return type(self)(Repartition(self.plan, n, names), self.session)

    def sql(self, text: str) -> Self:
        """Query this dataset as ``this``; other names are tables of the lake. Lazy, checked here.

        >>> ds.sql("SELECT city, count(*) AS n FROM this GROUP BY city")  # doctest: +SKIP
        """
        return type(self)(self.session.sql(text, this=self.plan), self.session)


def _seed(given: int | None) -> int:
    return SystemRandom().randrange(2**63) if given is None else int(given)


@dataclass(frozen=True)
class GroupBy:
    """Grouped rows, waiting for `agg`."""

    source: Verbs
    keys: tuple[Any, ...]
    named: Mapping[str, Any]

    def agg(self, **named: Any) -> Any:
        """Aggregate each group: ``agg(n=_.count(), mean=_.x.mean())``. Lazy, checked here.

        Returns
        -------
        Dataset
            The keys, then the aggregates; one row for each group.

        Raises
        ------
        ColumnNotFound, TypeMismatch
        """
        if not named:
            raise ConfigError("agg() has no aggregate", "group_by", "write .agg(n=_.count())")

        def build(t: Any) -> Any:
            by = [column(key, t, "group_by") if isinstance(key, str) else key for key in self.keys]
            return t.group_by(*by, **self.named).aggregate(**named)

        return self.source._relate("group_by", build)
