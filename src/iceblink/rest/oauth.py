"""Access tokens for client credentials, where clients of REST catalogs ask for them if they are told of no other place.

The specification warns of catalogs that stand in for an identity provider; here the secret is a token of the server's
own file, and the client id a name that nobody looks at.

References
----------
.. [1] RFC 6749, "The OAuth 2.0 Authorization Framework", sections 2.3.1, 4.4 and 5.
.. [2] Iceberg REST catalog, open-api/rest-catalog-open-api.yaml, ``getToken``.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from urllib.parse import unquote

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from iceblink.lake.served.refusal import Refusal
from iceblink.rest.guard import Guard
from iceblink.rest.tokens import LIFE_S

TOKENS = APIRouter()

TOLD = {"token-exchange-enabled": "false"}
"""What clients are told where there are tokens: to come with their secret again when an access token ends."""

ISSUED = "urn:ietf:params:oauth:token-type:access_token"


@TOKENS.post("/oauth/tokens")
async def access_token(request: Request) -> Response:
    """Answer 200 with an access token; 401 for a wrong secret, 400 for what is no request for one."""
    guard: Guard = request.app.state.guard
    try:
        form = await guard.form(request)
    except Refusal as refusal:
        return _refused("invalid_request", refusal.message)
    if form.get("grant_type") != "client_credentials":
        return _refused("unsupported_grant_type", "only client_credentials: tokens are not exchanged here")
    if guard.tokens is None:
        return _refused("unauthorized_client", "this server asks for no credentials: connect without")
    token = guard.tokens.access(_secret(request, form))
    if token is None:
        return _refused("invalid_client", "the client secret must be a token that this server knows", 401)
    answer = {"access_token": token, "token_type": "bearer", "expires_in": LIFE_S, "issued_token_type": ISSUED}
    return JSONResponse(answer, headers={"Cache-Control": "no-store"})


def _secret(request: Request, form: Mapping[str, str]) -> str:
    """Return the client secret, of the form or of the header; empty if there is none."""
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    if "client_secret" in form or scheme.lower() != "basic":
        return form.get("client_secret", "")
    try:
        decoded = base64.b64decode(credentials, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""
    return unquote(decoded.partition(":")[2])  # no token has a %: where it was not encoded, this changes nothing


def _refused(error: str, description: str, status: int = 400) -> Response:
    headers = {"Cache-Control": "no-store"} | ({"WWW-Authenticate": "Basic"} if status == 401 else {})
    return JSONResponse({"error": error, "error_description": description}, status, headers)
