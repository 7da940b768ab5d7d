"""Signed requests for objects, held against Amazon's own signer and a small server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow.fs as pafs
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from iceblink.lake.s3_objects import S3Objects
from iceblink.lake.storage import Storage

CONTENT = bytes(range(256)) * 40
KEYS = {"s3.access-key-id": "key", "s3.secret-access-key": "sesame", "s3.region": "us-east-1"}


class Bucket(BaseHTTPRequestHandler):
    """A store of few objects that knows ranges, and notes what it was asked."""

    protocol_version = "HTTP/1.1"
    asked: list[tuple[str, str | None]]
    objects: dict[str, bytes]
    status = 0
    cut = 0

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.asked.append((self.command, wanted))
        content = self.objects.get(unquote(self.path))
        if self.status or content is None:
            self.answered(self.status or 404, b"")
        elif wanted is None:
            self.answered(200, content)
        else:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start = int(first) if first else max(0, len(content) - int(last))
            part = content[start : int(last) + 1 if first else None]
            place = f"bytes {start}-{start + len(part) - 1}/{len(content)}" if part else f"bytes */{len(content)}"
            self.answered(206 if part else 416, part, {"Content-Range": place})

    do_HEAD = do_GET

    def answered(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def bucket() -> Iterator[tuple[type[Bucket], str]]:
    objects = {"/lake/a b/ü?#%2F+": CONTENT, "/lake/empty": b"", "/lake/small": b"0123456789"}
    handler = type("Handler", (Bucket,), {"asked": [], "objects": objects})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield handler, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def never() -> pafs.FileSystem:
    raise AssertionError("Arrow is not asked")


def test_each_read_is_one_request(bucket: tuple[type[Bucket], str]) -> None:
    handler, endpoint = bucket
    storage = Storage.of({"s3.endpoint": endpoint, **KEYS})
    path = "s3://lake/a b/ü?#%2F+"
    assert storage.read(path) == CONTENT
    assert storage.ending(path, 100) == (len(CONTENT), CONTENT[-100:])
    opened = storage.opened(path, constant=True)
    assert opened.fetch(1000, 10).to_pybytes() == CONTENT[1000:1010]
    assert handler.asked == [("GET", None), ("GET", "bytes=-100"), ("GET", "bytes=1000-1009")]


def test_small_empty_and_missing_objects_are_read_and_told(bucket: tuple[type[Bucket], str]) -> None:
    storage = Storage.of({"s3.endpoint": bucket[1], **KEYS})
    assert storage.ending("s3://lake/small", 100) == (10, b"0123456789")
    assert storage.ending("s3://lake/empty", 100) == (0, b"")
    assert storage.read("s3://lake/empty") == b""
    assert storage.open_input("s3://lake/small").read() == b"0123456789"
    for read in (storage.read, storage.opened):
        with pytest.raises(FileNotFoundError):
            read("s3://lake/gone")
    with pytest.raises(FileNotFoundError):
        storage.ending("s3://lake/gone", 9)


def test_what_is_refused_is_asked_of_arrow_whose_word_counts(bucket: tuple[type[Bucket], str], tmp_path: Path) -> None:
    handler, endpoint = bucket
    handler.status = 403
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake" / "small").write_bytes(b"by Arrow")
    arrow = pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem())
    objects = S3Objects.of({"s3.endpoint": endpoint, **KEYS}, "lake", lambda: arrow)
    assert objects is not None
    assert objects.get("lake/small").content == b"by Arrow"
    assert objects.get("lake/small", (3, 100)).content == b"Arrow"
    assert (objects.get("lake/small", 5).content, objects.size_of("lake/small")) == (b"Arrow", 8)
    with pytest.raises(FileNotFoundError):
        objects.get("lake/gone")


def test_a_store_that_is_busy_is_tried_again(bucket: tuple[type[Bucket], str]) -> None:
    handler, endpoint = bucket
    handler.status = 503
    objects = S3Objects.of({"s3.endpoint": endpoint, **KEYS}, "lake", never)
    assert objects is not None
    with pytest.raises(OSError, match="503"):
        objects.get("lake/small")
    threading.Timer(0.1, setattr, (handler, "status", 0)).start()
    assert Storage.of({"s3.endpoint": endpoint, **KEYS}).read("s3://lake/small") == b"0123456789"


@given(
    path=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1),
    bucket=st.sampled_from(["lake", "a.b-c"]),
    token=st.sampled_from(["", "of a session"]),
    virtual=st.booleans(),
    endpoint=st.sampled_from(["", "http://127.0.0.1:9000", "https://minio.example.com"]),
)
def test_requests_are_signed_as_amazon_signs_them(
    path: str, bucket: str, token: str, virtual: bool, endpoint: str
) -> None:
    properties = {"s3.endpoint": endpoint, "s3.session-token": token, **KEYS}
    objects = S3Objects.of(properties | {"s3.force-virtual-addressing": str(virtual)}, bucket, never)
    assert objects is not None
    target, headers = objects._signed("GET", f"{bucket}/{path}")
    request = AWSRequest("GET", f"https://{headers['Host']}{target}")
    request.context["timestamp"] = headers["X-Amz-Date"]
    for name in ("Host", "X-Amz-Date", "X-Amz-Content-SHA256", "X-Amz-Security-Token"):
        if name in headers:
            request.headers[name] = headers[name]
    signer = S3SigV4Auth(Credentials("key", "sesame", token or None), "s3", "us-east-1")
    canonical = signer.canonical_request(request)
    signature = signer.signature(signer.string_to_sign(request, canonical), request)
    assert headers["Authorization"].endswith(f"Signature={signature}")
    assert headers["Host"].startswith(f"{bucket}.") == (virtual if endpoint else "." not in bucket)


@pytest.mark.parametrize(
    "more",
    [{"s3.role-arn": "r"}, {"s3.proxy-uri": "p"}, {"s3.region": "cn-north-1"}, {"s3.access-key-id": ""}],
    ids=lambda more: next(iter(more)),
)
def test_where_more_than_keys_leads_to_a_store_arrow_reads(more: dict[str, str]) -> None:
    assert S3Objects.of({**KEYS, **more}, "lake", never) is None


def test_a_small_data_file_is_one_request_whoever_reads_it(bucket: tuple[type[Bucket], str]) -> None:
    handler, endpoint = bucket
    storage, path = Storage.of({**KEYS, "s3.endpoint": endpoint}), "s3://lake/a b/ü?#%2F+"
    size, ending = storage.ending(path, 100, len(CONTENT))
    assert (size, ending.to_pybytes()) == (len(CONTENT), CONTENT[-100:])
    opened = storage.opened(path, constant=True)
    assert opened.fetch(7, 5).to_pybytes() == CONTENT[7:12]
    parts = opened.parts([(0, 3), (len(CONTENT) - 2, len(CONTENT))])
    assert [parts.fetch(start, 2).to_pybytes() for start in (1, len(CONTENT) - 2)] == [CONTENT[1:3], CONTENT[-2:]]
    assert handler.asked == [("GET", f"bytes=-{len(CONTENT)}")]
    assert opened.parts([(4, 8)]).fetch(4, 4).to_pybytes() == CONTENT[4:8]  # nothing is held any more
    assert handler.asked[1:] == [("GET", "bytes=4-7")]


@pytest.mark.parametrize("thought", [None, 10, len(CONTENT) - 1, 2**40])
def test_a_file_that_is_large_or_not_what_it_is_thought_to_be_is_read_by_parts(
    bucket: tuple[type[Bucket], str], thought: int | None
) -> None:
    handler, endpoint = bucket
    storage, path = Storage.of({**KEYS, "s3.endpoint": endpoint}), "s3://lake/a b/ü?#%2F+"
    size, ending = storage.ending(path, 100, thought)
    assert (size, ending.to_pybytes()) == (len(CONTENT), CONTENT[-100:])
    assert storage.opened(path, constant=True).parts([(0, 3)]).fetch(0, 3).to_pybytes() == CONTENT[:3]
    assert len(handler.asked) == 2
