"""Access tokens for client credentials: from this server, and from another one that a client is told of."""

from __future__ import annotations

import base64
import json
import pickle
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import iceblink as ib
from iceblink.errors import CatalogError, IceblinkError, WriteError
from iceblink.lake.catalog import Catalog
from iceblink.rest.server import Server
from iceblink.rest.tokens import LIFE_S, Tokens
from integration.rest_client import Answer, Rest

WRITER, READER, STRANGER = "writer+0123456789/abcdef==", "reader-0123456789abcdef", "stranger-0123456789abcd"


@dataclass
class Clock:
    """What the server takes for the time [s]."""

    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server(tmp_path: Path, clock: Clock) -> Iterator[Server]:
    tokens = replace(Tokens.of([WRITER], [READER]), clock=clock)
    with Server(Catalog.embedded(tmp_path / "lake"), port=0, tokens=tokens) as running:
        yield running


def asked(url: str, **headers: str) -> Answer:
    """Ask for a token with the fields of a form, given as the body."""
    form = headers.pop("form")
    return Rest(url).ask("POST", "/oauth/tokens", form.encode(), **{"Content_Type": FORM, **headers})


FORM = "application/x-www-form-urlencoded"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"


def form(secret: str = WRITER, **fields: str) -> str:
    return urlencode({"grant_type": "client_credentials", "client_id": "me", "client_secret": secret, **fields})


def bearer(url: str, token: str) -> Rest:
    return Rest(url, {"Authorization": f"Bearer {token}"})


def test_a_lake_with_a_credential_gets_a_new_token_when_one_ends(server: Server, clock: Clock) -> None:
    with ib.connect(uri=server.url, credential=f"me:{WRITER}", scope="catalog") as lake:
        lake.write("n.t", [{"id": 1}], "create")
        clock.now += LIFE_S + 1
        lake.write("n.t", [{"id": 2}])
        stale = pickle.loads(pickle.dumps(lake.session.catalog))
        clock.now += LIFE_S + 1
        assert sorted(row["id"] for row in lake.table("n.t").to_pylist()) == [1, 2]
        assert stale.tables() == ["n.t"]
    with ib.connect(uri=server.url, credential=WRITER) as lake:  # PyIceberg sends no client id then
        assert lake.table("n.t").count() == 2


def test_a_credential_for_reading_changes_nothing(server: Server) -> None:
    with ib.connect(uri=server.url, credential=f"me:{WRITER}") as lake:
        lake.write("n.t", [{"id": 1}], "create")
    with ib.connect(uri=server.url, credential=f"me:{READER}") as lake:
        assert lake.table("n.t").count() == 1
        with pytest.raises(WriteError):
            lake.write("n.t", [{"id": 2}])
        assert lake.table("n.t").count() == 1


def test_the_newer_way_of_pyiceberg_sends_the_secret_in_a_header(server: Server) -> None:
    for secret, known in ((WRITER, True), (STRANGER, False)):
        place = {"client_id": "me", "client_secret": secret, "token_url": f"{server.url}/v1/oauth/tokens"}
        auth: dict[str, Any] = {"type": "oauth2", "oauth2": place}
        if known:
            assert ib.connect(uri=server.url, auth=auth).namespaces() == []
            continue
        with pytest.raises(CatalogError) as caught:
            ib.connect(uri=server.url, auth=auth)
        assert secret not in str(caught.value)


@pytest.mark.parametrize("credential", [f"me:{STRANGER}", STRANGER, f"{STRANGER}:{STRANGER}"])
def test_a_wrong_credential_is_told_and_not_repeated(server: Server, credential: str) -> None:
    with pytest.raises(CatalogError, match="invalid_client") as caught:
        ib.connect(uri=server.url, credential=credential)
    assert STRANGER not in f"{caught.value} {caught.value!r}"


# by hand


def test_an_access_token_may_what_its_secret_may_until_it_ends(server: Server, clock: Clock) -> None:
    answer = asked(server.url, form=form(scope="catalog"))
    assert (answer.status, answer.headers["cache-control"]) == (200, "no-store")
    assert (answer.body["token_type"], answer.body["expires_in"]) == ("bearer", LIFE_S)
    token, reading = answer.body["access_token"], asked(server.url, form=form(READER)).body["access_token"]
    assert WRITER not in token
    assert bearer(server.url, reading).ask("GET", "/namespaces").status == 200
    assert bearer(server.url, reading).ask("POST", "/namespaces", {"namespace": ["a"]}).status == 403
    assert bearer(server.url, token).ask("POST", "/namespaces", {"namespace": ["a"]}).status == 200
    end, _, signature = token.partition(".")
    for forged in (f"{int(end) + 1}.{signature}", f"{end}.{signature[:-1]}", f"{end}.", f".{signature}", f"{end}.ü"):
        assert bearer(server.url, forged).ask("GET", "/namespaces").status == 401
    assert asked(server.url, form=form(token)).status == 401  # it is no secret: or it would never end
    clock.now += LIFE_S
    assert bearer(server.url, token).ask("GET", "/namespaces").kind == "NotAuthorizedException"


