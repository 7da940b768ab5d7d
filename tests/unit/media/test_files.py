"""Files fetched: paths, file URLs and a real server that is slow, busy, forbidding, or breaks off."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iceblink.errors import ConfigError, DuplicateColumn, FunctionError, TypeMismatch
from iceblink.lakehouse import connect
from iceblink.media import column, fetch, files


class Site(BaseHTTPRequestHandler):
    """Answers by the first word of the path; counts what it was asked."""

    protocol_version = "HTTP/1.1"
    asked: ClassVar[Counter[str]] = Counter()
    under_way: ClassVar[list[int]] = [0, 0]  # now, and the most
    lock: ClassVar[threading.Lock] = threading.Lock()
    release: ClassVar[threading.Event] = threading.Event()

    def do_GET(self) -> None:
        with self.lock:
            self.asked[self.path] += 1
            times = self.asked[self.path]
            self.under_way[0] += 1
            self.under_way[1] = max(self.under_way)
        try:
            getattr(self, self.path.strip("/").partition("/")[0])(times)
        finally:
            with self.lock:
                self.under_way[0] -= 1

    def body(self, data: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def ok(self, times: int) -> None:
        self.body(f"bytes of {self.path}".encode())

    def big(self, times: int) -> None:
        self.body(b"x" * 100_000)

    def moved(self, times: int) -> None:
        self.body(b"", 302, Location=self.path.replace("moved", "ok"))

    def circle(self, times: int) -> None:
        self.body(b"", 302, Location=self.path)

    def busy(self, times: int) -> None:
        self.body(b"", 503, Retry_After="0") if times < 3 else self.ok(times)

    def broken(self, times: int) -> None:
        if times > 1:
            self.ok(times)
        else:
            self.body(b"only this", Content_Length="1000")
            self.close_connection = True

    def hanging(self, times: int) -> None:
        self.release.wait(20)
        self.close_connection = True

    def secret(self, times: int) -> None:
        known = self.headers.get("Authorization") == "Bearer x"
        self.body(b"told", 200) if known else self.body(b"", 403)

    def gone(self, times: int) -> None:
        self.body(b"no such file", 404)

    def teapot(self, times: int) -> None:
        self.body(b"", 418)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(fetch, "FIRST_PAUSE_S", 0.001)
    Site.asked.clear()
    Site.under_way[:] = [0, 0]
    Site.release.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    Site.release.set()
    server.shutdown()
    thread.join()
    server.server_close()


def batch_of(places: Sequence[str | None]) -> pa.RecordBatch:
    return pa.record_batch({"place": pa.array(places, pa.string())})


def got(download: files.Download, places: Sequence[str | None]) -> list[bytes | None]:
    return [value for batch in download(batch_of(places)) for value in batch[download.to].to_pylist()]


def test_paths_and_file_urls_are_read_as_they_are(tmp_path: Path) -> None:
    plain, odd = tmp_path / "a.txt", tmp_path / "50% of it #1.txt"
    plain.write_bytes(b"plain")
    odd.write_bytes(b"odd")
    assert got(files.Download("place"), [str(plain), None, odd.as_uri(), str(odd)]) == [b"plain", None, b"odd", b"odd"]


def test_urls_are_fetched_in_order_with_redirects(site: str) -> None:
    names = [f"ok/{n}" for n in range(40)]
    places = [f"{site}/{name}" for name in names] + [f"{site}/moved/41"]
    expected = [f"bytes of /{name}".encode() for name in [*names, "ok/41"]]
    assert got(files.Download("place", concurrency=4), places) == expected
    assert 1 <= Site.under_way[1] <= 4


@settings(max_examples=20)
@given(st.lists(st.none() | st.binary(max_size=50), max_size=20), st.integers(1, 5), st.booleans())
def test_what_was_written_is_read_back(
    tmp_path_factory: Any, contents: list[Any], concurrency: int, keep: bool
) -> None:
    folder = tmp_path_factory.mktemp("written")
    places: list[str | None] = []
    for number, data in enumerate(contents):
        path = folder / str(number)
        places.append(None if data is None else str(path))
        if data is not None:
            path.write_bytes(data)
    download = files.Download("place", concurrency=concurrency, keep=keep)
    batch = pa.Table.from_batches(list(download(batch_of(places))))
    assert batch["bytes"].to_pylist() == contents
    assert batch.schema == download.output_schema(batch_of([]).schema)


def test_failures_that_may_pass_are_tried_again(site: str) -> None:
    places = [f"{site}/busy/1", f"{site}/broken/1"]
    assert got(files.Download("place"), places) == [b"bytes of /busy/1", b"bytes of /broken/1"]
    assert Site.asked["/busy/1"] == 3
    with pytest.raises(ConnectionError, match="503"):
        got(files.Download("place", retries=1), [f"{site}/busy/2"])
    with pytest.raises(ConnectionError):
        got(files.Download("place", retries=0), [f"{site}/broken/2"])


@pytest.mark.parametrize(
    ("path", "kind"),
    [("gone", FileNotFoundError), ("secret", PermissionError), ("teapot", OSError), ("circle", OSError)],
)
def test_failures_that_stay_are_raised_at_once_and_named(site: str, path: str, kind: type[OSError]) -> None:
    with pytest.raises(kind, match=f"{site}/{path}"):
        got(files.Download("place"), [f"{site}/{path}"])
    assert Site.asked[f"/{path}"] == (fetch.REDIRECTS + 1 if path == "circle" else 1)


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("/no/such/file", FileNotFoundError),
        ("file:///no/such/file", FileNotFoundError),
        ("file://elsewhere/file", OSError),
        ("http://", OSError),
        ("gopher://host/file", OSError),
    ],
)
def test_places_that_are_none_are_os_errors(place: str, kind: type[OSError]) -> None:
    with pytest.raises(kind):
        got(files.Download("place"), [place])


def test_a_silent_server_is_given_up(site: str) -> None:
    with pytest.raises(TimeoutError, match="silent"):
        got(files.Download("place", timeout_s=0.05, retries=1), [f"{site}/hanging"])
    assert Site.asked["/hanging"] == 2


def test_a_server_that_is_not_there_is_a_connection_error(site: str) -> None:
    with pytest.raises(ConnectionError):
        got(files.Download("place", retries=0), ["http://127.0.0.1:1/file"])


def test_a_file_that_is_too_large_is_refused(site: str, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"x" * 1001)
    for place in (f"{site}/big", str(tmp_path / "big")):
        with pytest.raises(OSError, match="larger than 1,000 bytes"):
            got(files.Download("place", largest_bytes=1000), [place])


def test_headers_are_sent_and_not_shown(site: str) -> None:
    download = files.Download("place", headers={"Authorization": "Bearer x"})
    assert got(download, [f"{site}/secret"]) == [b"told"]
    assert "Bearer" not in repr(download)


def test_an_error_column_says_what_failed_and_nothing_is_raised(site: str) -> None:
    download = files.Download("place", error="why", keep=False)
    (batch,) = download(batch_of([f"{site}/ok/1", f"{site}/gone", None]))
    assert batch.schema == download.output_schema(batch_of([]).schema)
    assert batch["bytes"].to_pylist() == [b"bytes of /ok/1", None, None]
    fine, gone, nothing = batch["why"].to_pylist()
    assert (fine, nothing) == (None, None)
    assert gone.startswith("FileNotFoundError: ")
    assert gone.endswith("/gone: 404 Not Found")


def test_long_batches_go_on_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(column, "PART_BYTES", 100)
    (tmp_path / "a").write_bytes(b"x" * 60)
    made = files.Download("place")(batch_of([str(tmp_path / "a")] * 5))
    assert [batch.num_rows for batch in made] == [2, 2, 1]


def test_whoever_takes_no_more_waits_for_no_server(site: str) -> None:
    batches = files.Download("place", concurrency=1)(batch_of([f"{site}/ok/1", "/no/such/file", f"{site}/hanging"]))
    with pytest.raises(FileNotFoundError):
        next(batches)
    assert not Site.release.is_set()


def test_a_dataset_downloads_and_isolates_what_is_not_there(site: str, tmp_path: Path) -> None:
    places = [f"{site}/{'gone' if n == 5 else 'ok'}/{n}" for n in range(12)]
    rows = connect(str(tmp_path)).from_arrow(pa.table({"place": places}))
    there = rows.map_batches(files.Download("place"), batch_size=4, workers=2, on_error="skip").to_pylist()
    assert [row["place"] for row in there] == [place for place in places if "gone" not in place]
    with pytest.raises(FunctionError, match="FileNotFoundError") as caught:
        rows.map_batches(files.Download("place"), batch_size=4).count()
    assert "rows 4 to 7" in caught.value.where


def test_a_download_takes_no_cpu_unless_it_is_told(tmp_path: Path) -> None:
    rows = connect(str(tmp_path)).from_arrow(pa.table({"place": ["x"]}))
    plans: list[Any] = [rows.map_batches(files.Download("place"), cpus=cpus).plan for cpus in (None, 0.5)]
    assert [plan.function.pool.cpus for plan in plans] == [0.0, 0.5]


def test_a_mistake_is_found_where_it_is_written(tmp_path: Path) -> None:
    rows = connect(str(tmp_path)).from_arrow(pa.table({"place": ["x"], "n": [1]}))
    with pytest.raises(TypeMismatch, match="column 'n' is long, not string"):
        rows.map_batches(files.Download("n"))
    with pytest.raises(DuplicateColumn, match="'n'"):
        rows.map_batches(files.Download("place", error="n"))
    with pytest.raises(ConfigError, match="concurrency=0"):
        files.Download("place", concurrency=0)
