"""A Hugging Face hub on loopback, of as many data sets as are put into it: listings, files in ranges, refusals."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

TOKEN = "hf_secretsecretsecret"


@dataclass
class Hub:
    """What is there, and what was asked for.

    Parameters
    ----------
    files : dict
        (data set, revision) to path to content.
    private : set of str
        Data sets that only `TOKEN` opens.
    cut_at : str
        The next time that this file is sent, it breaks off in its middle.
    failing : bool
        Whether every answer is that there is trouble.
    asked : list of (str, str, str)
        Method, path, and the range that was asked for.
    """

    files: dict[tuple[str, str], dict[str, bytes]] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)
    cut_at: str = ""
    failing: bool = False
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    url: str = ""

    def commit(self, name: str, revision: str) -> str:
        return sha256(f"{name}@{revision}".encode()).hexdigest()[:40]

    def at(self, name: str, revision: str) -> dict[str, bytes] | None:
        """Return the files of a revision or commit."""
        by_commit = {self.commit(*key): found for key, found in self.files.items() if key[0] == name}
        return self.files.get((name, revision), by_commit.get(revision))


@contextmanager
def running() -> Iterator[Hub]:
    """Serve a hub until it is left."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, with_body: bool) -> None:
            path, given = unquote(self.path).partition("?")[0], self.headers.get("Range", "")
            hub.asked.append((self.command, path, given))
            if hub.failing:
                self._send(500, b"no")
                return
            listing = re.fullmatch(r"/api/datasets/([^/]+/[^/]+)(?:/revision/(.+))?", path)
            content = re.fullmatch(r"/datasets/([^/]+/[^/]+)/resolve/([0-9a-f]{40})/(.+)", path)
            found = listing or content
            name = found[1] if found else ""
            if not any(key[0] == name for key in hub.files) or self._locked(name):
                self._send(401, b"{}", {"X-Error-Code": "RepoNotFound"})
            elif listing:
                self._list(name, listing[2] or "main")
            elif content:
                self._send_file(name, content[2], content[3], given, with_body)

        def _locked(self, name: str) -> bool:
            return name in hub.private and self.headers.get("Authorization") != f"Bearer {TOKEN}"

        def _list(self, name: str, revision: str) -> None:
            files = hub.at(name, revision)
            if files is None:
                self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
                return
            told = {
                "id": name,
                "sha": hub.commit(name, revision),
                "siblings": [{"rfilename": path} for path in files],
            }
            self._send(200, json.dumps(told).encode(), {"Content-Type": "application/json"})

        def _send_file(self, name: str, commit: str, path: str, given: str, with_body: bool) -> None:
            whole = (hub.at(name, commit) or {})[path]
            start = int(given.removeprefix("bytes=").partition("-")[0]) if given else 0
            headers = {
                "ETag": f'"{sha256(whole).hexdigest()}"',
                "X-Repo-Commit": commit,
                "Accept-Ranges": "bytes",
                "Content-Range": f"bytes {start}-{len(whole) - 1}/{len(whole)}",
            }
            if not given:
                del headers["Content-Range"]
            body = whole[start:]
            cut = len(body)
            if with_body and hub.cut_at == path:
                cut, hub.cut_at = cut // 2, ""
            self._send(206 if given else 200, body, headers, with_body, cut)

        def _send(
            self,
            status: int,
            body: bytes,
            headers: dict[str, str] | None = None,
            with_body: bool = True,
            cut: int | None = None,
        ) -> None:
            self.send_response(status)
            for key, value in (headers or {}).items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if with_body and self.command != "HEAD":
                self.wfile.write(body[:cut])
                self.close_connection = cut is not None and cut < len(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, name="hub")
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
