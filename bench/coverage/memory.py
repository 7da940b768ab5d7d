"""Rows in memory with the words of a dataset, so that a thousand small studies take a minute and no engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import duckdb
import pyarrow as pa

from iceblink.plan import nodes


@dataclass(frozen=True, eq=False)
class Memory:
    """Has the words that estimators use; they answer at once."""

    rows: pa.Table

    @classmethod
    def of(cls, **columns: Any) -> Any:
        """Return columns as what stands for a dataset."""
        return cls(pa.table(columns))

    @property
    def plan(self) -> nodes.Memory:
        return nodes.Memory(self.schema, self.rows)

    @property
    def schema(self) -> pa.Schema:
        return self.rows.schema

    @property
    def columns(self) -> list[str]:
        return list(self.rows.column_names)

    def select(self, *names: str) -> Memory:
        return Memory(self.rows.select(list(names)))

    def order_by(self, *names: str) -> Memory:
        return Memory(self.rows.sort_by([(name, "ascending") for name in names]))

    def distinct(self) -> Memory:
        return self.sql("SELECT DISTINCT * FROM this")

    def limit(self, count: int) -> Memory:
        return Memory(self.rows.slice(0, count))

    def count(self) -> int:
        return int(self.rows.num_rows)

    def sql(self, text: str) -> Memory:
        cursor = _kernel()
        cursor.register("this", self.rows)
        return Memory(cursor.sql(text).to_arrow_table())

    def map_batches(self, function: Callable[[pa.RecordBatch], pa.RecordBatch], **_: Any) -> Memory:
        whole = self.rows.combine_chunks().to_batches()
        return Memory(pa.Table.from_batches([function(one) for one in whole]))

    def to_batches(self) -> Iterator[pa.RecordBatch]:
        yield from self.rows.combine_chunks().to_batches()

    def to_arrow(self) -> pa.Table:
        return self.rows

    def to_pylist(self) -> list[dict[str, Any]]:
        return list(self.rows.to_pylist())


@cache
def _kernel() -> duckdb.DuckDBPyConnection:
    return duckdb.connect(config={"threads": "1"})
