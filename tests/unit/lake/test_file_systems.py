"""Schemes, and the properties that reach them."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from iceblink.errors import ConfigError
from iceblink.lake.file_systems import _as_s3, _s3, split_location
from iceblink.lake.http_get import OwnPool
from iceblink.lake.storage import Storage


@pytest.mark.parametrize(
    ("location", "parts"),
    [
        ("s3a://bucket/a b?c#d%20e", ("s3a", "bucket", "bucket/a b?c#d%20e")),
        ("cosn://bucket-123/x", ("cosn", "bucket-123", "bucket-123/x")),
        ("hdfs://name:8020/a/b", ("hdfs", "name:8020", "/a/b")),
        ("viewfs://mounts/a", ("viewfs", "mounts", "/a")),
        ("hdfs:///a", ("hdfs", "", "/a")),
        ("abfss://box@firm.dfs.core.windows.net/a/b", ("abfss", "box@firm.dfs.core.windows.net", "box/a/b")),
        ("https://host:80/a?b=1", ("https", "host:80", "host:80/a?b=1")),
    ],
)
def test_a_location_is_taken_as_it_is(location: str, parts: tuple[str, str, str]) -> None:
    assert split_location(location) == parts


@pytest.mark.parametrize("location", ["memory://x", "s4://bucket/x"])
def test_a_location_that_leads_nowhere_is_refused_with_what_there_is(location: str) -> None:
    with pytest.raises(ConfigError, match="s3"):
        Storage().filesystem(location)


def test_what_is_no_location_is_told_from_a_scheme_that_is_not_known() -> None:
    with pytest.raises(ValueError, match="no location") as caught:
        Storage().filesystem("relative/path")
    assert not isinstance(caught.value, ConfigError)


def test_other_stores_that_speak_s3_are_reached_by_their_own_words() -> None:
    oss = _as_s3({"oss.region": "cn-hangzhou", "oss.access-key-id": "k", "oss.access-key-secret": "s"}, "oss")
    assert oss["s3.endpoint"] == "https://oss-cn-hangzhou.aliyuncs.com"
    assert (oss["s3.access-key-id"], oss["s3.secret-access-key"]) == ("k", "s")
    assert oss["s3.force-virtual-addressing"] == "true"
    hadoop = {"fs.cosn.bucket.region": "ap-guangzhou", "fs.cosn.userinfo.secretId": "k"}
    assert _as_s3(hadoop, "cos")["s3.endpoint"] == "https://cos.ap-guangzhou.myqcloud.com"
    given = {
        "s3.endpoint": "http://127.0.0.1:9000",
        "cos.endpoint": "http://cos",
        "s3.force-virtual-addressing": "false",
    }
    both = _as_s3(given, "cos")
    assert (both["s3.endpoint"], both["s3.force-virtual-addressing"]) == ("http://cos", "false")
    with pytest.raises(ConfigError, match="region"):
        _as_s3({}, "oss")
    assert (
        Storage.of({"cos.region": "x", "cos.secret-id": "k", "cos.secret-key": "sesame"}).filesystem("cosn://b/k")[1]
        == "b/k"
    )


def test_a_store_of_ones_own_needs_no_region() -> None:
    assert _s3({"s3.endpoint": "http://minio:9000"})["s3.region"] == "us-east-1"
    assert _s3({"s3.endpoint": "http://minio:9000", "s3.region": "home"})["s3.region"] == "home"
    assert "s3.region" not in _s3({})


class Ranged(SimpleHTTPRequestHandler):
    """A web server that knows ranges, which Python's own does not, unless it is told to forget them."""

    ranges = True

    def do_GET(self) -> None:
        asked = self.headers.get("Range") if self.ranges else None
        path = Path(self.translate_path(self.path))
        if asked is None or not path.is_file():
            super().do_GET()
            return
        content = path.read_bytes()
        start, end = (int(number) for number in asked.removeprefix("bytes=").split("-"))
        if start >= len(content):
            self.send_response(416)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        part = content[start : end + 1]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{start + len(part) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture(params=[True, False], ids=["ranges", "no ranges"])
def web(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    handler = type("Handler", (Ranged,), {"ranges": request.param, "protocol_version": "HTTP/1.1"})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(tmp_path))) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_files_of_a_web_server_are_read_by_ranges(web: str, tmp_path: Path) -> None:
    content = bytes(range(256)) * 40
    (tmp_path / "file").write_bytes(content)
    (tmp_path / "empty").write_bytes(b"")
    storage = Storage()
    assert storage.read(f"{web}/file") == content
    assert storage.size(f"{web}/file") == len(content)
    assert storage.read(f"{web}/empty") == b""
    with storage.open_input(f"{web}/file") as file:
        assert file.read_at(10, 1000) == content[1000:1010]
        assert file.read_at(100, len(content) - 5) == content[-5:]
    assert storage.opened(f"{web}/file").parts([(5, 9), (300, 400)]).fetch(300, 100).to_pybytes() == content[300:400]
    with pytest.raises(FileNotFoundError):
        storage.read(f"{web}/gone")
    with pytest.raises(OSError, match="only be read"):
        storage.write(f"{web}/new", b"")


