"""SQL text is answered: a query becomes a plan that is run when its rows are asked for, a statement runs at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import singledispatch
from typing import Any

import pyarrow as pa

from iceblink.errors import (
    CatalogError,
    NamespaceNotFound,
    SnapshotNotFound,
    SqlError,
    TableExists,
    TableNotFound,
    nearest,
)
from iceblink.lake.alteration import altered, without_missing, without_present
from iceblink.lake.format_version import check_types, version_asked
from iceblink.lake.late import views
from iceblink.lake.references import drop_reference, has_reference, set_reference
from iceblink.lake.truncation import truncated
from iceblink.plan.change_statements import CHANGES
from iceblink.plan.nodes import Memory, Plan
from iceblink.plan.sql import point_at_word
from iceblink.plan.statements import kinds
from iceblink.plan.statements.reading import READERS, leading_word, read
from iceblink.run.explain import explained
from iceblink.run.full_names import in_full
from iceblink.run.inserting import inserted
from iceblink.run.late import analysis, procedures
from iceblink.run.outcome import Written, outcome, replaced_files, rows, rows_in
from iceblink.run.row_changes import change_rows
from iceblink.run.session import Session
from iceblink.run.showing import (
    described,
    shown_create,
    shown_namespaces,
    shown_place,
    shown_properties,
    shown_tables,
    shown_views,
)
from iceblink.run.viewing import created_view
from iceblink.run.write import WriteOptions, write_rows


def answer(session: Session, text: str) -> Plan:
    """Return the plan of a query, lazy; or run a statement and return what it gives, rows in memory.

    Raises
    ------
    SqlError
        With the position, and what is supported.
    IceblinkError
        Whatever the query or the statement meets.
    """
    word = leading_word(text)
    if word and word not in ANSWERS and word not in QUERIES:
        hint = nearest(word, (*QUERIES, *ANSWERS), "first words")
        raise SqlError(f"{word} begins no query and no statement", point_at_word(text, word), hint)
    run = ANSWERS.get(word)
    return session.sql(text) if run is None else run(session, text)


def is_statement(text: str) -> bool:
    """Whether an SQL text is a statement, which runs at once, and no query."""
    return leading_word(text) in ANSWERS


def _answered(session: Session, text: str) -> Plan:
    return _run(in_full(session, read(text)), session)


def _changed(session: Session, text: str) -> Plan:
    change = session.change(text)
    return outcome(change.verb.upper(), change.target.table.name, change_rows(session, change))


ANSWERS: Mapping[str, Callable[[Session, str], Plan]] = {
    **dict.fromkeys(READERS, _answered),
    **dict.fromkeys(CHANGES, _changed),
}
"""What answers a text that is no query, by its first word."""

QUERIES = ("SELECT", "WITH", "FROM", "VALUES", "PIVOT", "UNPIVOT")
"""What a query begins with."""


@singledispatch
def _run(statement: kinds.Statement, session: Session) -> Plan:
    raise TypeError(f"nothing runs {type(statement).__name__}")


@_run.register
def _(statement: kinds.CreateTable, session: Session) -> Plan:
    catalog, name = session.catalog, statement.name
    said = "CREATE OR REPLACE TABLE" if statement.replace else "CREATE TABLE"
    shape: dict[str, Any] = {
        "partition_by": statement.partition_by,
        "sort_by": statement.sort_by,
        "properties": statement.properties,
    }
    if statement.if_not_exists and catalog.exists(name):
        return outcome(said, name)
    try:
        if statement.query is not None:
            made: Plan = session.sql(statement.query)
        else:
            assert statement.schema is not None  # it has one of the two
            check_types(statement.schema, version_asked(statement.properties))
            if not statement.replace:
                catalog.create(name, statement.schema, **shape)
                return outcome(said, name)
            made = Memory(statement.schema, statement.schema.empty_table())
        options = WriteOptions("replace" if statement.replace else "create", **shape)
        return outcome(said, name, write_rows(session, made, name, options))
    except TableExists:
        if statement.if_not_exists:  # made meanwhile
            return outcome(said, name)
        raise


@_run.register
def _(statement: kinds.DropTable, session: Session) -> Plan:
    try:
        session.catalog.drop(statement.name, purge=True if statement.purge else None)
    except TableNotFound:
        if not statement.if_exists:
            raise
    return outcome("DROP TABLE", statement.name)


@_run.register
def _(statement: kinds.CreateView, session: Session) -> Plan:
    made = created_view(session, statement.name, statement.query, statement.columns, statement.properties)
    try:
        views.create_view(session.catalog, made, statement.replace)
    except TableExists:
        if not statement.if_not_exists:
            raise
    return outcome("CREATE OR REPLACE VIEW" if statement.replace else "CREATE VIEW", statement.name)


@_run.register
def _(statement: kinds.DropView, session: Session) -> Plan:
    try:
        views.drop_view(session.catalog, statement.name)
    except TableNotFound:
        if not statement.if_exists:
            raise
    return outcome("DROP VIEW", statement.name)


@_run.register
def _(statement: kinds.TruncateTable, session: Session) -> Plan:
    table = session.target(statement.name)
    counts = replaced_files(rows_in(session.engine, table))
    return outcome("TRUNCATE TABLE", statement.name, Written(truncated(table), counts))


@_run.register
def _(statement: kinds.CreateNamespace, session: Session) -> Plan:
    if not statement.if_not_exists and statement.name in session.catalog.namespaces():
        raise CatalogError(
            f"there is a namespace {statement.name!r} already", repr(session.catalog), "write IF NOT EXISTS"
        )
    session.catalog.create_namespace(statement.name)
    return outcome("CREATE NAMESPACE", statement.name)


@_run.register
def _(statement: kinds.DropNamespace, session: Session) -> Plan:
    try:
        session.catalog.drop_namespace(statement.name)
    except NamespaceNotFound:
        if not statement.if_exists:
            raise
    return outcome("DROP NAMESPACE", statement.name)


@_run.register
def _(statement: kinds.AlterTable, session: Session) -> Plan:
    table, to = session.catalog.load(statement.name), statement.to
    if statement.if_exists:
        to = without_missing(table, to)
    if statement.if_not_exists:
        to = without_present(table, to)
    altered(table, to)
    return outcome("ALTER TABLE", statement.name)


@_run.register
def _(statement: kinds.RenameTable, session: Session) -> Plan:
    session.catalog.rename(statement.name, statement.new)
    return outcome("ALTER TABLE", statement.new)


@_run.register
def _(statement: kinds.SetReference, session: Session) -> Plan:
    table = session.catalog.load(statement.name)
    if not (statement.if_not_exists and has_reference(table, statement.kind, statement.reference)):
        set_reference(table, statement.kind, statement.reference, statement.version, statement.how, statement.retention)
    return outcome("ALTER TABLE", statement.name)


@_run.register
def _(statement: kinds.DropReference, session: Session) -> Plan:
    table = session.catalog.load(statement.name)
    try:
        drop_reference(table, statement.kind, statement.reference)
    except SnapshotNotFound:
        if not statement.if_exists:
            raise
    return outcome("ALTER TABLE", statement.name)


@_run.register
def _(statement: kinds.Insert, session: Session) -> Plan:
    said = "INSERT OVERWRITE" if statement.overwrite else "INSERT INTO"
    return outcome(said, statement.name, inserted(session, statement))


@_run.register
def _(statement: kinds.Analyze, session: Session) -> Plan:
    analysis.computed(session, statement.name, statement.columns)
    return outcome("ANALYZE TABLE", statement.name)


@_run.register
def _(statement: kinds.Describe, session: Session) -> Plan:
    return described(session, statement)


@_run.register
def _(statement: kinds.ShowTables, session: Session) -> Plan:
    return shown_tables(session, statement)


@_run.register
def _(statement: kinds.ShowViews, session: Session) -> Plan:
    return shown_views(session, statement)


@_run.register
def _(statement: kinds.ShowCurrent, session: Session) -> Plan:
    return shown_place(session)


@_run.register
def _(statement: kinds.Use, session: Session) -> Plan:
    return outcome("USE", session.use(statement.place))


@_run.register
def _(statement: kinds.Explain, session: Session) -> Plan:
    lines = explained(session.sql(statement.query), session.engine, statement.analyze).split("\n")
    return rows([{"plan": line} for line in lines], pa.schema({"plan": pa.string()}), "explain")


@_run.register
def _(statement: kinds.ShowNamespaces, session: Session) -> Plan:
    return shown_namespaces(session, statement)


@_run.register
def _(statement: kinds.ShowProperties, session: Session) -> Plan:
    return shown_properties(session.catalog.load(statement.name), statement.key)


@_run.register
def _(statement: kinds.ShowCreateTable, session: Session) -> Plan:
    return shown_create(session, statement.name)


@_run.register
def _(statement: kinds.Call, session: Session) -> Plan:
    return procedures.called(session, statement)
