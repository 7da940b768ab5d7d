"""A MariaDB of its own: Debian's, in a new folder, with the defaults of its makers: Latin-1, and no case in names."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from servers.processes import Server, free_port, room

DATABASE = "lake"


@contextmanager
def mysql() -> Iterator[str]:
    """Start one, give its URI as SQLAlchemy has it, and end it."""
    with room("mysql") as (folder, owner):
        data, port = folder / "data", free_port()
        for made in (data, data / DATABASE):  # a folder is a database; system tables are for rights
            made.mkdir()
            if owner is not None:
                shutil.chown(made, owner)
        server = Server(
            [
                program("mariadbd"),
                "--no-defaults",
                f"--datadir={data}",
                "--bind-address=127.0.0.1",
                f"--port={port}",
                f"--socket={folder}/socket",
                f"--pid-file={folder}/pid",
                "--skip-grant-tables",
                "--innodb-flush-log-at-trx-commit=0",
                "--innodb-buffer-pool-size=16M",
            ],
            folder.with_suffix(".log"),
            port,
            None,
            owner,
        )
        try:
            server.ready()
            yield f"mysql+pymysql://ice@127.0.0.1:{port}/{DATABASE}"
        finally:
            server.end()


def program(name: str) -> str:
    """Return a program of MariaDB."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        raise RuntimeError(f"no {name}: apt-get install mariadb-server-core")
    return found
