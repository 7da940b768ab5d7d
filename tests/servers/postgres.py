"""A PostgreSQL of its own: Debian's, in a new folder, run by an ordinary user as it insists."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from servers.processes import Server, free_port, room

USER = "ice"


@contextmanager
def postgres() -> Iterator[str]:
    """Start one, give its URI as SQLAlchemy has it, and end it."""
    with room("postgres") as (folder, owner):
        data, port = folder / "data", free_port()
        made = [program("initdb"), "-D", str(data), "-U", USER, "--auth=trust", "--no-sync", "--encoding=UTF8"]
        subprocess.run(made, check=True, capture_output=True, user=owner, cwd="/")
        options = ["-h", "127.0.0.1", "-p", str(port), "-k", str(folder), "-F"]
        server = Server(
            [program("postgres"), "-D", str(data), *options],
            folder.with_suffix(".log"),
            port,
            None,
            owner,
            signal.SIGINT,
        )
        try:
            server.ready()
            yield f"postgresql+psycopg2://{USER}@127.0.0.1:{port}/postgres"
        finally:
            server.end()


def program(name: str) -> str:
    """Return a program of PostgreSQL; Debian keeps them by version."""
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    found = shutil.which(name) or (str(versions[-1]) if versions else None)
    if found is None:
        raise RuntimeError(f"no {name}: apt-get install postgresql")
    return found
