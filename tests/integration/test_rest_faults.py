"""Servers of a REST catalog side by side, killed, and stopped: what was acknowledged is there, once."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from urllib.parse import urlsplit

import iceblink as ib
from iceblink.lake.catalog import Catalog
from iceblink.rest.server import Server
from integration.rest_client import Rest

COMMITS = 3


def append_one_by_one(lake: ib.Lake, first: int) -> None:
    for number in range(first, first + COMMITS):
        lake.write("n.t", [{"id": number}])


def test_two_servers_and_a_writer_beside_them_lose_and_double_nothing(tmp_path: Path) -> None:
    with ib.connect(tmp_path) as direct:
        direct.create("n.t", {"id": "long"})
        with Server(Catalog.embedded(tmp_path), port=0) as one, Server(Catalog.embedded(tmp_path), port=0) as two:
            lakes = [direct, *(ib.connect(uri=server.url) for server in (one, one, two, two))]
            with ThreadPoolExecutor(len(lakes)) as pool:
                list(pool.map(append_one_by_one, lakes, range(0, len(lakes) * COMMITS, COMMITS)))
        ids = [row["id"] for row in direct.table("n.t").to_pylist()]
        assert sorted(ids) == list(range(len(lakes) * COMMITS))
        assert direct.history("n.t").count() == len(lakes) * COMMITS


def test_changes_that_require_nothing_of_each_other_all_land(tmp_path: Path) -> None:
    with Server(Catalog.embedded(tmp_path), port=0) as one, Server(Catalog.embedded(tmp_path), port=0) as two:
        made = Rest(one.url).table("n", "t")
        keys = [f"k{number}" for number in range(24)]

        def set_property(key: str) -> int:
            rest = Rest((one if int(key[1:]) % 2 else two).url)
            change = {"updates": [{"action": "set-properties", "updates": {key: "1"}}]}
            return rest.ask("POST", "/namespaces/n/tables/t", change).status

        with ThreadPoolExecutor(6) as pool:
            assert set(pool.map(set_property, keys)) == {200}
        metadata = Rest(two.url).ask("GET", "/namespaces/n/tables/t").body["metadata"]
    assert metadata["properties"] == dict.fromkeys(keys, "1")
    assert len(metadata["metadata-log"]) == len(keys)
    files = list(Path(made["metadata-location"]).parent.glob("*.metadata.json"))
    assert len(files) == len(keys) + 1  # what lost a race is gone again


@contextmanager
def command(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run ``iceblink catalog serve`` and say where it is."""
    serve = [sys.executable, "-m", "iceblink", "catalog", "serve", str(folder), "--port", "0"]
    with subprocess.Popen(serve, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            first = process.stdout.readline()
            found = re.search(r'ib\.connect\(uri="(http://127\.0\.0\.1:\d+)"\)', first)
            assert found, first or process.communicate()[1]
            assert str(folder) in first
            yield process, found[1]
        finally:
            process.kill()


def test_a_server_killed_among_commits_keeps_all_that_it_acknowledged(tmp_path: Path) -> None:
    folder, tables = tmp_path / "lake", [f"t{number}" for number in range(3)]
    acknowledged: list[tuple[str, str]] = []
    enough = Event()

    def commit(name: str) -> None:
        for number in range(10_000):
            change = {"updates": [{"action": "set-properties", "updates": {f"k{number}": "1"}}]}
            try:
                answer = rest.ask("POST", f"/namespaces/n/tables/{name}", change)
            except (OSError, ValueError):  # the connection is gone, or the answer was cut short
                return
            assert answer.status == 200
            acknowledged.append((name, f"k{number}"))
            if len(acknowledged) > 20:
                enough.set()

    with command(folder) as (process, url), ThreadPoolExecutor(len(tables)) as pool:
        rest = Rest(url)
        for name in tables:
            rest.table("n", name)
        running = [pool.submit(commit, name) for name in tables]
        enough.wait(60)
        process.send_signal(signal.SIGKILL)
        for one in running:
            one.result()
    assert len(acknowledged) > 20
    with ib.connect(folder) as lake:
        for name in tables:
            properties = lake.session.catalog.load(f"n.{name}").properties
            assert {key for table, key in acknowledged if table == name} <= set(properties)
            assert len(lake.write(f"n.{name}", [{"id": 1}]).to_pylist()) == 1


def test_a_signal_stops_the_server_when_it_has_answered(tmp_path: Path) -> None:
    body = b'{"namespace": ["late"]}'
    head = (
        "POST /v1/namespaces HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n"
    )
    with command(tmp_path / "lake") as (process, url):
        place = urlsplit(url)
        with socket.create_connection((place.hostname, place.port or 0), timeout=60) as connection:
            connection.sendall(head.encode())
            assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")  # it is being answered
            process.send_signal(signal.SIGTERM)
            connection.sendall(body)
            assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "", "")
    with ib.connect(tmp_path / "lake") as lake:
        assert lake.namespaces() == ["late"]
