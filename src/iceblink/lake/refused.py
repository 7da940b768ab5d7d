"""What the clients behind catalogs may raise, each only if it was brought along; and what is a "no" that stays one."""

from __future__ import annotations

import sqlite3
import sys
from typing import Any

from pyiceberg.exceptions import (
    AuthorizationExpiredError,
    BadRequestError,
    ForbiddenError,
    OAuthError,
    UnauthorizedError,
)

_MAY_RAISE: dict[str, tuple[str, ...]] = {
    "sqlalchemy.exc": ("SQLAlchemyError",),
    "botocore.exceptions": ("BotoCoreError", "ClientError"),
    "thrift.Thrift": ("TException",),
    "requests.exceptions": ("HTTPError",),  # of a server that gives out tokens; a catalog's own are told by PyIceberg
}
_SAYS_NO: dict[str, tuple[str, ...]] = {"sqlalchemy.exc": ("ProgrammingError", "DataError", "NotSupportedError")}
_DUPLICATE: dict[str, tuple[str, ...]] = {"sqlalchemy.exc": ("IntegrityError",)}
_BUSY = {408, 425, 429}

REFUSED = (
    BadRequestError,
    ForbiddenError,
    UnauthorizedError,
    AuthorizationExpiredError,
    OAuthError,
    PermissionError,
)
"""A "no" of a REST catalog or of storage that stays one; of tokens, after a new one was asked for."""


def client_errors(*also: type[Exception]) -> tuple[type[Exception], ...]:
    """Return SQLite's own errors, those of each client that is loaded (no other could raise them), and `also`."""
    return (sqlite3.Error, *_loaded(_MAY_RAISE), *also)


def duplicate_errors() -> tuple[type[Exception], ...]:
    """Return those of a database that say that a key is there already."""
    return (sqlite3.IntegrityError, *_loaded(_DUPLICATE))


def is_refusal(error: BaseException | None) -> bool:
    """Whether a client's error is a "no" that stays one: a wrong key, a right that is lacking."""
    if isinstance(error, _loaded(_SAYS_NO)):
        return True
    answer: Any = getattr(error, "response", None)  # botocore's ClientError has a mapping here
    if isinstance(error, _loaded({"requests.exceptions": ("HTTPError",)})):
        return answer is not None and 400 <= answer.status_code < 500 and answer.status_code not in _BUSY
    if not isinstance(error, client_errors()) or not isinstance(answer, dict):
        return False
    status, code = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0), answer.get("Error", {}).get("Code", "")
    return 400 <= status < 500 and status not in _BUSY and "Throttl" not in code and "RequestLimit" not in code


def _loaded(names: dict[str, tuple[str, ...]]) -> tuple[type[Exception], ...]:
    modules = ((sys.modules.get(module), classes) for module, classes in names.items())
    return tuple(getattr(module, name) for module, classes in modules if module is not None for name in classes)
