"""The operations of an Iceberg REST catalog: what is in a path and a body, one call, and what comes of it as JSON.

References
----------
.. [1] Iceberg REST catalog, open-api/rest-catalog-open-api.yaml; https://iceberg.apache.org/rest-catalog-spec/
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute

from iceblink.lake.listing import Key
from iceblink.lake.served.catalog import ServedCatalog
from iceblink.lake.served.names import checked_key, checked_namespace
from iceblink.lake.served.refusal import Refusal
from iceblink.lake.served.tables import Snapshots, etag
from iceblink.rest import oauth
from iceblink.rest.pages import page

READING = APIRouter()
"""What changes nothing; a metrics report is thrown away."""
WRITING = APIRouter()

SEPARATOR = "\x1f"  # between the levels of a namespace in a path
DONE = 204


async def _catalog(request: Request) -> ServedCatalog:
    catalog: ServedCatalog = request.app.state.catalog
    return catalog


async def _body(request: Request) -> dict[str, Any]:
    body: dict[str, Any] = await request.app.state.guard.body(request)
    return body


async def _levels(namespace: str) -> tuple[str, ...]:
    return checked_namespace(namespace.split(SEPARATOR))


async def _table(namespace: str, table: str) -> Key:
    return checked_key(namespace.split(SEPARATOR), table)


async def _view(namespace: str, view: str) -> Key:
    return checked_key(namespace.split(SEPARATOR), view)


Catalog = Annotated[ServedCatalog, Depends(_catalog)]
Body = Annotated[dict[str, Any], Depends(_body)]
Levels = Annotated[tuple[str, ...], Depends(_levels)]
TableKey = Annotated[Key, Depends(_table)]
ViewKey = Annotated[Key, Depends(_view)]
PageToken = Annotated[str | None, Query(alias="pageToken")]
PageSize = Annotated[str | None, Query(alias="pageSize")]


@READING.get("/config")
def config(request: Request, catalog: Catalog) -> Response:
    """One server has one catalog, by whatever ``warehouse`` it is asked for."""
    endpoints = [
        f"{method} /v1/{{prefix}}{route.path}"
        for router in (READING, WRITING)
        for route in router.routes
        if isinstance(route, APIRoute) and route.path != "/config"
        for method in sorted(route.methods or ())
    ]
    told = catalog.told() | ({} if request.app.state.guard.tokens is None else oauth.TOLD)
    return JSONResponse({"defaults": told, "overrides": {}, "endpoints": endpoints})


# namespaces


@READING.get("/namespaces")
def list_namespaces(
    catalog: Catalog, parent: str | None = None, token: PageToken = None, size: PageSize = None
) -> Response:
    found, following = page(catalog.namespaces(parent), token, size)
    return JSONResponse({"namespaces": found, "next-page-token": following})


@WRITING.post("/namespaces")
def create_namespace(catalog: Catalog, body: Body) -> Response:
    return JSONResponse(catalog.create_namespace(body))


@READING.get("/namespaces/{namespace}")
def load_namespace(catalog: Catalog, levels: Levels) -> Response:
    return JSONResponse(catalog.namespace(levels))


@READING.head("/namespaces/{namespace}")
def namespace_exists(catalog: Catalog, levels: Levels) -> Response:
    catalog.require_namespace(levels)
    return Response(status_code=DONE)


@WRITING.delete("/namespaces/{namespace}")
def drop_namespace(catalog: Catalog, levels: Levels) -> Response:
    catalog.drop_namespace(levels)
    return Response(status_code=DONE)


@WRITING.post("/namespaces/{namespace}/properties")
def update_properties(catalog: Catalog, levels: Levels, body: Body) -> Response:
    return JSONResponse(catalog.change_namespace(levels, body))


# tables


@READING.get("/namespaces/{namespace}/tables")
def list_tables(catalog: Catalog, levels: Levels, token: PageToken = None, size: PageSize = None) -> Response:
    return _identifiers(levels, catalog.tables.names(levels), token, size)


@WRITING.post("/namespaces/{namespace}/tables")
def create_table(catalog: Catalog, levels: Levels, body: Body) -> Response:
    return JSONResponse(catalog.tables.create(levels, body))


@WRITING.post("/namespaces/{namespace}/register")
def register_table(catalog: Catalog, levels: Levels, body: Body) -> Response:
    return JSONResponse(catalog.tables.register(levels, body))


@READING.get("/namespaces/{namespace}/tables/{table}")
def load_table(request: Request, catalog: Catalog, key: TableKey, snapshots: Snapshots = "all") -> Response:
    loaded = catalog.tables.load(key, snapshots)
    tag = etag(loaded["metadata-location"], snapshots)
    if tag in [one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(",")]:
        return Response(status_code=304, headers={"ETag": tag})
    return JSONResponse(loaded, headers={"ETag": tag})


@READING.head("/namespaces/{namespace}/tables/{table}")
def table_exists(catalog: Catalog, key: TableKey) -> Response:
    catalog.tables.require(key)
    return Response(status_code=DONE)


@WRITING.post("/namespaces/{namespace}/tables/{table}")
def commit_table(catalog: Catalog, key: TableKey, body: Body) -> Response:
    return JSONResponse(catalog.tables.commit(key, body))


@WRITING.delete("/namespaces/{namespace}/tables/{table}")
def drop_table(
    catalog: Catalog, key: TableKey, purge: Annotated[str, Query(alias="purgeRequested")] = "false"
) -> Response:
    if purge.lower() not in ("true", "false"):  # PyIceberg says False
        raise Refusal.bad("purgeRequested must be true or false")
    catalog.tables.drop(key, purge.lower() == "true")
    return Response(status_code=DONE)


@READING.post("/namespaces/{namespace}/tables/{table}/metrics")
def report_metrics(catalog: Catalog, key: TableKey, body: Body) -> Response:
    if not isinstance(body.get("report-type"), str):
        raise Refusal.bad("'report-type' must be a text")
    catalog.tables.require(key)
    return Response(status_code=DONE)


@READING.post("/namespaces/{namespace}/tables/{table}/plan")
def plan_scan(catalog: Catalog, key: TableKey, body: Body) -> Response:
    return JSONResponse(catalog.planning.plan(key, body))


@READING.post("/namespaces/{namespace}/tables/{table}/tasks")
def fetch_tasks(catalog: Catalog, key: TableKey, body: Body) -> Response:
    return JSONResponse(catalog.planning.tasks(key, body))


@WRITING.post("/tables/rename")
def rename_table(catalog: Catalog, body: Body) -> Response:
    catalog.tables.rename(_identified(body, "source"), _identified(body, "destination"))
    return Response(status_code=DONE)


@WRITING.post("/transactions/commit")
def commit_transaction(catalog: Catalog, body: Body) -> Response:
    catalog.tables.commit_all(body)
    return Response(status_code=DONE)


# views


@READING.get("/namespaces/{namespace}/views")
def list_views(catalog: Catalog, levels: Levels, token: PageToken = None, size: PageSize = None) -> Response:
    return _identifiers(levels, catalog.views.names(levels), token, size)


@WRITING.post("/namespaces/{namespace}/views")
def create_view(catalog: Catalog, levels: Levels, body: Body) -> Response:
    return JSONResponse(catalog.views.create(levels, body))


@WRITING.post("/namespaces/{namespace}/register-view")
def register_view(catalog: Catalog, levels: Levels, body: Body) -> Response:
    return JSONResponse(catalog.views.register(levels, body))


@READING.get("/namespaces/{namespace}/views/{view}")
def load_view(catalog: Catalog, key: ViewKey) -> Response:
    return JSONResponse(catalog.views.load(key))


@READING.head("/namespaces/{namespace}/views/{view}")
def view_exists(catalog: Catalog, key: ViewKey) -> Response:
    catalog.views.require(key)
    return Response(status_code=DONE)


@WRITING.post("/namespaces/{namespace}/views/{view}")
def replace_view(catalog: Catalog, key: ViewKey, body: Body) -> Response:
    return JSONResponse(catalog.views.replace(key, body))


@WRITING.delete("/namespaces/{namespace}/views/{view}")
def drop_view(catalog: Catalog, key: ViewKey) -> Response:
    catalog.views.drop(key)
    return Response(status_code=DONE)


@WRITING.post("/views/rename")
def rename_view(catalog: Catalog, body: Body) -> Response:
    catalog.views.rename(_identified(body, "source"), _identified(body, "destination"))
    return Response(status_code=DONE)


def _identifiers(levels: tuple[str, ...], names: list[str], token: str | None, size: str | None) -> Response:
    found, following = page(names, token, size)
    identifiers = [{"namespace": levels, "name": name} for name in found]
    return JSONResponse({"identifiers": identifiers, "next-page-token": following})


def _identified(body: dict[str, Any], name: str) -> Key:
    identifier = body.get(name)
    if not isinstance(identifier, dict):
        raise Refusal.bad(f"{name!r} must be an object")
    return checked_key(identifier.get("namespace"), identifier.get("name"))
