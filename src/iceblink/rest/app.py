"""The application: its routes behind a guard, and the one form that every error has."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from iceblink.errors import IceblinkError
from iceblink.lake.served.catalog import ServedCatalog
from iceblink.lake.served.refusal import Refusal
from iceblink.rest.guard import Guard, has_encoded_slash
from iceblink.rest.oauth import TOKENS
from iceblink.rest.routes import READING, WRITING


def make_app(catalog: ServedCatalog, guard: Guard) -> FastAPI:
    """Return the ASGI application that answers from `catalog` whom `guard` lets in."""
    app = FastAPI(openapi_url=None, redirect_slashes=False)
    app.state.catalog, app.state.guard = catalog, guard
    app.include_router(TOKENS, prefix="/v1")
    app.include_router(READING, prefix="/v1", dependencies=[Depends(guard.reads)])
    app.include_router(WRITING, prefix="/v1", dependencies=[Depends(guard.writes)])
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(IceblinkError, _mistaken)
    app.add_exception_handler(RequestValidationError, _unreadable)
    app.add_exception_handler(HTTPStatus.NOT_FOUND, _no_route)
    app.add_exception_handler(HTTPStatus.METHOD_NOT_ALLOWED, _no_route)
    app.add_exception_handler(Exception, _failed)
    return app


def _answer(refusal: Refusal) -> JSONResponse:
    error = {"message": refusal.message, "type": refusal.kind, "code": refusal.status}
    headers = {"WWW-Authenticate": "Bearer"} if refusal.status == HTTPStatus.UNAUTHORIZED else {}
    return JSONResponse({"error": error}, refusal.status, headers)


async def _refused(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Refusal)
    return _answer(error)


async def _mistaken(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, IceblinkError)
    return _answer(Refusal.bad(error.what))


async def _unreadable(_: Request, error: Exception) -> JSONResponse:
    return _answer(Refusal.bad("a parameter of the request cannot be read"))


async def _no_route(request: Request, error: Exception) -> JSONResponse:
    if has_encoded_slash(request):
        return _answer(Refusal.bad("names have no slashes"))
    status = getattr(error, "status_code", HTTPStatus.NOT_FOUND)
    return _answer(Refusal(status, "NoSuchEndpointException", f"no {request.method} of this path"))


async def _failed(_: Request, error: Exception) -> JSONResponse:
    """Say nothing of it to the client; the traceback is on the server's stderr."""
    return _answer(Refusal.broken("the server met a bug of its own, and has told its operator"))
