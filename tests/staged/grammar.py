"""Random statements over the tables of `staged.tables`: each has one right answer, whatever shares its rows come in."""

from __future__ import annotations

import random
from dataclasses import dataclass

INT, REAL, TEXT, BOOL = "int", "real", "text", "bool"
TABLES = {
    "t": [("id", INT), ("k", INT), ("x", INT), ("f", REAL), ("s", TEXT), ("b", BOOL)],
    "u": [("id", INT), ("k", INT), ("y", INT), ("f", REAL), ("s", TEXT)],
    "v": [("k", INT), ("name", TEXT)],
    "e": [("id", INT), ("k", INT), ("x", INT), ("s", TEXT), ("b", BOOL)],
}


@dataclass(frozen=True)
class Column:
    """A column in scope."""

    sql: str
    kind: str


@dataclass(frozen=True)
class Query:
    """A statement and what its columns are."""

    sql: str
    columns: tuple[tuple[str, str], ...]


class Grammar:
    """Makes statements from a seed."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self._aliases = 0
        self._ctes: dict[str, tuple[tuple[str, str], ...]] = {}

    def statement(self) -> str:
        """Return a statement; one in three has a WITH, one in three an order or a limit at the end."""
        head = ""
        if self._chance(0.3):
            query = self.query(1)
            self._ctes["c"] = query.columns
            head = f"WITH c AS ({query.sql}) "
        query = self.query(2)
        if self._chance(0.35):
            return head + self._limited(query).sql
        return head + query.sql

    def query(self, depth: int) -> Query:
        """Return a query; `depth` bounds how deep its subqueries go."""
        makers = [self._plain, self._plain, self._grouped, self._grouped, self._windowed, self._distinct, self._crossed]
        makers += [self._ranked_groups]
        if depth:
            makers += [self._set]
        return self.rng.choice(makers)(depth)

    def _chance(self, of: float) -> bool:
        return self.rng.random() < of

    def _alias(self) -> str:
        self._aliases += 1
        return f"a{self._aliases}"

    def _source(self, depth: int) -> tuple[str, list[Column]]:
        alias = self._alias()
        if depth and self._chance(0.35):
            query = self.query(depth - 1)
            if self._chance(0.15):
                query = self._limited(query)
            sql, columns = f"({query.sql})", query.columns
        elif self._ctes and self._chance(0.4):
            sql, columns = "c", self._ctes["c"]
        else:
            sql = self.rng.choice(["t", "t", "t", "u", "u", "v", "e"])
            columns = tuple(TABLES[sql])
        return f"{sql} AS {alias}", [Column(f"{alias}.{name}", kind) for name, kind in columns]

    def _from(self, depth: int) -> tuple[str, list[Column]]:
        sql, scope = self._source(depth)
        for _ in range(self.rng.choice([0, 0, 0, 1, 1, 1, 2])):
            other, columns = self._source(depth)
            kind = self.rng.choice(
                ["JOIN", "JOIN", "LEFT JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "SEMI JOIN", "ANTI JOIN"]
            )
            on = self._on(scope, columns)
            if on is None:
                continue
            sql = f"{sql} {kind} {other} ON {on}"
            if kind not in ("SEMI JOIN", "ANTI JOIN"):
                scope = scope + columns
        return sql, scope

    def _on(self, left: list[Column], right: list[Column]) -> str | None:
        pairs = [(a, b) for a in left for b in right if a.kind == b.kind and a.kind != BOOL]
        if not pairs:
            return None
        a, b = self.rng.choice(pairs)
        parts = [f"{a.sql} {self.rng.choice(['=', '=', '=', '=', 'IS NOT DISTINCT FROM'])} {b.sql}"]
        if self._chance(0.3):
            a, b = self.rng.choice(pairs)
            parts.append(f"{a.sql} {self.rng.choice(['=', '<', '<>', '>='])} {b.sql}")
        if self._chance(0.3):
            parts.append(self._condition(left + right, 0))
        return " AND ".join(parts)

    def _value(self, scope: list[Column], kind: str) -> str:
        found = [column.sql for column in scope if column.kind == kind]
        if not found or self._chance(0.1):
            constants = {INT: ["0", "1", "3", "-2"], REAL: ["0.5::DOUBLE", "2::DOUBLE"], TEXT: ["'a'", "''", "'zz'"]}
            return self.rng.choice(constants.get(kind, ["true", "false", "NULL::BOOLEAN"]))
        one = self.rng.choice(found)
        if self._chance(0.75):
            return one
        other = self.rng.choice(found)
        return {
            INT: self.rng.choice([f"({one} + 1)", f"(-{one})", f"coalesce({one}, {other}, 0)", f"({one} % 3)"]),
            REAL: self.rng.choice([f"({one} * 2)", f"coalesce({one}, {other})"]),
            TEXT: self.rng.choice([f"upper({one})", f"({one} || 'x')", f"coalesce({one}, 'none')"]),
            BOOL: self.rng.choice([f"(NOT {one})", f"coalesce({one}, false)"]),
        }[kind]

    def _kind(self, scope: list[Column]) -> str:
        return self.rng.choice([column.kind for column in scope])

    def _condition(self, scope: list[Column], depth: int) -> str:
        roll = self.rng.random()
        if depth and roll < 0.3:
            return self._subquery(scope, depth - 1)
        if roll < 0.4:
            return f"({self._condition(scope, 0)} OR {self._condition(scope, depth)})"
        if roll < 0.45:
            return f"NOT ({self._condition(scope, depth)})"
        kind = self._kind(scope)
        one = self._value(scope, kind)
        if kind == BOOL:
            return one
        if roll < 0.6:
            return f"{one} IS {self.rng.choice(['', 'NOT '])}NULL"
        if roll < 0.65 and kind == INT:
            return f"{one} IN (1, 2, {self.rng.choice(['3', 'NULL'])})"
        return f"{one} {self.rng.choice(['=', '<', '>', '<=', '<>'])} {self._value(scope, kind)}"

    def _subquery(self, scope: list[Column], depth: int) -> str:
        inner, columns = self._source(depth)
        kinds = [c.kind for c in scope if c.kind in {d.kind for d in columns} and c.kind != BOOL]
        if not kinds:
            return "true"
        kind = self.rng.choice(kinds)
        outer, one = self._value(scope, kind), self._value(columns, kind)
        where = f" WHERE {self._condition(columns, 0)}" if self._chance(0.5) else ""
        same = self.rng.choice(kinds)
        a = self.rng.choice([c.sql for c in scope if c.kind == same])
        b = self.rng.choice([c.sql for c in columns if c.kind == same])
        across = f" WHERE {b} {self.rng.choice(['=', '=', '=', '<>'])} {a}"
        across += f" AND {self._condition(columns, 0)}" if self._chance(0.4) else ""
        aggregate = self.rng.choice(["min", "max", "count"])
        result = INT if aggregate == "count" else kind
        compared = self._value(scope, result)
        return self.rng.choice(
            [
                f"{outer} IN (SELECT {one} FROM {inner}{where})",
                f"{outer} NOT IN (SELECT {one} FROM {inner}{where})",
                f"{outer} IN (SELECT {one} FROM {inner}{across})",
                f"EXISTS (SELECT 1 FROM {inner}{across})",
                f"NOT EXISTS (SELECT 1 FROM {inner}{across})",
                f"EXISTS (SELECT 1 FROM {inner}{where})",
                f"{compared} < (SELECT {aggregate}({one}) FROM {inner}{where})",
                f"{compared} >= (SELECT {aggregate}({one}) FROM {inner}{across})",
            ]
        )

    def _where(self, scope: list[Column], depth: int) -> str:
        if self._chance(0.45):
            return ""
        parts = [self._condition(scope, depth) for _ in range(self.rng.choice([1, 1, 2]))]
        return " WHERE " + " AND ".join(f"({part})" for part in parts)

    def _outputs(self, scope: list[Column], count: int) -> list[tuple[str, str]]:
        kinds = [self._kind(scope) for _ in range(count)]
        return [(self._value(scope, kind), kind) for kind in kinds]

    def _named(self, outputs: list[tuple[str, str]]) -> tuple[str, tuple[tuple[str, str], ...]]:
        words = ["k", "x", "n", "total", "id", "s"]
        self.rng.shuffle(words)
        names = words[: len(outputs)]
        sql = ", ".join(f"{value} AS {name}" for (value, _), name in zip(outputs, names, strict=True))
        return sql, tuple((name, kind) for name, (_, kind) in zip(names, outputs, strict=True))

    def _plain(self, depth: int) -> Query:
        sql, scope = self._from(depth)
        outputs = self._outputs(scope, self.rng.choice([1, 2, 3]))
        if depth and self._chance(0.2):
            inner, columns = self._source(0)
            pairs = [(a, b) for a in scope for b in columns if a.kind == b.kind and a.kind != BOOL]
            if pairs:
                a, b = self.rng.choice(pairs)
                aggregate = self.rng.choice(["max", "count", "sum"])
                value = self._value(columns, INT)
                outputs.append((f"(SELECT {aggregate}({value}) FROM {inner} WHERE {b.sql} = {a.sql})", INT))
        if depth and self._chance(0.15):
            outputs.append((self._subquery(scope, 0), BOOL))
        chosen, columns_out = self._named(outputs)
        return Query(f"SELECT {chosen} FROM {sql}{self._where(scope, depth)}", columns_out)

    def _crossed(self, depth: int) -> Query:
        """Tables with commas between, joined by WHERE, in no good order."""
        sources: list[str] = []
        scope: list[Column] = []
        conditions: list[str] = []
        for _ in range(self.rng.choice([2, 2, 3])):
            sql, columns = self._source(depth)
            pairs = [(a, b) for a in scope for b in columns if a.kind == b.kind and a.kind != BOOL]
            if pairs:
                a, b = self.rng.choice(pairs)
                conditions.append(f"{a.sql} = {b.sql}")
            elif scope:
                continue
            sources.append(sql)
            scope += columns
        self.rng.shuffle(sources)
        conditions += [f"({self._condition(scope, depth)})" for _ in range(self.rng.choice([0, 1, 2]))]
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        chosen, columns_out = self._named(self._outputs(scope, self.rng.choice([1, 2, 3])))
        return Query(f"SELECT {chosen} FROM {', '.join(sources)}{where}", columns_out)

    def _ranked_groups(self, depth: int) -> Query:
        """A window over groups."""
        sql, scope = self._from(depth)
        key, kind = self._outputs(scope, 1)[0]
        if "." not in key:
            key, kind = scope[0].sql, scope[0].kind
        value, _ = self._aggregate(scope)
        over = self.rng.choice([f"ORDER BY {value}", f"ORDER BY {value}, {key}", ""])
        window = self.rng.choice([f"rank() OVER ({over})", "sum(count(*)) OVER ()::BIGINT"])
        chosen, columns = self._named([(key, kind), (window, INT)])
        return Query(f"SELECT {chosen} FROM {sql}{self._where(scope, depth)} GROUP BY {key}", columns)

    def _aggregate(self, scope: list[Column]) -> tuple[str, str]:
        kind = self._kind(scope)
        value = self._value(scope, kind)
        number = self._value(scope, INT)
        real = self._value(scope, REAL)
        condition = f" FILTER (WHERE {self._condition(scope, 0)})" if self._chance(0.2) else ""
        return self.rng.choice(
            [
                (f"count(*){condition}", INT),
                (f"count({value}){condition}", INT),
                (f"count(DISTINCT {value}){condition}", INT),
                (f"sum({number}){condition}::BIGINT", INT),
                (f"min({value}){condition}", kind),
                (f"max({value}){condition}", kind),
                (f"sum({real}){condition}", REAL),
                (f"avg({number}){condition}", REAL),
                (f"median({number}){condition}", REAL),
                (f"bool_or({self._value(scope, BOOL)}){condition}", BOOL),
                (f"count_if({self._value(scope, BOOL)})::BIGINT", INT),
                (f"sum(DISTINCT {number}){condition}::BIGINT", INT),
                (f"max({number}) - min({number})", INT),
            ]
        )

    def _grouped(self, depth: int) -> Query:
        sql, scope = self._from(depth)
        keys = [(k, kind) for k, kind in self._outputs(scope, self.rng.choice([0, 1, 1, 2])) if "a" in k and "." in k]
        found = [self._aggregate(scope) for _ in range(self.rng.choice([1, 1, 2, 3]))]
        shown = keys if self._chance(0.85) else keys[:1]
        chosen, columns = self._named([*shown, *found])
        group = f" GROUP BY {', '.join(key for key, _ in keys)}" if keys else ""
        having = ""
        if self._chance(0.3):
            value, _ = self.rng.choice([("count(*)", INT), (f"sum({self._value(scope, INT)})", INT)])
            having = f" HAVING {value} {self.rng.choice(['>', '<=', '<>'])} {self.rng.choice(['0', '1', '3'])}"
        return Query(f"SELECT {chosen} FROM {sql}{self._where(scope, depth)}{group}{having}", columns)

    def _windowed(self, depth: int) -> Query:
        sql, scope = self._from(depth)
        outputs = self._outputs(scope, self.rng.choice([1, 2]))
        by = [column.sql for column in scope]
        partition = self.rng.sample(by, min(len(by), self.rng.choice([0, 1, 1, 2])))
        over = f"PARTITION BY {', '.join(partition)}" if partition else ""
        number = self._value(scope, INT)
        kinds = [f"sum({number}) OVER ({over})::BIGINT", f"count(*) OVER ({over})", f"max({number}) OVER ({over})"]
        ordered = f"{over} ORDER BY {self.rng.choice(by)}"
        kinds += [f"rank() OVER ({ordered})", f"dense_rank() OVER ({ordered})", f"count({number}) OVER ({ordered})"]
        window = self.rng.choice(kinds)
        qualify = f" QUALIFY rank() OVER ({ordered}) <= 2" if self._chance(0.2) else ""
        chosen, columns = self._named([*outputs, (window, INT)])
        return Query(f"SELECT {chosen} FROM {sql}{self._where(scope, depth)}{qualify}", columns)

    def _distinct(self, depth: int) -> Query:
        query = self._plain(0)
        return Query(query.sql.replace("SELECT", "SELECT DISTINCT", 1), query.columns)

    def _set(self, depth: int) -> Query:
        left = self.query(depth - 1)
        sql, scope = self._source(depth - 1)
        outputs = [(self._value(scope, kind), kind) for _, kind in left.columns]
        right = f"SELECT {', '.join(value for value, _ in outputs)} FROM {sql}{self._where(scope, 0)}"
        operation = self.rng.choice(
            ["UNION ALL", "UNION ALL", "UNION", "INTERSECT", "EXCEPT", "EXCEPT ALL", "INTERSECT ALL"]
        )
        return Query(f"({left.sql}) {operation} ({right})", left.columns)

    def _limited(self, query: Query) -> Query:
        names = [name for name, _ in query.columns]
        self.rng.shuffle(names)
        keys = ", ".join(
            f"{name}{self.rng.choice(['', ' DESC'])}{self.rng.choice(['', ' NULLS FIRST'])}" for name in names
        )
        limit = self.rng.choice(["", f" LIMIT {self.rng.choice([1, 3, 10])}", " LIMIT 4 OFFSET 2"])
        return Query(f"SELECT * FROM ({query.sql}) AS {self._alias()} ORDER BY {keys}{limit}", query.columns)
