"""What ``DESCRIBE`` and ``SHOW`` answer: small rows of what the catalog and the metadata say."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from iceblink.errors import TableNotFound
from iceblink.lake.format_version import DEFAULT, PROPERTY
from iceblink.lake.late import views
from iceblink.lake.schemas import NAME_MAPPING
from iceblink.lake.table import Table
from iceblink.lake.tensors import PROPERTY as TENSOR
from iceblink.plan.nodes import Memory, Plan, Scan
from iceblink.plan.statements.column_types import DOC, quoted, show_column, text
from iceblink.plan.statements.kinds import Describe, ShowNamespaces, ShowTables, ShowViews
from iceblink.run.outcome import rows
from iceblink.run.session import Session
from iceblink.types import show_type

if TYPE_CHECKING:
    from iceblink.lake.views import View

_COLUMNS = pa.schema({"column": pa.string(), "type": pa.string(), "nullable": pa.bool_(), "comment": pa.string()})
_PROPERTIES = pa.schema({"key": pa.string(), "value": pa.string()})


def described(session: Session, asked: Describe) -> Memory:
    """Return the columns of a table, view or query: name, type in Iceberg's words, whether it may be null, comment.

    Extended, what else is known of a table comes behind its columns, the value in the place of the type.
    """
    if asked.query is not None:
        plan: Plan = session.sql(asked.query)
    else:
        plan = session.at(asked.name or "", asked.version)
    found = [
        {
            "column": one.name,
            "type": show_type(one.type),
            "nullable": one.nullable,
            "comment": (one.metadata or {}).get(DOC, b"").decode() or None,
        }
        for one in plan.schema
    ]
    if asked.extended and isinstance(plan, Scan):
        found += [{"column": name, "type": value} for name, value in _details(plan.table)]
    return rows(found, _COLUMNS, "describe")


def _details(table: Table) -> list[tuple[str, str | None]]:
    """Return what ``DESCRIBE EXTENDED`` says of a table, under Spark's headings."""
    snapshot = None if table.snapshot_id is None else str(table.snapshot_id)
    return [
        ("# Detailed Table Information", None),
        ("Name", table.name),
        ("Location", table.location),
        ("UUID", table.uuid),
        ("Format version", table.format_version),
        ("Snapshot", snapshot),
        ("Partitioning", ", ".join(table.partition_by) or None),
        ("Sort order", ", ".join(table.sort_by) or None),
        ("Data files", None if table.file_count is None else str(table.file_count)),
        ("Rows", None if table.row_count is None else str(table.row_count)),
        *(("Property " + key, value) for key, value in sorted(table.properties.items())),
    ]


def shown_views(session: Session, asked: ShowViews) -> Memory:
    """Return the full names of views."""
    catalog = session.catalog
    inside = catalog.namespaces()
    if asked.namespace is not None:
        others = {f"{asked.namespace}."} if asked.namespace in catalog.others else set()
        own = [name for name in inside if name == asked.namespace or any(map(name.startswith, others))]
        inside = own or [asked.namespace]
    return _names("view", [view for name in inside for view in views.view_names(catalog, name)], asked.pattern)


def shown_place(session: Session) -> Memory:
    """Return what ``USE`` has set: catalog and namespace, null for none."""
    found = {"catalog": session.place.catalog or None, "namespace": session.place.namespace or None}
    return rows([found], pa.schema(dict.fromkeys(found, pa.string())), "show")


def shown_tables(session: Session, asked: ShowTables) -> Memory:
    """Return the full names of tables."""
    return _names("table", session.catalog.tables(asked.namespace), asked.pattern)


def shown_namespaces(session: Session, asked: ShowNamespaces) -> Memory:
    """Return the names of namespaces."""
    names = session.catalog.namespaces()
    if asked.inside is not None:
        names = [name for name in names if name.startswith(f"{asked.inside}.")]
    return _names("namespace", names, asked.pattern)


