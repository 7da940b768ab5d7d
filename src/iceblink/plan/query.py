"""Verbs as Ibis expressions, compiled to the one SQL tree; by the door in `late`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import and_
from typing import Any

import pyarrow as pa

from iceblink.errors import ColumnNotFound, DuplicateColumn, IceblinkError, TypeMismatch
from iceblink.plan.late import exp, ibis, ibis_compilers, ibis_pyarrow
from iceblink.plan.late import ibis_datatypes as dt
from iceblink.plan.nodes import Plan, Query
from iceblink.plan.query_errors import ibis_errors, said_plainly
from iceblink.types import show_type


@dataclass(frozen=True)
class Relation:
    """A verb applied: the Ibis expression, its SQL tree, and the inputs the tree names."""

    expression: Any
    tree: exp.Query
    sources: Mapping[str, Plan]


def relate(verb: str, plans: Collection[Plan], build: Callable[..., Any]) -> Relation:
    """Apply `build` to the Ibis tables of `plans` and compile what it returns.

    Consecutive verbs become one expression, so that the SQL a person reads in `explain` has one SELECT where
    one is enough.

    Raises
    ------
    ColumnNotFound, DuplicateColumn, TypeMismatch, PlanError
        As Ibis finds them, said in our words; `verb` is the place.
    """
    sources: dict[str, Plan] = {}
    tables = []
    for plan in plans:
        if isinstance(plan, Query) and plan.expression is not None:
            sources.update(plan.sources)
            tables.append(plan.expression)
        else:
            sources[plan.name] = plan
            tables.append(ibis.table(ibis_schema(plan.schema), name=plan.name))
    try:
        expression = build(*tables)
        tree = ibis_compilers.DuckDBCompiler().to_sqlglot(expression)
    except IceblinkError:
        raise
    except ibis_errors() as error:
        types = {field.name: field.type for plan in plans for field in plan.schema}
        raise said_plainly(error, verb, types) from error
    return Relation(expression, tree, sources)


def ibis_schema(schema: pa.Schema) -> Any:
    """Return the Ibis schema of an Arrow schema; types Ibis has no word for become the nearest it has."""
    return ibis.schema({field.name: ibis_type(field.type, field.nullable) for field in schema})


def ibis_type(dtype: pa.DataType, nullable: bool = True) -> Any:
    """Return the Ibis type of an Arrow type."""
    if isinstance(dtype, pa.UuidType):
        return dt.UUID(nullable=nullable)
    if isinstance(dtype, pa.FixedShapeTensorType):
        return dt.Array(ibis_type(dtype.value_type), nullable=nullable)
    if isinstance(dtype, pa.BaseExtensionType):
        return ibis_type(dtype.storage_type, nullable)
    if pa.types.is_fixed_size_binary(dtype):
        return dt.Binary(nullable=nullable)
    if pa.types.is_list(dtype) or pa.types.is_large_list(dtype) or pa.types.is_fixed_size_list(dtype):
        return dt.Array(ibis_type(dtype.value_type), nullable=nullable)
    if pa.types.is_struct(dtype):
        return dt.Struct({child.name: ibis_type(child.type) for child in dtype}, nullable=nullable)
    if pa.types.is_map(dtype):
        return dt.Map(ibis_type(dtype.key_type, False), ibis_type(dtype.item_type), nullable=nullable)
    try:
        return ibis_pyarrow.PyArrowType.to_ibis(dtype, nullable)
    except (KeyError, NotImplementedError) as error:
        raise TypeMismatch(f"no expression can be written over type {show_type(dtype)}") from error


def column(name: str, table: Any, verb: str) -> Any:
    """Return column `name` of an Ibis table.

    Raises
    ------
    ColumnNotFound
        With the nearest name.
    """
    if name not in table.columns:
        raise ColumnNotFound.of(name, table.columns, verb)
    return table[name]


def is_not_true(condition: Any) -> Any:
    """Return the opposite of a filter: true where `condition` is false or null."""
    return ~condition.fill_null(False)


def equal_to(values: Mapping[str, object]) -> Any:
    """Return the condition that all these columns have these values; None is null."""
    row = ibis._
    conditions = [row[name].isnull() if value is None else row[name] == value for name, value in values.items()]
    return reduce(and_, conditions)


def keys(table: Any, given: Collection[Any], verb: str) -> list[Any]:
    """Return names, ``-name`` for descending, and expressions as Ibis sort keys of `table`."""
    result = []
    for item in given:
        if isinstance(item, str):
            descending = item.startswith("-") and item not in table.columns
            value = column(item[1:] if descending else item, table, verb)
            result.append(value.desc() if descending else value)
        else:
            result.append(item)
    return result


def join(left: Any, right: Any, on: Any, how: str) -> Any:
    """Join two Ibis tables: by names that both have, or by a condition over ``(left, right)``.

    Joined by names, each key appears once. Any other name on both sides is refused, never renamed silently.
    """
    verb = "join"
    names = [on] if isinstance(on, str) else on
    by_name = isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
    if by_name:
        for name in names:
            column(name, left, "join, left side")
            column(name, right, "join, right side")
    if how in ("semi", "anti"):
        return left.join(right, names if by_name else on(left, right), how=how)
    shared = [name for name in right.columns if name in left.columns and not (by_name and name in names)]
    if shared:
        raise DuplicateColumn(
            f"both sides have a column {shared[0]!r}",
            verb,
            f"rename or drop one first: .rename({shared[0]}='right_{shared[0]}')",
        )
    if how == "cross":
        return left.cross_join(right)
    joined = left.join(right, names if by_name else on(left, right), how=how, lname="", rname="{name}__right")
    if not by_name:
        return joined
    twins = {name: f"{name}__right" for name in names if f"{name}__right" in joined.columns}
    if how in ("right", "outer"):  # the key is whichever side has the row
        joined = joined.mutate(**{name: ibis.coalesce(joined[name], joined[twin]) for name, twin in twins.items()})
    return joined.drop(*twins.values()) if twins else joined


def sql_of(tree: exp.Expression) -> str:
    """Return the tree as DuckDB SQL a person can read."""
    text: str = tree.sql("duckdb", pretty=True)
    return text
