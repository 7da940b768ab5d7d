"""``INSERT``: a query's columns go to the table's, by position or by name, and their values are those of its types."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.types as pt

from iceblink.errors import ColumnNotFound, ConfigError, DuplicateColumn, SchemaMismatch, SqlError, TypeMismatch
from iceblink.lake.table import Table
from iceblink.plan.nodes import Plan
from iceblink.plan.query import equal_to
from iceblink.plan.sql import Assigned, assigned_query, constant
from iceblink.plan.statements.kinds import Insert, Value
from iceblink.run.insert_defaults import default_values
from iceblink.run.kernel_types import kernel_type
from iceblink.run.outcome import Written
from iceblink.run.session import Session
from iceblink.run.write import Mode, WriteOptions, write_rows
from iceblink.types import show_type


def inserted(session: Session, statement: Insert) -> Written:
    """Run the query and commit its rows, as the statement says.

    Eager; runs on the session's engine.

    Raises
    ------
    TableNotFound, ColumnNotFound, SqlError
    SchemaMismatch
        The query has another number of columns, or values that are none of the table's types.
    ConfigError
        ``PARTITION`` names what is no partition column.
    NullInRequired, CommitConflict, CommitUnknown, WriteError
    """
    table = session.target(statement.name)
    values = {_named(name, table, "PARTITION"): value for name, value in statement.partition.items()}
    dynamic = [_named(name, table, "PARTITION") for name in statement.dynamic]
    _check_partition([*values, *dynamic], table)
    names = [_named(name, table, "columns") for name in statement.columns or ()]
    if statement.columns is None:
        names = [name for name in table.schema.names if name not in values]
    every = [*names, *values]
    twice = next((name for name in every if every.count(name) > 1), None)
    if twice is not None:
        raise DuplicateColumn(f"column {twice!r} is given twice", f"INSERT INTO {table.name}", "name it once")
    query = default_values(session, statement.query, table, names) or _query(session, statement, table, names)
    fixed = {name: _constant(session, name, value, table) for name, value in values.items()}
    plan = _assigned(session, query, table, names, statement.by_name, fixed)
    where = None
    if statement.overwrite and values and not dynamic:
        where = equal_to({name: session.engine.evaluate(value) for name, value in fixed.items()})
    mode: Mode = "overwrite" if statement.overwrite else "append"
    of_rows = statement.overwrite and bool(dynamic)
    options = WriteOptions(mode, where=where, dynamic=of_rows, branch=table.branch)
    return write_rows(session, plan, table.name, options)


def _named(name: str, table: Table, clause: str) -> str:
    """Return the column of that name, or the one that differs in case alone."""
    names = table.schema.names
    same = [name] if name in names else [other for other in names if other.lower() == name.lower()]
    if len(same) != 1:
        raise ColumnNotFound.of(name, names, f"INSERT INTO {table.name}, {clause}")
    return same[0]


def _constant(session: Session, name: str, value: Value, table: Table) -> Any:
    made = constant(value, kernel_type(table.schema.field(name).type))
    try:
        session.engine.evaluate(made)
    except ValueError:
        kind = show_type(table.schema.field(name).type)
        raise TypeMismatch(f"{value!r} is no {kind}", f"INSERT INTO {table.name}, PARTITION ({name})") from None
    return made


def _check_partition(named: Sequence[str], table: Table) -> None:
    sources = table.partition_columns
    wrong = next((name for name in named if name not in sources), None)
    if wrong is not None:
        hint = f"it is partitioned by {', '.join(table.partition_by)}" if sources else "it has no partitions"
        raise ConfigError(f"table {table.name} is not partitioned by {wrong!r}", "PARTITION", hint)


def _query(session: Session, statement: Insert, table: Table, names: Sequence[str]) -> Plan:
    assert statement.query is not None, "a row of default values is made without one"
    try:
        return session.sql(statement.query)
    except DuplicateColumn:  # their places tell them apart
        if statement.by_name:
            raise
    try:
        return session.sql(statement.query, columns=names)
    except SqlError as error:
        fewer = re.search(r"has (\d+) columns available", error.what)
        if fewer is None:
            raise
        raise _miscounted(table, names, int(fewer[1])) from error


def _miscounted(table: Table, names: Sequence[str], count: int) -> SchemaMismatch:
    hint = f"give {', '.join(names)}, or name the columns: INSERT INTO {table.name} ({names[0]}, ...) ..."
    return SchemaMismatch(f"expected {len(names)} columns, got {count}", f"INSERT INTO {table.name}", hint)


def _assigned(
    session: Session, query: Plan, table: Table, names: Sequence[str], by_name: bool, fixed: Mapping[str, Any]
) -> Plan:
    """Return the rows of `query` under the names of the table, with constants, and texts as what they say."""
    given = query.schema
    if by_name:
        names = [_named(name, table, "BY NAME") for name in given.names]
    elif len(given) != len(names):
        raise _miscounted(table, names, len(given))
    columns = []
    for source, name in zip(given, names, strict=True):
        wanted = table.schema.field(name).type
        cast = kernel_type(wanted) if source.type != wanted and assignable(source.type, wanted) else None
        columns.append(Assigned(source.name, name, cast))
    if not fixed and all(one.source == one.name and one.cast is None for one in columns):
        return query
    return session.engine.query(assigned_query(query.name, columns, fixed), {query.name: query})


def assignable(given: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether SQL gives a value of one type to a column of the other by a cast that cannot change what it means.

    Texts become dates, times and UUIDs, decimals (``2.5`` is one) become floats; inside of lists and structs too. All
    else is left to `types.conform`, which looks at each value.
    """
    if given == wanted or pt.is_null(given):
        return True
    if pt.is_string(given):
        return bool(pt.is_temporal(wanted) or isinstance(wanted, pa.UuidType))
    if pt.is_decimal(given):
        return bool(pt.is_floating(wanted) or (pt.is_decimal(wanted) and wanted.scale >= given.scale))
    if pt.is_int32(given):
        return bool(pt.is_int64(wanted) or pt.is_float64(wanted) or pt.is_decimal(wanted))
    if pt.is_date(given):
        return bool(pt.is_timestamp(wanted))
    if pt.is_list(given) and isinstance(wanted, pa.FixedShapeTensorType):
        return len(wanted.shape) == 1 and assignable(given.value_type, wanted.value_type)
    if pt.is_list(given) and pt.is_list(wanted):
        return assignable(given.value_type, wanted.value_type)
    if pt.is_struct(given) and pt.is_struct(wanted):
        kinds = {one.name: one.type for one in wanted}
        same = {one.name for one in given} == set(kinds)
        return same and all(assignable(one.type, kinds[one.name]) for one in given)
    return False