def _names(column: str, names: Iterable[str], pattern: str | None) -> Memory:
    if pattern is not None:
        # SQL's pattern, and Hive's star, on the last name
        parts = {"%": ".*", "*": ".*", "_": "."}
        like = re.compile("".join(parts.get(sign, re.escape(sign)) for sign in pattern), re.IGNORECASE)
        names = [name for name in names if like.fullmatch(name.rpartition(".")[2])]
    return rows([{column: name} for name in names], pa.schema({column: pa.string()}), "show")


def shown_properties(table: Table, key: str | None) -> Memory:
    """Return table properties, sorted by key."""
    found = sorted(table.properties.items())
    return rows([{"key": one, "value": value} for one, value in found if key in (None, one)], _PROPERTIES, "show")


def shown_create(session: Session, name: str) -> Memory:
    """Return the statement that makes a table like this one: the same columns, partitioning, order and properties.

    Of a view it is the one that makes the view.
    """
    try:
        said = create_statement(session.catalog.load(name))
    except TableNotFound:
        view = views.find_view(session.catalog, name)
        if view is None:
            raise
        said = _create_view(view)
    return rows([{"create_table": said}], pa.schema({"create_table": pa.string()}), "show")


def _create_view(view: View) -> str:
    docs = [(one.metadata or {}).get(DOC, b"").decode() for one in view.schema]
    said = f"CREATE VIEW {'.'.join(quoted(part) for part in view.name.split('.'))}"
    if any(docs):
        columns = [
            quoted(one.name) + (f" COMMENT {text(doc)}" if doc else "")
            for one, doc in zip(view.schema, docs, strict=True)
        ]
        said += f" ({', '.join(columns)})"
    properties = dict(view.properties)
    if "comment" in properties:
        said += f"\nCOMMENT {text(properties.pop('comment'))}"
    if properties:
        said += f"\nTBLPROPERTIES ({_settings(properties)})"
    return f"{said}\nAS {view.sql}"


def _settings(properties: Mapping[str, str]) -> str:
    lines = ",\n".join(f"  {text(key)} = {text(value)}" for key, value in sorted(properties.items()))
    return f"\n{lines}\n"


def create_statement(table: Table) -> str:
    """Write ``CREATE TABLE``, as `plan.statements` reads it."""
    names = table.schema.names
    lines = [f"CREATE TABLE {'.'.join(quoted(part) for part in table.name.split('.'))} ("]
    lines += [",\n".join(f"  {show_column(one)}" for one in table.schema), ")"]
    if table.partition_by:
        lines.append(f"PARTITIONED BY ({', '.join(_partition(word, names) for word in table.partition_by)})")
    if table.sort_by:
        lines.append(f"WRITE ORDERED BY {', '.join(_sort(word, names) for word in table.sort_by)}")
    properties = {key: value for key, value in table.properties.items() if not _of_field_ids(key)}
    if table.format_version != DEFAULT:
        properties[PROPERTY] = table.format_version
    if "comment" in properties:
        lines.append(f"COMMENT {text(properties.pop('comment'))}")
    if properties:
        lines.append(f"TBLPROPERTIES ({_settings(properties)})")
    return "\n".join(lines)


_TRANSFORM = re.compile(r"(bucket|truncate|year|month|day|hour)\((?:(\d+), )?(.*)\)", re.DOTALL)
_SORT = re.compile(r"(.*?)( desc)?( nulls first| nulls last)?", re.DOTALL)


def _partition(word: str, names: Sequence[str]) -> str:
    found = None if word in names else _TRANSFORM.fullmatch(word)
    if found is None:
        return _dotted(word, names)
    return f"{found[1]}({f'{found[2]}, ' if found[2] else ''}{_dotted(found[3], names)})"


def _sort(word: str, names: Sequence[str]) -> str:
    found = _SORT.fullmatch(word)
    assert found is not None  # every part of the pattern may be empty
    return _dotted(found[1], names) + (found[2] or "").upper() + (found[3] or "").upper()


def _dotted(name: str, names: Sequence[str]) -> str:
    return quoted(name) if name in names else ".".join(quoted(part) for part in name.split("."))


def _of_field_ids(key: str) -> bool:
    """Whether a property speaks of field ids, which another table has others of; it is made with the table."""
    return key.startswith(TENSOR) or key == NAME_MAPPING
