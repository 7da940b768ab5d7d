"""Stages run in this process, one task after the other: what tells whether a plan is right.

Rows are shared out at random, partitions divided where that is allowed, and empty tasks left out.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.compute as pc
import sqlglot

from iceblink.config import Settings
from iceblink.errors import IceblinkError
from iceblink.plan.stage import Gather, Hash, Keep, Leaf, Observed, Range, Read, Result, Stage
from iceblink.plan.stages import stages
from iceblink.run.kernel import Kernel

Shares = list[pa.Table]


@dataclass
class Cluster:
    """Some tables, a kernel, and how often rows are divided."""

    tables: Mapping[str, pa.Table]
    kernel: Kernel = field(default_factory=lambda: Kernel(Settings(threads=1)))
    shares: int = 3
    partitions: int = 3
    seed: int = 0
    few_bytes: float = 0

    def whole(self, sql: str) -> pa.Table:
        """Return what the kernel gives for the statement."""
        schema, _ = self.kernel.describe(sql, {name: table.schema for name, table in self.tables.items()})
        return self._run(sql, self.tables, schema)

    def plan(self, sql: str, broadcast_bytes: float = 0) -> list[Stage]:
        """Return the stages as planned without running them."""
        return list(stages(sqlglot.parse_one(sql, dialect="duckdb"), self._leaves(), self.kernel.describe,
                           small_bytes=0, broadcast_bytes=broadcast_bytes, few_bytes=self.few_bytes))  # fmt: skip

    def staged(self, sql: str, broadcast_bytes: float = 0) -> tuple[pa.Table, list[Stage]]:
        """Return what the stages give, and the stages."""
        rng = random.Random(self.seed)
        done: dict[str, tuple[Stage, Shares]] = {}
        for name, table in self.tables.items():
            done[name] = self._leaf_stage(name, table), _shared_out(table, self.shares, rng)
        planner = stages(
            sqlglot.parse_one(sql, dialect="duckdb"), self._leaves(), self.kernel.describe,
            small_bytes=0, broadcast_bytes=broadcast_bytes, few_bytes=self.few_bytes,
        )  # fmt: skip
        plan: list[Stage] = []
        results: list[pa.Table] = []
        seen: Observed | None = None
        while True:
            try:
                stage = planner.send(seen)
            except StopIteration:
                return pa.concat_tables(results), plan
            plan.append(stage)
            assert not any(isinstance(earlier.send, Result) for earlier in plan[:-1]) or isinstance(stage.send, Result)
            assert not any(done[name][0].name == "gone" for read in stage.reads for name in read.of)
            outputs = [self._run_task(stage, inputs) for inputs in self._tasks(stage, done, rng)]
            empty = stage.schema.empty_table()
            made = pa.concat_tables([empty, *outputs]) if not isinstance(stage.send, Hash) else None
            if isinstance(stage.send, Result):
                assert made is not None
                results.append(made)
                seen = None
                continue
            for name in [name for read in stage.reads for name in read.of]:
                if isinstance(done[name][0].send, Hash | Range | Gather):
                    del done[name][1][:]  # who runs stages lets go of what has met: nobody reads it again
                    done[name] = replace(done[name][0], send=Keep(), name="gone"), done[name][1]
            done[stage.name] = stage, self._sent(stage, outputs)
            everything = done[stage.name][1]
            seen = Observed(sum(t.num_rows for t in everything), sum(t.nbytes for t in everything))

    def _leaves(self) -> list[Leaf]:
        return [Leaf(name, table.schema, table.num_rows, table.nbytes) for name, table in self.tables.items()]

    def _leaf_stage(self, name: str, table: pa.Table) -> Stage:
        query = sqlglot.exp.select("*").from_(name)
        return Stage(name, query, (), Keep(), table.schema, "", Observed(0, 0))

    def _run(self, sql: str, inputs: Mapping[str, pa.Table], schema: pa.Schema) -> pa.Table:
        return pa.Table.from_batches(list(self.kernel.stream(sql, inputs, schema, 100_000)), schema)

    def _run_task(self, stage: Stage, inputs: Mapping[str, pa.Table]) -> pa.Table:
        sql, schema = stage.query.sql("duckdb"), stage.schema
        if isinstance(stage.send, Hash):
            keys = ", ".join('"' + key.replace('"', '""') + '"' for key in stage.send.keys)
            sql = f'SELECT *, CAST(hash({keys}) % {self.partitions} AS INTEGER) AS "part" FROM ({sql})'
            schema = schema.append(pa.field("part", pa.int32()))
        return self._run(sql, inputs, schema)

    def _sent(self, stage: Stage, outputs: Sequence[pa.Table]) -> Shares:
        match stage.send:
            case Keep():
                return list(outputs)
            case Gather():
                return [pa.concat_tables([stage.schema.empty_table(), *outputs])]
            case Hash():
                empty = stage.schema.append(pa.field("part", pa.int32())).empty_table()
                rows = pa.concat_tables([empty, *outputs])
                parts = [rows.filter(pc.equal(rows["part"], number)) for number in range(self.partitions)]
                return [part.drop_columns(["part"]) for part in parts]
            case Range(order=order):
                rows = pa.concat_tables([stage.schema.empty_table(), *outputs])
                keys = ", ".join(
                    f'"{key.column}" {"DESC" if key.descending else "ASC"} NULLS {("LAST", "FIRST")[key.nulls_first]}'
                    for key in order
                )
                sql = f"SELECT *, CAST(dense_rank() OVER (ORDER BY {keys}) AS INTEGER) AS part FROM rows"
                ranked = self._run(sql, {"rows": rows}, stage.schema.append(pa.field("part", pa.int32())))
                last = pc.max(ranked["part"]).as_py() or 0
                numbers = [rank * self.partitions // (last + 1) for rank in ranked["part"].to_pylist()]
                bounds = [pa.array([number == at for number in numbers], pa.bool_()) for at in range(self.partitions)]
                return [ranked.filter(bound).drop_columns(["part"]) for bound in bounds]
            case _:
                raise AssertionError(stage.send)

    def _tasks(
        self, stage: Stage, done: Mapping[str, tuple[Stage, Shares]], rng: random.Random
    ) -> list[dict[str, pa.Table]]:
        whole = {read.name: _whole(read, done) for read in stage.reads if read.whole}
        named = {table.name for table in stage.query.find_all(sqlglot.exp.Table)}
        assert {read.name for read in stage.reads} <= named
        parted = [read for read in stage.reads if not read.whole]
        if not parted:
            return [whole]
        sends = {type(done[name][0].send) for read in parted for name in read.of}
        assert len(sends) == 1, sends
        if sends == {Keep}:
            assert len(parted) == 1
            (read,) = parted
            shares = [share for name in read.of for share in done[name][1]]
            tasks = [{read.name: share} for share in shares]
        else:
            assert sends <= {Hash, Range}
            tasks = [
                {read.name: pa.concat_tables([done[name][1][number] for name in read.of]) for read in parted}
                for number in range(self.partitions)
            ]
            tasks = [part for task in tasks for part in _divided(task, parted, rng)]
        kept = [task for task in tasks if rng.random() < 0.5 or any(table.num_rows for table in task.values())]
        return [{**task, **whole} for task in kept]


def _whole(read: Read, done: Mapping[str, tuple[Stage, Shares]]) -> pa.Table:
    empty = done[read.of[0]][0].schema.empty_table()
    return pa.concat_tables([empty, *(share for name in read.of for share in done[name][1])])


def _divided(task: dict[str, pa.Table], reads: Sequence[Read], rng: random.Random) -> list[dict[str, pa.Table]]:
    divisible = [read.name for read in reads if read.divisible and task[read.name].num_rows > 1]
    if not divisible or rng.random() < 0.4:
        return [task]
    name = rng.choice(divisible)
    return [{**task, name: share} for share in _shared_out(task[name], 2, rng)]


def _shared_out(table: pa.Table, shares: int, rng: random.Random) -> Shares:
    numbers = [rng.randrange(shares) for _ in range(table.num_rows)]
    return [table.filter(pa.array([number == at for number in numbers], pa.bool_())) for at in range(shares)]


def rows_of(table: pa.Table, digits: int = 9) -> list[tuple[object, ...]]:
    """Return rows that compare as values do: floats to so many digits."""
    columns = [[_rounded(value, digits) for value in column.to_pylist()] for column in table.columns]
    return list(zip(*columns, strict=True)) if columns else []


def _rounded(value: object, digits: int) -> object:
    if isinstance(value, float):
        if math.isnan(value):
            return "nan"
        return float(f"{value:.{digits}g}") + 0.0
    if isinstance(value, list):
        return tuple(_rounded(one, digits) for one in value)
    if isinstance(value, dict):
        return tuple((name, _rounded(one, digits)) for name, one in value.items())
    return value


class Refused(Exception):
    """The kernel itself does not run the statement."""


def check(cluster: Cluster, sql: str, ordered: bool = False, broadcasts: Sequence[float] = (0, 1e9)) -> list[Stage]:
    """Assert that stages give what the kernel gives for the whole, in its types; return the last plan."""
    try:
        expected = cluster.whole(sql)
    except IceblinkError as error:
        raise Refused(sql) from error
    key: Callable[[list[tuple[object, ...]]], list[tuple[object, ...]]] = (
        list if ordered else (lambda rows: sorted(rows, key=repr))
    )
    plan: list[Stage] = []
    for broadcast_bytes in broadcasts:
        got, plan = cluster.staged(sql, broadcast_bytes)
        text = "\n".join(f"{stage.name} {stage.why}: {stage.query.sql('duckdb')}" for stage in plan)
        assert got.schema == expected.schema, text
        assert key(rows_of(got)) == key(rows_of(expected)), f"{sql}\n{text}"
    return plan
