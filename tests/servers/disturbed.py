"""The way to a server, disturbed: a proxy on loopback that loses answers, resets, refuses and cuts short."""

from __future__ import annotations

import http.client
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any
from urllib.parse import urlsplit

FAULTS = ("lost answer", "reset", "503", "429", "late", "cut short")
LATE_S = 0.05

Choose = Callable[[str, str], str]
"""Given method and target (or Amazon's name of the action), says which fault there is, or ``""``."""


def never(method: str, target: str) -> str:
    """No fault."""
    return ""


def sometimes(seed: int, share: float, faults: tuple[str, ...] = FAULTS) -> Choose:
    """Return a choice of faults at random for a share of the requests; the same for the same requests in one order."""
    chosen, lock = random.Random(seed), threading.Lock()

    def choose(method: str, target: str) -> str:
        with lock:
            return chosen.choice(faults) if chosen.random() < share else ""

    return choose


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is nothing to tell of here."""


class Disturbed:
    """An HTTP proxy; `choose` may be set anew at any time."""

    def __init__(self, endpoint: str) -> None:
        upstream = urlsplit(endpoint).netloc
        proxy = self
        self.choose: Choose = never
        self.seen: Counter[str] = Counter()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 20

            def handle_one_request(self) -> None:
                with suppress(ConnectionError, TimeoutError):
                    super().handle_one_request()
                    return
                self.close_connection = True

            def forward(self) -> None:
                body = self.body()
                action = self.headers.get("X-Amz-Target", self.path)
                fault = proxy.choose(self.command, action)
                proxy.seen[fault] += 1
                if fault == "reset":
                    self.reset()
                    return
                if fault in ("503", "429"):
                    self.answer(int(fault), {"Retry-After": "0"}, b"<Error><Code>SlowDown</Code></Error>")
                    return
                if fault == "late":
                    time.sleep(LATE_S)
                status, headers, content = self.asked(body)
                if fault == "lost answer":
                    self.reset()
                elif fault == "cut short" and len(content) > 1 and self.command == "GET":
                    self.answer(status, headers, content[: len(content) // 2], len(content))
                    self.reset()
                else:
                    self.answer(status, headers, content)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = forward

            def body(self) -> bytes:
                if self.headers.get("Transfer-Encoding", "") != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length", 0)))
                chunks = []
                while size := int(self.rfile.readline().partition(b";")[0], 16):
                    chunks.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(chunks)

            def asked(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
                connection = http.client.HTTPConnection(upstream, timeout=20)
                try:
                    left_out = {"expect", "transfer-encoding", "content-length"}
                    headers = {key: value for key, value in self.headers.items() if key.lower() not in left_out}
                    headers["Content-Length"] = str(len(body))
                    connection.request(self.command, self.path, body, headers)
                    answer = connection.getresponse()
                    return answer.status, dict(answer.getheaders()), answer.read()
                finally:
                    connection.close()

            def answer(self, status: int, headers: dict[str, str], content: bytes, length: int | None = None) -> None:
                self.send_response_only(status)
                skipped = {"content-length", "connection", "transfer-encoding"}
                if self.command == "HEAD":
                    skipped -= {"content-length"}
                for key, value in headers.items():
                    if key.lower() not in skipped:
                        self.send_header(key, value)
                if self.command != "HEAD" and status != 204:
                    self.send_header("Content-Length", str(len(content) if length is None else length))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            def reset(self) -> None:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.close_connection = True
                self.connection.close()

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing."""

        self._server = _Quiet(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Disturbed:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Losing(ThreadingTCPServer):
    daemon_threads, allow_reuse_address = True, True


@contextmanager
def losing(port: int, said: bytes, times: int) -> Iterator[tuple[int, list[bytes]]]:
    """Give the port of a way to a server on which the answers to the first `times` messages with `said` are lost.

    What was lost is in the list. For protocols without a proxy of their own, such as PostgreSQL's.
    """
    lost: list[bytes] = []

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection(("127.0.0.1", port)) as server, suppress(OSError):
                threading.Thread(target=self.back, args=(server,), daemon=True).start()
                while message := self.request.recv(1 << 16):
                    gone = said in message and len(lost) < times
                    if gone:
                        lost.append(message)
                        self.request.shutdown(socket.SHUT_WR)  # from now on no answer comes through
                    server.sendall(message)
                    if gone:
                        time.sleep(LATE_S)  # the server does what it was told
                        return

        def back(self, server: socket.socket) -> None:
            with suppress(OSError):
                while answer := server.recv(1 << 16):
                    self.request.sendall(answer)

    with _Losing(("127.0.0.1", 0), Handler) as proxy:
        threading.Thread(target=proxy.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield proxy.server_address[1], lost
        finally:
            proxy.shutdown()
