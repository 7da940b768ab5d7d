"""The files of a table version, asked of a REST catalog that plans scans: no manifest is read here.

It is asked where the property ``scan-planning-mode`` is ``server``, PyIceberg's own word, and the catalog lists the
operation among its endpoints.

References
----------
.. [1] Iceberg REST catalog, open-api/rest-catalog-open-api.yaml, ``planTableScan`` and ``fetchScanTasks``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyiceberg import exceptions as refused
from pyiceberg.expressions import (
    AlwaysFalse,
    AlwaysTrue,
    And,
    BooleanExpression,
    BoundLiteralPredicate,
    BoundPredicate,
    BoundSetPredicate,
    Or,
    UnboundPredicate,
)
from pyiceberg.expressions.visitors import bind
from pyiceberg.partitioning import PartitionField
from pyiceberg.schema import Schema
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import IcebergType

from iceblink.errors import CatalogError, ColumnNotFound, PlanError
from iceblink.lake.entries import DeleteFile, FileEntry
from iceblink.lake.expressions import to_iceberg
from iceblink.lake.json_values import from_json, to_json
from iceblink.lake.late import iceberg_rest
from iceblink.lake.values import Inexpressible
from iceblink.predicate import Predicate, columns

if TYPE_CHECKING:
    from iceblink.lake.table import Table

MODE = "scan-planning-mode"

Json = dict[str, Any]


def served_files(table: Table, predicate: Predicate, bounds: Collection[str] = ()) -> Iterator[FileEntry] | None:
    """Return the files that may hold rows for which `predicate` is true, as the catalog plans them.

    Pages are asked for as the iterator proceeds; the first one at once.

    Parameters
    ----------
    table : Table
    predicate : Predicate
    bounds : collection of str
        Columns to tell statistics of, besides those in `predicate`.

    Returns
    -------
    iterator of FileEntry or None
        None where the files are to be found here: the catalog does not plan, is not to, or not this scan, or does not
        answer at once. So are those of a version whose schema is not its snapshot's: a filter has names, and in the
        newest schema, as the catalog has it, they may be those of other columns by now.

    Raises
    ------
    ColumnNotFound
    CatalogError
        It refused, planned in vain, or answered what is no plan.
    """
    snapshot = table.snapshot
    if snapshot is None or table.catalog.properties.get(MODE) != "server" or snapshot.schema_id != table.schema_id:
        return None
    opened: Any = table.catalog.pyiceberg
    if not opened.supports_server_side_planning():
        return None
    names, known = sorted(columns(predicate) | set(bounds)), [field.name for field in table.iceberg_schema.fields]
    for name in names:
        if name not in known:
            raise ColumnNotFound.of(name, known)
    asked = to_iceberg(predicate, table.iceberg_schema)
    body: Json = {"snapshot-id": snapshot.snapshot_id, "stats-fields": names, "use-snapshot-schema": True}
    if asked != AlwaysTrue():
        body["filter"] = filter_json(asked, table.iceberg_schema)
    server = _Server(opened, table)
    plan = server.ask(iceberg_rest.Endpoints.plan_table_scan, body)
    if plan is None or plan.get("status") == "submitted":
        return None
    if plan.get("status") != "completed":
        error = plan.get("error")
        said = error.get("message") if isinstance(error, dict) else plan.get("status")
        raise CatalogError(f"the catalog did not plan the scan: {said}", *server.where)
    return _entries(server, plan, _Reader(table, names))


@dataclass(frozen=True)
class _Server:
    """What is asked of one table."""

    catalog: Any
    table: Table

    @property
    def where(self) -> tuple[str, str]:
        hint = f"read its manifests instead: connect without {MODE}"
        return f"table {self.table.name}, snapshot {self.table.snapshot_id}", hint

    def ask(self, endpoint: str, body: Json) -> Json | None:
        """Return the answer to a request, or None where the server says that it cannot do this (406, 501)."""
        with self.table.catalog._speaking(self.table.name):
            answer = self._sent(endpoint, body)
            if answer.status_code in (401, 419):  # its token is over, and PyIceberg gets a new one when it asks
                self.catalog.table_exists(self.table.pyiceberg.name())
                answer = self._sent(endpoint, body)
            if answer.status_code in (406, 501):
                return None
            found = _parsed(answer)
            if not answer.ok:
                error = found.get("error")
                said = error.get("message") if isinstance(error, dict) else answer.reason
                raise refused.RESTError(f"{said} ({answer.status_code})")
            return found

    def _sent(self, endpoint: str, body: Json) -> Any:
        names = self.catalog._split_identifier_for_path(self.table.pyiceberg.name())
        return self.catalog._session.post(self.catalog.url(endpoint, prefixed=True, **names), json=body)


def _parsed(answer: Any) -> Json:
    try:
        found = answer.json()
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {}


def _entries(server: _Server, plan: Json, reader: _Reader) -> Iterator[FileEntry]:
    """Yield the files of a plan, and of the plan tasks that it names, in their order."""
    pages: deque[Json | str] = deque([plan])
    while pages:
        page = pages.popleft()
        if isinstance(page, str):
            found = server.ask(iceberg_rest.Endpoints.fetch_scan_tasks, {"plan-task": page})
            if found is None:
                raise CatalogError("the catalog does not give the files that it planned", *server.where)
            page = found
        try:
            yield from reader.entries(page)
            pages.extendleft(str(one) for one in reversed(page.get("plan-tasks") or ()))
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, Inexpressible) as error:
            raise CatalogError(f"what the catalog planned cannot be read: {error!r}", *server.where) from None


class _Reader:
    """Makes entries of what a server says of files."""

    def __init__(self, table: Table, statistics: Collection[str]) -> None:
        schema = table.iceberg_schema
        self._table = table.name
        self._specs = {
            spec_id: [
                (
                    part.name,
                    part.field_type,
                    field.source_id if isinstance(field.transform, IdentityTransform) else None,
                )
                for part, field in zip(spec.partition_type(schema).fields, spec.fields, strict=True)
            ]
            for spec_id, spec in table.pyiceberg.specs().items()
        }
        self._kinds = {schema.find_field(name).field_id: schema.find_field(name).field_type for name in statistics}

    def entries(self, page: Json) -> Iterator[FileEntry]:
        deletes = [_delete(one) for one in page.get("delete-files") or ()]
        for task in page.get("file-scan-tasks") or ():
            yield self._entry(task["data-file"], [deletes[place] for place in task.get("delete-file-references") or ()])

    def _entry(self, file: Json, deletes: Sequence[DeleteFile]) -> FileEntry:
        path, spec_id = file["file-path"], file["spec-id"]
        if file["file-format"].upper() != "PARQUET":
            raise PlanError(
                f"a data file is {file['file-format'].upper()}, only Parquet can be read",
                f"table {self._table}, file {path}",
                "rewrite the table as Parquet with the engine that made it",
            )
        partition: dict[str, object] = {}
        identity: dict[int, object] = {}
        for (name, kind, source), value in zip(self._specs[spec_id], file["partition"], strict=True):
            with suppress(Inexpressible):
                partition[name] = None if value is None else from_json(kind, value)
                if source is not None:
                    identity[source] = partition[name]
        return FileEntry(
            path=path,
            file_bytes=int(file["file-size-in-bytes"]),
            rows=int(file["record-count"]),
            spec_id=spec_id,
            partition=partition,
            identity=identity,
            column_bytes=_mapping(file.get("column-sizes")),
            null_counts=_mapping(file.get("null-value-counts")),
            lower=self._bounds(file.get("lower-bounds")),
            upper=self._bounds(file.get("upper-bounds")),
            deletes=tuple(deletes),
        )

    def _bounds(self, told: Any) -> dict[int, object]:
        found: dict[int, object] = {}
        for field_id, value in _mapping(told).items():
            with suppress(Inexpressible):
                if field_id in self._kinds:
                    found[field_id] = from_json(self._kinds[field_id], value)
        return found


def _identity_of(field: PartitionField) -> int | None:
    return field.source_id if isinstance(field.transform, IdentityTransform) else None


def _mapping(told: Any) -> Mapping[int, Any]:
    return {} if not told else dict(zip(told["keys"], told["values"], strict=True))


def _delete(file: Json) -> DeleteFile:
    path, size = file["file-path"], int(file["file-size-in-bytes"])
    if file["content"] == "equality-deletes":
        return DeleteFile("equality", path, size, tuple(file["equality-ids"]))
    if file.get("content-offset") is not None:
        offset, length = int(file["content-offset"]), int(file["content-size-in-bytes"])
        return DeleteFile("vector", path, size, offset=offset, length=length)
    return DeleteFile("position", path, size)


_WORDS = {
    "IsNull": "is-null",
    "NotNull": "not-null",
    "IsNaN": "is-nan",
    "NotNaN": "not-nan",
    "LessThan": "lt",
    "LessThanOrEqual": "lt-eq",
    "GreaterThan": "gt",
    "GreaterThanOrEqual": "gt-eq",
    "EqualTo": "eq",
    "NotEqualTo": "not-eq",
    "StartsWith": "starts-with",
    "In": "in",
}
"""What `expressions.to_iceberg` is made of, in the specification's words."""