class Asked(SimpleHTTPRequestHandler):
    """Says what key it was sent, or whither to go, or gives another part than was asked for."""

    keys: ClassVar[list[str | None]] = []
    elsewhere = ""
    wrong = 0

    def do_GET(self) -> None:
        kind = type(self)
        kind.keys.append(self.headers.get("X-Key"))
        if self.path == "/away":
            self.send_response(302)
            self.send_header("Location", f"{kind.elsewhere}/file")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        asked = self.headers.get("Range", "bytes=0-9")
        start, end = (int(number) for number in asked.removeprefix("bytes=").split("-"))
        if kind.wrong:
            kind.wrong, start = kind.wrong - 1, start + 1
        part = b"0123456789"[start : end + 1]
        self.send_response(206 if "Range" in self.headers else 200)
        self.send_header("Content-Range", f"bytes {start}-{start + len(part) - 1}/10")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def two() -> Iterator[list[tuple[type[Asked], str]]]:
    """Run two servers."""
    with ExitStack() as stack:
        running = []
        for _ in range(2):
            handler = type("Handler", (Asked,), {"keys": [], "protocol_version": "HTTP/1.1"})
            server = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), handler))
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
            stack.callback(server.shutdown)
            running.append((handler, f"http://127.0.0.1:{server.server_port}"))
        yield running


def test_headers_go_to_those_whom_they_are_for_and_to_nobody_else(two: list[tuple[type[Asked], str]]) -> None:
    (ours, home), (theirs, other) = two
    ours.elsewhere = other
    storage = Storage.of({"http.header.X-Key": "sesame", "http.origins": f" {home.upper()}/ ,https://x.example"})
    assert storage.read(f"{home}/file") == b"0123456789"
    assert storage.read(f"{other}/file") == b"0123456789"
    assert storage.read(f"{home}/away") == b"0123456789"
    assert (ours.keys, theirs.keys) == (["sesame", "sesame"], [None, None])
    with pytest.raises(ConfigError, match="origins"):
        Storage.of({"http.header.X-Key": "sesame"}).read(f"{home}/file")


def test_a_part_from_another_place_is_asked_for_again(two: list[tuple[type[Asked], str]]) -> None:
    handler, home = two[0]
    with Storage().open_input(f"{home}/file") as file:
        handler.wrong = 1
        assert file.read_at(4, 3) == b"3456"
    assert handler.wrong == 0


def test_connections_are_of_the_process_that_made_them(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    class Pool:
        def __init__(self) -> None:
            made.append(self)

        def urlopen(self, method: str, url: str, **options: Any) -> Any:
            return self

    pool = OwnPool(Pool)
    assert pool.urlopen("GET", "/", headers={}) is pool.urlopen("GET", "/", headers={}) is made[0]
    monkeypatch.setattr(os, "getpid", lambda: -1)  # as in a forked process
    assert pool.urlopen("GET", "/", headers={}) is pool.urlopen("GET", "/", headers={}) is made[1]
