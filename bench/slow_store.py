"""An S3 store in a folder that answers each request a little late: ``python -m bench.slow_store FOLDER --port 9000``.

Just what Arrow's and PyIceberg's clients ask of one: get (ranges too), head, put, list, delete, uploads in parts.
Buckets are folders. Bodies leave by sendfile: the store takes little of the processors that readers are measured on.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from socket import create_server
from urllib.parse import parse_qs, unquote, urlsplit
from uuid import uuid4

ROOT = Path(__file__).resolve().parent.parent
READY_S = 20.0
COUNT = "/-/requests"
"""Asked for it, the store tells how many requests it has answered, and the CPU time that took [s]."""

Headers = dict[str, str]


@dataclass
class Answer:
    """A status, what is sent with it, and either bytes or a part of a file."""

    status: int = 200
    body: bytes = b""
    headers: Headers = field(default_factory=dict)
    file: Path | None = None
    start: int = 0
    length: int = 0


class SlowStore:
    """The store.

    Parameters
    ----------
    folder : Path
    latency_s : float
        Added to each answer [s].
    """

    def __init__(self, folder: Path, latency_s: float) -> None:
        self.folder, self.latency_s, self.requests = folder, latency_s, 0

    async def serve(self, port: int) -> None:
        """Answer on loopback for ever."""
        server = await asyncio.start_server(self.connection, "127.0.0.1", port, limit=1 << 20)
        async with server:
            await server.serve_forever()

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request after the other."""
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                line, *rest = head.decode().split("\r\n")
                method, target, _ = line.split(" ", 2)
                headers = {key.lower(): value.strip() for key, _, value in (one.partition(":") for one in rest if one)}
                if headers.get("expect", "").lower() == "100-continue":
                    writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                if headers.get("transfer-encoding") == "chunked":
                    body = await _chunked(reader)
                else:
                    body = await reader.readexactly(int(headers.get("content-length", 0)))
                if "aws-chunked" in headers.get("content-encoding", ""):
                    body = b"".join(_chunks(body))
                if target == COUNT:
                    answer = Answer(body=f"{self.requests} {time.process_time()}".encode())
                else:
                    self.requests += 1
                    await asyncio.sleep(self.latency_s)
                    answer = self.answer(method, target, headers, body)
                await self.send(method, answer, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def send(self, method: str, answer: Answer, writer: asyncio.StreamWriter) -> None:
        """Send an answer, a file by sendfile."""
        length = answer.length if answer.file is not None else len(answer.body)
        lines = [f"HTTP/1.1 {answer.status} -", *(f"{key}: {value}" for key, value in answer.headers.items())]
        writer.write("\r\n".join([*lines, f"Content-Length: {length}", "", ""]).encode())
        if method != "HEAD" and answer.file is not None:
            await writer.drain()
            with answer.file.open("rb") as file:
                await asyncio.get_running_loop().sendfile(writer.transport, file, answer.start, length)
        elif method != "HEAD":
            writer.write(answer.body)
        await writer.drain()

    def answer(self, method: str, target: str, headers: Headers, body: bytes) -> Answer:
        """Do what a request asks for."""
        asked = urlsplit(target)
        query = parse_qs(asked.query, keep_blank_values=True)
        path = self.folder / unquote(asked.path).lstrip("/")
        if method in ("GET", "HEAD"):
            return self.listed(path, query) if path.is_dir() and "list-type" in query else self.object(path, headers)
        if method == "PUT":
            target_path = self.part(query) if "uploadId" in query else path
            target_path.parent.mkdir(parents=True, exist_ok=True)
            target_path.write_bytes(body)
            return Answer(headers={"ETag": '"1"'})
        if method == "POST" and "uploads" in query:
            return Answer(body=f"<InitiateMultipartUploadResult><UploadId>{uuid4().hex}</UploadId></InitiateMultipartUploadResult>".encode())  # fmt: skip  # noqa: E501
        if method == "POST" and "uploadId" in query:
            self.complete(query["uploadId"][0], path)
            return Answer(body=b"<CompleteMultipartUploadResult><ETag>1</ETag></CompleteMultipartUploadResult>")
        if method == "DELETE":
            path.unlink(missing_ok=True)
            return Answer(204)
        return Answer(501)

    def object(self, path: Path, headers: Headers) -> Answer:
        """Return an object, or the range of it that is asked for."""
        if not path.is_file():
            return Answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        size = path.stat().st_size
        common = {"ETag": '"1"', "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT", "Accept-Ranges": "bytes"}
        if "range" not in headers:
            return Answer(headers=common, file=path, length=size)
        first, _, last = headers["range"].removeprefix("bytes=").partition("-")
        if not first:  # the last so many bytes
            start, end = max(0, size - int(last)), size
        else:
            start, end = int(first), min(size, int(last) + 1 if last else size)
        ranged = common | {"Content-Range": f"bytes {start}-{end - 1}/{size}"}
        return Answer(206, headers=ranged, file=path, start=start, length=end - start)

    def listed(self, bucket: Path, query: dict[str, list[str]]) -> Answer:
        """Return the objects of a bucket whose keys begin with a prefix, folders not told apart."""
        prefix = query.get("prefix", [""])[0]
        keys = sorted(str(one.relative_to(bucket)) for one in bucket.rglob("*") if one.is_file())
        found = [key for key in keys if key.startswith(prefix)]
        contents = "".join(
            f"<Contents><Key>{key}</Key><Size>{(bucket / key).stat().st_size}</Size></Contents>" for key in found
        )
        return Answer(body=f"<ListBucketResult><KeyCount>{len(found)}</KeyCount>{contents}</ListBucketResult>".encode())

    def part(self, query: dict[str, list[str]]) -> Path:
        return self.folder / ".uploads" / query["uploadId"][0] / f"{int(query['partNumber'][0]):06d}"

    def complete(self, upload: str, path: Path) -> None:
        parts = self.folder / ".uploads" / upload
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as whole:
            for part in sorted(parts.iterdir()):
                whole.write(part.read_bytes())
        shutil.rmtree(parts)


async def _chunked(reader: asyncio.StreamReader) -> bytes:
    """Read a body that comes in HTTP's own chunks."""
    chunks = []
    while size := int((await reader.readline()).partition(b";")[0], 16):
        chunks.append(await reader.readexactly(size))
        await reader.readline()
    await reader.readline()
    return b"".join(chunks)


def _chunks(body: bytes) -> Iterator[bytes]:
    """Yield the chunks of Amazon's framing: size in hex, maybe a signature, then so many bytes."""
    at = 0
    while (end := body.index(b"\r\n", at)) > at and (size := int(body[at:end].partition(b";")[0], 16)):
        yield body[end + 2 : end + 2 + size]
        at = end + 2 + size + 2


def free_port() -> int:
    """Return a port of loopback that nobody has."""
    with create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@contextmanager
def running(folder: Path, latency_ms: float) -> Iterator[str]:
    """Run a store in a process of its own and give its endpoint."""
    port = free_port()
    command = [sys.executable, "-m", "bench.slow_store", str(folder), "--port", str(port)]
    with subprocess.Popen([*command, "--latency-ms", str(latency_ms)], cwd=ROOT) as process:
        try:
            endpoint = f"http://127.0.0.1:{port}"
            deadline = time.monotonic() + READY_S
            while True:
                try:
                    answered(endpoint)
                    break
                except OSError:
                    if process.poll() is not None or time.monotonic() > deadline:
                        raise
                    time.sleep(0.05)
            yield endpoint
        finally:
            process.terminate()


def answered(endpoint: str) -> tuple[int, float]:
    """Return how many requests a store has answered, and the CPU time that took [s]."""
    with urllib.request.urlopen(f"{endpoint}{COUNT}") as answer:
        requests, cpu_s = answer.read().split()
    return int(requests), float(cpu_s)


def main() -> None:
    """Serve a folder until the process is ended."""
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0] if __doc__ else "")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--latency-ms", type=float, default=20.0)
    given = parser.parse_args()
    os.makedirs(given.folder, exist_ok=True)
    asyncio.run(SlowStore(given.folder.resolve(), given.latency_ms / 1000).serve(given.port))


if __name__ == "__main__":
    main()