def filter_json(asked: BooleanExpression, schema: Schema) -> Any:
    """Return an expression as the specification has it, literals in the form of their column's type.

    Parameters
    ----------
    asked : BooleanExpression
        What `expressions.to_iceberg` returns.
    schema : Schema
        That it binds to.
    """
    match asked:
        case AlwaysTrue() | AlwaysFalse():
            return isinstance(asked, AlwaysTrue)
        case And() | Or():
            word = "and" if isinstance(asked, And) else "or"
            return {"type": word, "left": filter_json(asked.left, schema), "right": filter_json(asked.right, schema)}
        case UnboundPredicate():
            return _leaf(bind(schema, asked, case_sensitive=True))
    raise AssertionError(f"{asked!r} is none of those that `to_iceberg` makes")


def _leaf(bound: BooleanExpression) -> Any:
    """Return what is asked of one column; what a literal out of its type's range decides is true, or false."""
    if not isinstance(bound, BoundPredicate):
        return isinstance(bound, AlwaysTrue)
    field = bound.term.ref().field
    shown: Json = {"type": _WORDS[bound.as_unbound.__name__], "term": field.name}
    kind: IcebergType = field.field_type
    try:
        if isinstance(bound, BoundSetPredicate):
            shown["values"] = [to_json(kind, literal.value) for literal in bound.literals]
        elif isinstance(bound, BoundLiteralPredicate):
            shown["value"] = to_json(kind, bound.literal.value)
    except Inexpressible:
        return True
    return shown
