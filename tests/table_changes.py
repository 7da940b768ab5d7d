"""What can be done to the rows of a table, and what comes of it by the model in plain Python."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pyiceberg.transforms import BucketTransform
from pyiceberg.types import LongType

import iceblink as ib
from iceblink import _
from table_model import GROUP, ID, NUMBER, Model, Row, Rows, changed, each, kept, value

TABLE, IN_SQL = "n.t ü", 'n."t ü"'
GROUPS = ["a", "ab", "abc ü/%20=", None]
WRITES = (
    "append", "insert", "overwrite", "overwrite where", "overwrite partitions", "upsert", "delete", "delete group",
    "update", "move", "merge", "merge by source", "truncate",
)  # fmt: skip
PARTITIONS: list[tuple[str, ...]] = [(), ("group",), ("bucket",), ("start",), ("group", "bucket")]
STAYS: Row = frozenset({(NUMBER, 0)})


@dataclass(frozen=True)
class Change:
    """What is done to the rows of a branch, and what the model says of that."""

    run: Callable[[ib.Lake], object]
    effect: Callable[[Rows], Rows]
    commits: int = 1
    """At most so many."""
    refused: bool = False
    """Whether it may be refused."""


def same(rows: Rows) -> Rows:
    """What keeps a table healthy changes no row."""
    return rows


class Changing:
    """Makes changes for a table that is as the model says."""

    model: Model
    wide: bool
    """Whether the number is a long by now."""
    mixed: bool
    """Whether files may be there of another partitioning."""
    partition: tuple[str, ...]

    def arrow(self, rows: Rows) -> pa.Table:
        """Return rows as Arrow, under the names of now."""
        kinds = {ID: pa.int64(), GROUP: pa.string(), NUMBER: pa.int64() if self.wide else pa.int32()}
        flat = list(rows.elements())
        return pa.table(
            {
                name: pa.array([value(row, number) for row in flat], kinds.get(number, pa.string()))
                for name, number in self.model.columns.items()
            }
        )

    def new(self, given: list[tuple[int, Any, Any]], unique: bool = False) -> Rows:
        chosen = {one[0]: one for one in given}.values() if unique else given
        more = [number for number in self.model.columns.values() if number > NUMBER]
        rows: Rows = Counter()
        for number, group, count in chosen:
            values = {ID: number, GROUP: group, NUMBER: count}
            rows[changed(frozenset(), values | {one: f"{one} ü {number}" if number % 2 else None for one in more})] += 1
        return rows

    # what is done to rows

    def write(self, kind: str, given: list[tuple[int, Any, Any]], k: int, branch: str) -> Change:
        name, on = self.model.name, {} if branch == "main" else {"branch": branch}
        rows = self.new(given, unique=kind in ("upsert", "merge", "merge by source"))
        data, group, part = self.arrow(rows), GROUPS[k % 4], k % 3
        chosen: Callable[[Row], bool] = lambda row: value(row, ID) % 3 == part  # noqa: E731
        condition = f'"{name(ID)}" % 3 = {part}'
        keys = {value(row, ID) for row in rows}
        match kind:
            case "insert" if rows and branch == "main":
                columns = ", ".join(f'"{one}"' for one in data.column_names)
                values = [["NULL" if one is None else repr(one) for one in row.values()] for row in data.to_pylist()]
                shown = ", ".join(f"({', '.join(one)})" for one in values)
                text = f"INSERT INTO {IN_SQL} ({columns}) VALUES {shown}"
                return Change(lambda lake: lake.sql(text), lambda old: old + rows)
            case "append" | "insert":
                return Change(lambda lake: lake.write(TABLE, data, **on), lambda old: old + rows)
            case "overwrite":
                return Change(lambda lake: lake.write(TABLE, data, "overwrite", **on), lambda old: rows)
            case "overwrite where":
                where = _[name(GROUP)].isnull() if group is None else _[name(GROUP)] == group
                return Change(
                    lambda lake: lake.write(TABLE, data, "overwrite", where=where, **on),
                    lambda old: kept(old, lambda row: value(row, GROUP) != group) + rows,
                )
            case "overwrite partitions":
                taken, of = {self.place(row) for row in rows}, self.place
                return Change(
                    lambda lake: lake.write(TABLE, data, "overwrite", partitions="dynamic", **on),
                    lambda old: kept(old, lambda row: of(row) not in taken) + rows,
                    refused=self.mixed or not self.partition,
                )
            case "upsert":
                return Change(
                    lambda lake: lake.write(TABLE, data, "upsert", on=name(ID), **on),
                    lambda old: kept(old, lambda row: value(row, ID) not in keys) + rows,
                )
            case "delete":
                return Change(
                    lambda lake: lake.delete(TABLE, condition, **on), lambda old: kept(old, lambda row: not chosen(row))
                )
            case "delete group":
                quoted = f'"{name(GROUP)}"'
                where = f"{quoted} IS NULL" if group is None else f"{quoted} = '{group}'"
                return Change(
                    lambda lake: lake.delete(TABLE, where, **on),
                    lambda old: kept(old, lambda row: value(row, GROUP) != group),
                )
            case "update":

                def counted(row: Row) -> Row:
                    count = value(row, NUMBER)
                    return changed(row, {NUMBER: count + 1}) if chosen(row) and count is not None else row

                return Change(
                    lambda lake: lake.update(TABLE, {name(NUMBER): f'"{name(NUMBER)}" + 1'}, condition, **on),
                    lambda old: each(old, counted),
                )
            case "move":
                to = "NULL" if group is None else f"'{group}'"
                return Change(
                    lambda lake: lake.update(TABLE, {name(GROUP): to}, condition, **on),
                    lambda old: each(old, lambda row: changed(row, {GROUP: group}) if chosen(row) else row),
                )
            case "merge":
                source = {value(row, ID): row for row in rows}
                clauses = (
                    ib.when_matched(f'source."{name(NUMBER)}" IS NULL').delete(),
                    ib.when_matched().update_all(),
                    ib.when_not_matched().insert_all(),
                )

                numbers = list(self.model.columns.values())

                def matched(row: Row) -> Row:
                    new = source.get(value(row, ID))
                    return row if new is None else changed(row, {one: value(new, one) for one in numbers})

                def merged(old: Rows) -> Rows:
                    there = {value(row, ID) for row in old}
                    stays = kept(old, lambda row: value(source.get(value(row, ID), STAYS), NUMBER) is not None)
                    return each(stays, matched) + kept(rows, lambda row: value(row, ID) not in there)

                return Change(lambda lake: lake.merge(TABLE, data, name(ID), *clauses, **on), merged)
            case "merge by source":
                gone = ib.when_not_matched_by_source(condition).delete()

                def without(old: Rows) -> Rows:
                    there = {value(row, ID) for row in old}
                    stays = kept(old, lambda row: value(row, ID) in keys or not chosen(row))
                    return stays + kept(rows, lambda row: value(row, ID) not in there)

                return Change(
                    lambda lake: lake.merge(TABLE, data, name(ID), ib.when_not_matched().insert_all(), gone, **on),
                    without,
                )
            case _:
                return Change(lambda lake: lake.truncate(TABLE, branch=branch), lambda old: Counter())

    def place(self, row: Row) -> tuple[Any, ...]:
        """Return the partition of a row."""
        bucket, group = BucketTransform(3).transform(LongType()), value(row, GROUP)
        parts = {"group": group, "bucket": bucket(value(row, ID)), "start": None if group is None else group[:2]}
        return tuple(parts[one] for one in self.partition)

    def upkeep(self, kind: str, k: int, branch: str) -> Change:
        options: dict[str, Any] = {
            "compact": {"min_files": 1 + k},
            "compact some": {"where": _[self.model.name(ID)] > k, "rewrite_all": True},
            "compact bit by bit": {"rewrite_all": True, "target_size": 1000, "partial_progress": True},
            "sort": {"sort_by": [f"-{self.model.name(NUMBER)}", self.model.name(ID)]},
            "z-order": {"zorder": [self.model.name(GROUP), self.model.name(ID)]},
        }[kind]
        many = 10 if options.get("partial_progress") else 1
        return Change(lambda lake: lake.compact(TABLE, branch=branch, **options), same, many)
