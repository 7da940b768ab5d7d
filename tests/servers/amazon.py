"""S3 and Glue of `moto`: one process that keeps all in memory, and whose S3 has a clock of its own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyarrow.fs import S3FileSystem

from servers.processes import Server, free_port

BUCKET = "lake"
MOTO = Path(__file__).with_name("moto_with_clock.py")
KEY, SECRET = "reader", "not-to-be-shown-anywhere"


@contextmanager
def amazon(folder: Path) -> Iterator[str]:
    """Start one with an empty bucket, give its endpoint, and end it; `set_clock` sets the clock of its S3."""
    port = free_port()
    set_clock(folder, 0)
    command = [sys.executable, str(MOTO), str(_clock(folder)), "-H", "127.0.0.1", "-p", str(port)]
    server = Server(command, folder / "moto.log", port)
    try:
        server.ready()
        endpoint = f"http://127.0.0.1:{port}"
        made = S3FileSystem(
            endpoint_override=endpoint,
            access_key=KEY,
            secret_key=SECRET,
            region="us-east-1",
            allow_bucket_creation=True,
        )
        made.create_dir(BUCKET)
        yield endpoint
    finally:
        server.end()


def set_clock(folder: Path, ahead_s: float) -> None:
    """Let the clock of the S3 that was started in `folder` be so far ahead of that of this machine [s]."""
    new = _clock(folder).with_suffix(".new")
    new.write_text(str(ahead_s))
    new.replace(_clock(folder))  # whoever reads it finds the old one or the new one


def _clock(folder: Path) -> Path:
    return folder / "clock"


def s3(endpoint: str) -> dict[str, str]:
    """Return the properties of a lake whose files are there."""
    return {
        "s3.endpoint": endpoint,
        "s3.access-key-id": KEY,
        "s3.secret-access-key": SECRET,
        "warehouse": f"s3://{BUCKET}/warehouse",
    }


def glue(endpoint: str) -> dict[str, str]:
    """Return the properties of a catalog in Glue."""
    return {
        "type": "glue",
        "glue.endpoint": endpoint,
        "glue.region": "us-east-1",
        "glue.access-key-id": KEY,
        "glue.secret-access-key": SECRET,
    }
