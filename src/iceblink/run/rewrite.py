"""Copy on write: which files a change touches, and the rows that take their place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from iceblink.errors import ColumnNotFound, NullInRequired, TypeMismatch, WriteError
from iceblink.lake.table import Table
from iceblink.plan.nodes import Memory, Plan, Query, Scan, Stream
from iceblink.plan.optimize import statement
from iceblink.plan.predicates import fit
from iceblink.plan.query import is_not_true, relate
from iceblink.plan.sql import union_query, unused
from iceblink.predicate import Compare, Everything, IsIn, Predicate, conjunction
from iceblink.run.local_engine import LocalEngine
from iceblink.run.session import Session
from iceblink.run.staging import staged
from iceblink.scan.plan import plan_scan
from iceblink.scan.read import read_scan

FILE, COUNT = "__iceblink_file", "__iceblink_count"
FEW_KEYS = 200


@dataclass(frozen=True)
class Rewrite:
    """The files to take out, the rows to put in, and what the decision looked at."""

    remove: frozenset[str]
    rows: Plan
    conflict: Predicate


def overwritten(session: Session, new_rows: Plan, table: Table, where: Any) -> Rewrite:
    """Replace the rows that `where` matches by `new_rows`; others in the same files are kept.

    Raises
    ------
    ColumnNotFound, TypeMismatch
        `where` does not fit the table.
    """
    if isinstance(where, str):
        raise TypeMismatch(f"{where!r} is text, not a condition", f"overwrite {table.name}", "write _.price > 3")
    engine = session.engine
    scan = Scan.of(table)
    matching = _query(engine, "where", lambda t: t.filter(where), scan)
    (reference,) = statement(matching, engine.evaluate).references
    touched = _touched(
        engine, table, reference.columns, reference.predicate, lambda files: (lambda t: t.filter(where), (files,))
    )
    kept = _query(engine, "where", lambda t: t.filter(is_not_true(where)), scan.only(touched))
    return Rewrite(touched, _union(engine, kept, new_rows), reference.predicate)


def upserted(session: Session, new_rows: Plan, table: Table, on: Sequence[str]) -> Rewrite:
    """Replace the rows whose key is in `new_rows`, and add the others.

    Raises
    ------
    ColumnNotFound
        A key column that the table does not have.
    NullInRequired
        A key that is null.
    WriteError
        Two new rows of one key.
    """
    for name in on:
        if name not in table.schema.names:
            raise ColumnNotFound.of(name, table.schema.names, f"upsert into {table.name}, on")
    engine = session.engine
    rows = staged(engine, new_rows)
    keys = rows.data.select(list(on))
    _check_keys(engine, keys, table)
    key_rows = Memory(keys.schema, keys, label="keys")
    predicate = _key_range(engine, key_rows, table)
    touched = _touched(
        engine,
        table,
        on,
        predicate,
        lambda files: (lambda t, k: t.semi_join(k, list(on)), (files, key_rows)),
    )
    others = _query(engine, "upsert", lambda t, k: t.anti_join(k, list(on)), Scan.of(table).only(touched), key_rows)
    return Rewrite(touched, _union(engine, others, rows), predicate)


def _query(engine: LocalEngine, verb: str, build: Callable[..., Any], *plans: Plan) -> Query:
    relation = relate(verb, plans, build)
    return engine.query(relation.tree, relation.sources, relation.expression)


def _union(engine: LocalEngine, kept: Query, new_rows: Plan) -> Query:
    tree = union_query([kept.name, new_rows.name], kept.schema.names)
    return engine.query(tree, {kept.name: kept, new_rows.name: new_rows})


def _touched(
    engine: LocalEngine,
    table: Table,
    columns: Sequence[str],
    predicate: Predicate,
    matching: Callable[[Plan], tuple[Callable[..., Any], tuple[Plan, ...]]],
) -> frozenset[str]:
    """Return the paths of the files that have a row which `matching` selects; only `columns` are read."""
    planned = plan_scan(table, tuple(columns), predicate, engine.settings)
    file = unused(FILE, planned.schema.names)
    schema = planned.schema.append(pa.field(file, pa.string()))

    def labelled() -> Iterator[pa.RecordBatch]:
        for batch in read_scan(planned, table.storage, engine.settings):
            path = pa.repeat(batch.path, batch.data.num_rows)
            yield pa.RecordBatch.from_arrays([*batch.data.columns, path], schema=schema)

    build, plans = matching(Stream(schema, lambda: pa.RecordBatchReader.from_batches(schema, labelled())))
    query = _query(engine, "where", lambda *tables: build(*tables)[[file]].distinct(), *plans)
    return frozenset(path for batch in engine.batches(query) for path in batch.data.column(file).to_pylist())


def _check_keys(engine: LocalEngine, keys: pa.Table, table: Table) -> None:
    where = f"upsert into {table.name}"
    for name in keys.schema.names:
        if keys.column(name).null_count:
            raise NullInRequired(
                f"key column {name!r} has {keys.column(name).null_count:,} nulls", where, "a key is never null"
            )
    names = list(keys.schema.names)
    count = unused(COUNT, names)
    plan = Memory(keys.schema, keys, label="keys")

    def repeated(t: Any) -> Any:
        counted = t.group_by(*names).aggregate(**{count: t.count()})
        return counted.filter(counted[count] > 1).limit(1)

    twice = _query(engine, "upsert", repeated, plan)
    for batch in engine.batches(twice):
        (row,) = batch.data.to_pylist()
        times = row.pop(count)
        raise WriteError(f"the key {row} comes {times} times", where, "keep one row for each key: .distinct('key')")


def _key_range(engine: LocalEngine, keys: Memory, table: Table) -> Predicate:
    """Return what every row with one of the keys satisfies: the keys themselves if few, else their range."""
    parts: list[Predicate] = []
    for name in keys.schema.names:
        dtype = table.schema.field(name).type
        if keys.data.num_rows <= FEW_KEYS:
            values = [fit(value, dtype) for value in keys.data.column(name).to_pylist()]
            parts.append(Everything() if None in values else IsIn(name, frozenset(values)))
            continue
        bounds = _query(engine, "upsert", lambda t, name=name: t.aggregate(low=t[name].min(), high=t[name].max()), keys)
        (row,) = [row for batch in engine.batches(bounds) for row in batch.data.to_pylist()]
        low, high = fit(row["low"], dtype), fit(row["high"], dtype)
        if low is not None and high is not None and not pa.types.is_floating(dtype):
            parts += [Compare(name, ">=", low), Compare(name, "<=", high)]
    return conjunction(*parts)