def test_servers_with_the_same_secret_take_the_same_tokens(server: Server, tmp_path: Path, clock: Clock) -> None:
    token = asked(server.url, form=form()).body["access_token"]
    for secrets, status in (([WRITER], 200), ([STRANGER], 401)):
        tokens = replace(Tokens.of(secrets), clock=clock)
        with Server(Catalog.embedded(tmp_path / "lake"), port=0, tokens=tokens) as other:
            assert bearer(other.url, token).ask("GET", "/namespaces").status == status


@pytest.mark.parametrize(
    ("sent", "status", "error"),
    [
        (form(grant_type=EXCHANGE, subject_token="x"), 400, "unsupported_grant_type"),
        (form(grant_type="refresh_token"), 400, "unsupported_grant_type"),
        (f"client_secret={WRITER}", 400, "unsupported_grant_type"),
        (form(STRANGER), 401, "invalid_client"),
        ("grant_type=client_credentials", 401, "invalid_client"),
        (form() + "&grant_type=client_credentials", 400, "invalid_request"),
        (form() + "&a%FF=%FF", 400, "invalid_request"),
        (form() + "".join(f"&a{number}=1" for number in range(30)), 400, "invalid_request"),
    ],
)  # fmt: skip
def test_what_is_no_request_for_a_token_is_refused_as_oauth_says(
    server: Server, sent: str, status: int, error: str
) -> None:
    answer = asked(server.url, form=sent)
    assert (answer.status, answer.body["error"]) == (status, error)
    assert set(answer.body) == {"error", "error_description"}
    assert not [secret for secret in (WRITER, STRANGER) if secret in json.dumps(answer.body)]


def test_a_secret_in_a_header_is_read_encoded_or_not(server: Server) -> None:
    for sent, status in ((WRITER, 200), (WRITER.replace("+", "%2B"), 200), (STRANGER, 401), ("", 401)):
        header = base64.b64encode(f"me:{sent}".encode()).decode()
        answer = asked(server.url, form="grant_type=client_credentials", Authorization=f"Basic {header}")
        assert answer.status == status
    answer = asked(server.url, form="grant_type=client_credentials", Authorization="Basic *")
    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Basic")
    assert asked(server.url, form=json.dumps({}), Content_Type="application/json").status == 400


def test_a_server_without_tokens_says_that_none_are_needed(tmp_path: Path) -> None:
    with Server(Catalog.embedded(tmp_path), port=0) as open_to_all:
        assert asked(open_to_all.url, form=form()).body["error"] == "unauthorized_client"
        assert Rest(open_to_all.url).ask("GET", "/config").body["defaults"] == {}


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    fields=st.dictionaries(st.sampled_from(["grant_type", "client_secret", "scope"]) | st.text(), st.text(), max_size=9)
)
def test_no_form_that_lacks_the_secret_gets_a_token(server: Server, fields: dict[str, str]) -> None:
    encoded = urlencode({"grant_type": "client_credentials", **fields}, errors="surrogatepass")
    assert asked(server.url, form=encoded).body["error"] in ("invalid_client", "unsupported_grant_type")


# another server of tokens


@dataclass
class Issuer:
    """A server that gives out tokens one after the other, and keeps what it was asked."""

    tokens: list[str]
    forms: list[dict[str, list[str]]] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    known = Issuer([])

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent = self.rfile.read(int(self.headers["content-length"])).decode()
            known.forms.append(parse_qs(sent))
            if known.tokens:
                body = {"access_token": known.tokens.pop(0), "token_type": "bearer", "expires_in": 3600}
            else:
                body = {"error": "invalid_grant", "error_description": "the credential was withdrawn"}
            content = json.dumps(body).encode()
            self.send_response(200 if "access_token" in body else 400)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = Thread(target=running.serve_forever)
        thread.start()
        known.url = f"http://127.0.0.1:{running.server_port}/oauth2/token"
        yield known
        running.shutdown()
        thread.join()


def test_tokens_of_another_server_are_asked_for_as_the_client_says(
    server: Server, issuer: Issuer, clock: Clock
) -> None:
    first, second = (asked(server.url, form=form()).body["access_token"] for _ in range(2))
    issuer.tokens += [first] * 2
    told: dict[str, Any] = {
        "oauth2-server-uri": issuer.url,
        "scope": "lake:write",
        "audience": "iceberg",
        "resource": "urn:lake",
    }
    lake = ib.connect(uri=server.url, credential="robot:sesame-open", **told)
    lake.write("n.t", [{"id": 1}], "create")
    asked_for = {"client_id": ["robot"], "client_secret": ["sesame-open"], "grant_type": ["client_credentials"]}
    assert issuer.forms[0] == {**asked_for, "scope": ["lake:write"], "audience": ["iceberg"], "resource": ["urn:lake"]}
    clock.now += LIFE_S + 1
    issuer.tokens.append(asked(server.url, form=form()).body["access_token"])
    lake.write("n.t", [{"id": 2}])
    assert lake.table("n.t").count() == 2
    clock.now += LIFE_S + 1  # and now the credential is withdrawn
    seen = []
    for call in (lake.tables, lambda: lake.table("n.t"), lambda: lake.write("n.t", [{"id": 3}])):
        with pytest.raises(IceblinkError) as caught:
            call()
        seen.append(f"{caught.value} {caught.value!r}")
    assert not [secret for secret in ("sesame", first, second) if secret in str(seen)]
    assert all("invalid_grant" in one for one in seen)
