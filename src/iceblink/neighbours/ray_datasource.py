"""Our splits as the read tasks of a Ray dataset."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.acero as acero
from ray.data import Datasource
from ray.data.block import BlockAccessor, BlockMetadata
from ray.data.datasource import ReadTask
from ray.data.expressions import BinaryExpr, ColumnExpr, Expr, LiteralExpr, Operation, UnaryExpr

from iceblink.config import Settings
from iceblink.plan.nodes import Plan
from iceblink.plan.rowwise import chosen
from iceblink.predicate import (
    FLIPPED,
    Compare,
    Everything,
    IsIn,
    IsNull,
    NotNull,
    Operator,
    Or,
    Predicate,
    conjunction,
)
from iceblink.run.parts import Parts, Reader
from iceblink.scan.split import Split

_COMPARE: dict[Operation, Operator] = {
    Operation.EQ: "=", Operation.NE: "!=", Operation.LT: "<", Operation.LE: "<=", Operation.GT: ">", Operation.GE: ">=",
}  # fmt: skip


class IceblinkDatasource(Datasource):  # type: ignore[misc]
    """A table, or what looks at one of its rows at a time, for ``ray.data.read_datasource``.

    Ray asks for read tasks several times; they are planned once for each set of columns and filters. Columns that Ray
    selects and rows that it filters are not read where the table's metadata allows, and no catalog is asked.

    Parameters
    ----------
    plan : Plan
    settings : Settings
    parts : Parts
        Of all columns and rows of `plan`.
    """

    def __init__(self, plan: Plan, settings: Settings, parts: Parts) -> None:
        super().__init__()
        self._plan, self._settings, self.parts = plan, settings, parts
        self._projection_map: dict[str, str] | None = None

    def get_name(self) -> str:
        """Return what Ray calls the read tasks."""
        return "Iceblink"

    def estimate_inmemory_data_size(self) -> int:
        """Return the estimated Arrow size of what is read [bytes]."""
        return self.parts.decoded_bytes

    def supports_projection_pushdown(self) -> bool:
        """Whether columns that nobody needs are left out."""
        return True

    def supports_predicate_pushdown(self) -> bool:
        """Whether rows are filtered where they are read."""
        return True

    def apply_projection(self, projection_map: dict[str, str] | None) -> Datasource:
        """Return the source of some columns."""
        return self._planned(super().apply_projection(projection_map))

    def apply_predicate(self, predicate_expr: Expr) -> Datasource:
        """Return the source of the rows that satisfy an expression as well."""
        return self._planned(super().apply_predicate(predicate_expr))

    @staticmethod
    def _planned(source: IceblinkDatasource) -> IceblinkDatasource:
        """Plan what `source`, a copy, still needs."""
        plan, expression, selected = source._plan, source.get_current_predicate(), source._get_data_columns()
        if selected is not None:
            wanted = set(selected) | (set() if expression is None else _columns(expression))
            names = [name for name in plan.schema.names if name in wanted] or plan.schema.names[:1]
            plan = chosen(plan, names)
        predicate = None if expression is None else implied(expression, plan.schema)
        found = Parts.of(plan, source._settings, predicate)
        assert found is not None, "columns of what looks at one row at a time look at one row at a time"
        source.parts = found
        return source

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        """Return at most `parallelism` tasks of about one decoded size, each of consecutive splits."""
        parts = self.parts
        expression = self.get_current_predicate()
        deliver = partial(_blocks, parts.reader, expression, self._get_data_columns())
        (empty,) = deliver(())
        counted = parts.every_row and expression is None
        tasks = []
        for splits in parts.shared(max(1, parallelism)) or [()]:
            metadata = BlockMetadata(
                num_rows=sum(split.rows for split in splits) if counted else None,
                size_bytes=sum(split.decoded_bytes for split in splits),
                input_files=tuple({piece.path: None for split in splits for piece in split.pieces}),
                exec_stats=None,
            )
            tasks.append(ReadTask(partial(deliver, splits), metadata, empty.schema, per_task_row_limit))
        return tasks


def _blocks(
    reader: Reader, expression: Expr | None, columns: list[str] | None, splits: Sequence[Split]
) -> Iterator[pa.Table]:
    """Yield the rows of some splits as Ray wants them; without rows an empty block, which tells the schema."""
    found = False
    for batch in reader.rows(splits):
        block = _block(pa.Table.from_batches([batch]), expression, columns)
        if block.num_rows:
            found = True
            yield block
    if not found:
        yield _block(reader.schema.empty_table(), None, columns)


def _block(table: pa.Table, expression: Expr | None, columns: list[str] | None) -> pa.Table:
    if expression is not None:  # as Table.filter does it, but in this thread
        given = acero.Declaration("table_source", acero.TableSourceNodeOptions(table))
        kept = acero.Declaration("filter", acero.FilterNodeOptions(expression.to_pyarrow()), [given])
        table = kept.to_table(use_threads=False)
    if columns is None:
        return table
    # of no columns Ray makes one of nulls, to count
    return table.select(columns) if columns else BlockAccessor.for_block(table).select([])


def implied(expression: Expr, schema: pa.Schema) -> Predicate:
    """Return what our planner can make of an expression of Ray: true for every row that it is true for."""
    match expression:
        case BinaryExpr(op=Operation.AND, left=left, right=right):
            return conjunction(implied(left, schema), implied(right, schema))
        case BinaryExpr(op=Operation.OR, left=left, right=right):
            either = implied(left, schema), implied(right, schema)
            return Everything() if any(isinstance(one, Everything) for one in either) else Or(*either)
        case BinaryExpr(op=Operation.IN, left=ColumnExpr(name=name), right=LiteralExpr(value=values)):
            found = [_fitting(value, name, schema) for value in values]
            return Everything() if None in found else IsIn(name, frozenset(found))
        case BinaryExpr(op=op, left=ColumnExpr(name=name), right=LiteralExpr(value=value)) if op in _COMPARE:
            return _comparison(name, _COMPARE[op], value, schema)
        case BinaryExpr(op=op, left=LiteralExpr(value=value), right=ColumnExpr(name=name)) if op in _COMPARE:
            return _comparison(name, FLIPPED[_COMPARE[op]], value, schema)
        case UnaryExpr(op=Operation.IS_NULL, operand=ColumnExpr(name=name)) if name in schema.names:
            return IsNull(name)
        case UnaryExpr(op=Operation.IS_NOT_NULL, operand=ColumnExpr(name=name)) if name in schema.names:
            return NotNull(name)
    return Everything()


def _comparison(name: str, op: Operator, value: Any, schema: pa.Schema) -> Predicate:
    fitting = _fitting(value, name, schema)
    return Everything() if fitting is None else Compare(name, op, fitting)


def _fitting(value: Any, name: str, schema: pa.Schema) -> Any:
    """Return a literal as a value of the column's own type; None where it has none."""
    try:
        found = pa.scalar(value, schema.field(name).type).as_py()
        return found if found == value else None
    except (pa.ArrowException, KeyError, TypeError, ValueError, OverflowError):
        return None


def _columns(expression: Expr) -> set[str]:
    """Return the columns that an expression, such as Ray pushes down, names."""
    if isinstance(expression, ColumnExpr):
        return {expression.name}
    inner = [part for value in vars(expression).values() for part in (value if isinstance(value, list) else [value])]
    return {name for part in inner if isinstance(part, Expr) for name in _columns(part)}
