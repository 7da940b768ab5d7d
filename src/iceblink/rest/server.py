"""A server in a thread of its own, and the command that waits for it."""

from __future__ import annotations

import ipaddress
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Self

import uvicorn

from iceblink.errors import ConfigError
from iceblink.lake.catalog import Catalog
from iceblink.lake.served.catalog import ServedCatalog
from iceblink.rest.app import make_app
from iceblink.rest.guard import BODY_LIMIT_BYTES, Guard
from iceblink.rest.tokens import Tokens

PORT = 8181
GRACE_S = 10
"""How long requests under way may take when the server is stopped [s]; a commit takes milliseconds."""


class Server:
    """An Iceberg REST catalog over HTTP; a context manager that stops it.

    Parameters
    ----------
    catalog : Catalog
        Of an embedded lake, or of a SQL database.
    host : str
        The address to listen at. All but loopback need tokens.
    port : int
        0 takes one that is free.
    tokens : Tokens, optional
        Who may ask.
    body_limit_bytes : int
        Of one request.

    Raises
    ------
    ConfigError
        The address is not free, or is open to others without tokens; the catalog cannot be served.
    """

    def __init__(
        self,
        catalog: Catalog,
        host: str = "127.0.0.1",
        port: int = PORT,
        tokens: Tokens | None = None,
        body_limit_bytes: int = BODY_LIMIT_BYTES,
    ) -> None:
        if tokens is None and not _is_loopback(host):
            hint = "give --token-file, or leave --host at 127.0.0.1"
            raise ConfigError("whoever reaches this address could change the lake", f"--host {host}", hint)
        name = f"[{host}]" if ":" in host else host
        guard = Guard(tokens, {"localhost", "127.0.0.1", "[::1]", name}, body_limit_bytes)
        app = make_app(ServedCatalog(catalog), guard)
        self._socket = _listening(host, port)
        self.url = f"http://{name}:{self._socket.getsockname()[1]}"
        """Where it is: what clients take as ``uri``."""
        self._server = _Uvicorn(
            uvicorn.Config(
                app,
                http="h11",
                loop="asyncio",
                ws="none",
                lifespan="off",
                log_level="warning",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=GRACE_S,
            )
        )
        self.ended = Event()
        """Set when it does not answer any more."""
        self._thread = Thread(target=self._run, name="iceblink-rest", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self._socket.close()
            self.ended.set()

    def stop(self) -> None:
        """Take no more requests, and end when those under way are answered; returns at once."""
        self._server.should_exit = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._thread.join()


class _Uvicorn(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone: they are for whoever started the server."""
        yield


def serve(catalog: Catalog, host: str, port: int, token_file: str | Path | None, where: str) -> None:
    """Serve a catalog until SIGTERM or SIGINT, and say first how to connect.

    Parameters
    ----------
    catalog : Catalog
    host : str
    port : int
    token_file : str or Path, optional
        As in `Tokens.read`.
    where : str
        What is served, for the reader.

    Raises
    ------
    ConfigError
        As in `Server` and `Tokens.read`.
    """
    tokens = None if token_file is None else Tokens.read(token_file)
    with Server(catalog, host, port, tokens) as server, _stopping(server):
        token = "" if tokens is None else ", token=..."
        print(f'{where} is served at {server.url}: ib.connect(uri="{server.url}"{token})', flush=True)
        server.ended.wait()


@contextmanager
def _stopping(server: Server) -> Iterator[None]:
    """Let both signals stop the server within the block."""
    before = {number: signal.signal(number, lambda *_: server.stop()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listening(host: str, port: int) -> socket.socket:
    if not 0 <= port < 2**16:
        raise ConfigError(f"{port} is no port", "--port", "choose one below 65536, or 0 for one that is free")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((host, port), family=family, backlog=128)
        # accepted connections inherit it; without it the body of each answer waits 40 ms for its headers' receipt
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listening
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"cannot listen there: {reason}", f"{host}:{port}", "choose another --port") from error
