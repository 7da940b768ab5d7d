"""A view is made of a query: its text, its columns, and where its tables are looked up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa

from iceblink.errors import SqlError
from iceblink.lake.late import views
from iceblink.plan.sql import QueryText, point_at_place
from iceblink.plan.statements.column_types import DOC, quoted
from iceblink.run.session import Session

if TYPE_CHECKING:
    from iceblink.lake.views import View


def created_view(
    session: Session,
    name: str,
    query: QueryText,
    columns: Sequence[tuple[str, str | None]] | None = None,
    properties: Mapping[str, str] | None = None,
) -> View:
    """Return a view that is yet to be kept; its query is checked, and nothing is read.

    Parameters
    ----------
    session : Session
    name : str
        In full.
    query : QueryText
    columns : sequence of (str, str or None), optional
        What its columns are called, in order, and comments on them. Default: as the query calls them.
    properties : mapping of str to str, optional

    Raises
    ------
    SqlError, TableNotFound, ColumnNotFound
        The query cannot be, names as few columns as that, or reads the view itself.
    """
    text = query.alone.strip().rstrip(";").rstrip()
    if columns is not None:
        text = f"SELECT * FROM (\n{text}\n) AS given({', '.join(quoted(column) for column, _ in columns)})"
    own, place = session.catalog.holding(name).prefix, session.place
    catalog = place.catalog if place.catalog != own else ""
    namespace = place.namespace if catalog or place.catalog == own else ""
    empty = pa.schema([])
    made = views.View(name, text, views.DIALECT, empty, catalog, namespace, dict(properties or {}))
    schema = session.view_query(made).schema
    if columns is not None and len(columns) != len(schema):
        where = point_at_place(query.text, query.start)
        raise SqlError(f"{len(columns)} names for {len(schema)} columns", where, "name every column, or none")
    comments = [comment for _, comment in columns] if columns is not None else [None] * len(schema)
    fields = [
        one.remove_metadata() if comment is None else one.with_metadata({DOC: comment})
        for one, comment in zip(schema, comments, strict=True)
    ]
    return replace(made, schema=pa.schema(fields))
