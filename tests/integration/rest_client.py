"""Plain HTTP for a REST catalog: what no client library lets one send."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass, field
from email.message import Message
from typing import Any
from urllib.parse import urlsplit

SCHEMA = {"type": "struct", "fields": [{"id": 1, "name": "id", "type": "long", "required": True}]}


@dataclass
class Answer:
    """A status and what came with it."""

    status: int
    body: Any
    headers: Message

    @property
    def kind(self) -> str:
        """The type of the specification's ErrorModel, which an error must have whole."""
        assert set(self.body) == {"error"}
        assert set(self.body["error"]) == {"message", "type", "code"}
        assert self.body["error"]["code"] == self.status
        assert "Traceback" not in self.body["error"]["message"]
        return str(self.body["error"]["type"])


@dataclass
class Rest:
    """A server as raw requests see it."""

    url: str
    headers: dict[str, str] = field(default_factory=dict)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Send one request to `path` under /v1; a body of bytes goes as it is, others as JSON."""
        sent = {**self.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        if body is not None:
            sent.setdefault("Content-Type", "application/json")
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=60)
        try:
            connection.request(method, f"/v1{path}", body, sent)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        return Answer(answer.status, json.loads(content) if content else None, answer.headers)

    def table(self, namespace: str, name: str) -> dict[str, Any]:
        """Make an empty table, its namespace too, and return what the server says of it."""
        self.ask("POST", "/namespaces", {"namespace": [namespace]})
        made = self.ask("POST", f"/namespaces/{namespace}/tables", {"name": name, "schema": SCHEMA})
        assert made.status == 200, made
        loaded: dict[str, Any] = made.body
        return loaded
