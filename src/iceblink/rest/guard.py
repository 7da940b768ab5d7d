"""What a request must be before anything is done for it."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from fastapi import Request

from iceblink.lake.served.refusal import Refusal
from iceblink.rest.tokens import Tokens

BODY_LIMIT_BYTES = 16 * 2**20
"""Of a request: a commit has a few kilobytes, a schema of thousands of columns about one megabyte."""

FIELDS = 20
"""Of a form: a request for a token has seven at most."""

READ_ON = 4
"""Up to so many times the limit is read and thrown away: whoever still sends when he is answered may never see it."""


@dataclass(frozen=True)
class Guard:
    """Lets a request in, or raises a `Refusal`.

    Parameters
    ----------
    tokens : Tokens or None
        Who may ask; None for everybody on this machine.
    hosts : collection of str
        By which names a server without tokens may be called: a web page that calls it by another name, which it made
        lead here, would ask in the name of whoever looks at the page.
    body_limit_bytes : int
    """

    tokens: Tokens | None
    hosts: Collection[str]
    body_limit_bytes: int

    async def reads(self, request: Request) -> None:
        """Let in who may look."""
        if has_encoded_slash(request):
            raise Refusal.bad("names have no slashes")
        if self.tokens is None:
            self._check_caller(request)
        elif not self.tokens.may_read(_bearer(request)):
            raise Refusal.unknown_token()

    async def writes(self, request: Request) -> None:
        """Let in who may change things."""
        await self.reads(request)
        if self.tokens is not None and not self.tokens.may_write(_bearer(request)):
            raise Refusal.forbidden("this token may only read")

    def _check_caller(self, request: Request) -> None:
        host = request.headers.get("host", "")
        if host.rpartition(":")[0] not in self.hosts and host not in self.hosts:
            raise Refusal.forbidden("without tokens this server answers only to calls by localhost")

    async def body(self, request: Request) -> dict[str, Any]:
        """Return the JSON object that a request carries.

        Raises
        ------
        Refusal
            413: it is too large. 400: it is no JSON object, or is not said to be one, as what a web page sends unasked.
        """
        content = await self._content(request, "application/json")
        try:
            value = json.loads(content.decode(), parse_constant=_no_constant)
            json.dumps(value, ensure_ascii=False).encode()  # lone surrogates could not be written anywhere
        except (ValueError, RecursionError):
            raise Refusal.bad("the body is no JSON") from None
        if not isinstance(value, dict):
            raise Refusal.bad("the body must be a JSON object")
        return value

    async def form(self, request: Request) -> dict[str, str]:
        """Return the fields of the form that a request carries.

        Raises
        ------
        Refusal
            413: it is too large. 400: it is no form, or has a field twice.
        """
        content = await self._content(request, "application/x-www-form-urlencoded")
        try:
            fields = parse_qsl(content.decode("ascii"), errors="strict", max_num_fields=FIELDS)
        except ValueError:
            raise Refusal.bad("the body is no form") from None
        if len(dict(fields)) < len(fields):
            raise Refusal.bad("a field of the form is there twice")
        return dict(fields)

    async def _content(self, request: Request, wanted: str) -> bytes:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != wanted:
            raise Refusal.bad(f"a body must be of content type {wanted}")
        content, size = bytearray(), 0
        async for part in request.stream():
            size += len(part)
            if size <= self.body_limit_bytes:
                content += part
            elif size > READ_ON * self.body_limit_bytes:
                break
        if size > self.body_limit_bytes:
            raise Refusal.too_large(self.body_limit_bytes)
        return bytes(content)


def has_encoded_slash(request: Request) -> bool:
    """Tell whether a path has a slash inside of a name: decoded, as routes see it, it would make another path of it."""
    return b"%2f" in request.scope.get("raw_path", b"").lower()


def _bearer(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
