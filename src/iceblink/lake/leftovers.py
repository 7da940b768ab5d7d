"""Killed writes: a marker beside the metadata while a write runs, so that its files can be found and removed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import time
from collections.abc import Collection, Iterable, Sequence
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pyarrow as pa
from pyiceberg.io import FileIO
from pyiceberg.table import Table as IcebergTable

from iceblink.errors import WriteError
from iceblink.lake.reachable import reached
from iceblink.lake.table import Table
from iceblink.mapped import in_threads

MARKER = re.compile(r"iceblink-write-([0-9A-Za-z-]+)\.json")
_SNAPSHOT_FILE = re.compile(r"(?:snap-\d+-\d+-)?([0-9a-f-]{36})(?:-m\d+)?\.avro")
_TOKEN_DIGITS = 16  # of a token, in the names of its manifests: half of what an UUID holds
DELETERS = 16
"""Files deleted at once."""
THREE_DAYS_S = 3 * 24 * 3600.0


def mark_write(table: IcebergTable, token: str, job: str = "") -> None:
    """Say that a write is running: who, where, since when. Its data files begin with `token`.

    `job` is the folder of a journal that names them: while it is there, they may still be wanted.

    Raises
    ------
    WriteError
        Nothing can be written there.
    """
    started = {"token": token, "pid": os.getpid(), "host": socket.gethostname(), "started_s": time.time(), "job": job}
    try:
        with table.io.new_output(_marker(table, token)).create(overwrite=True) as stream:
            stream.write(json.dumps(started).encode())
    except OSError as error:
        hint = "check that its folder may be written, and has space"
        raise WriteError(f"the table cannot be written: {error}", ".".join(table.name()), hint) from None


def commit_id(token: str) -> UUID:
    """Return a new name for the manifests of one try to commit a write, by which they are known as its own."""
    return UUID(hex=token[:_TOKEN_DIGITS] + uuid4().hex[_TOKEN_DIGITS:])


def end_writes(table: IcebergTable, tokens: Iterable[str]) -> None:
    """Take markers away: the files of these writes are in the table, or gone."""
    for token in tokens:
        deleted(table.io, _marker(table, token))


def remove_writes(table: IcebergTable, tokens: Iterable[str], paths: Iterable[str]) -> None:
    """Delete the files of failed writes, then their markers; where a file resists, the markers stay for later."""
    resisting = [path for path in paths if not deleted(table.io, path)]
    if not resisting:
        end_writes(table, tokens)


def remove_uncommitted(table: Table, tokens: Collection[str]) -> None:
    """Remove the data files of killed writes of which no commit was tried, and their markers."""
    remove_writes(table.pyiceberg, tokens, _data_files(table, tokens))


def remove_strays(table: Table, token: str, paths: Collection[str]) -> None:
    """Remove the data files of a write that runs, but for `paths`: its workers that died left them."""
    for path in _data_files(table, [token]):
        if path not in paths:
            deleted(table.pyiceberg.io, path)


def remove_unused(table: Table, tokens: Collection[str]) -> None:
    """Remove what these writes, and tries to commit them, left that no snapshot refers to, and their markers."""
    left = _data_files(table, tokens) + _snapshot_files(table, tokens)
    used = reached(table.refresh()).paths if left else set()
    remove_writes(table.pyiceberg, tokens, [path for path in left if path not in used])


def find_leftovers(table: Table, older_than_s: float = THREE_DAYS_S) -> list[str]:
    """Return the files of writes that began `older_than_s` ago or earlier, never ended, and are not in the table.

    Eager. A write that still runs looks the same as one that was killed: choose an age that no write reaches. What a
    job with a checkpoint has done is no leftover as long as its journal is there.

    Parameters
    ----------
    table : Table
    older_than_s : float
        Age of the write's start [s].

    Returns
    -------
    list of str
        Data files, manifests and manifest lists that no snapshot refers to, then the markers of those writes.
    """
    iceberg = table.refresh().pyiceberg
    oldest = time.time() - older_than_s
    markers = {
        match[1]: path
        for path in table.storage.files(iceberg.location_provider().metadata_path, recursive=False)
        if (match := MARKER.fullmatch(path.rpartition("/")[2])) and _abandoned(table, path, oldest)
    }
    if not markers:
        return []
    files = _data_files(table, markers) + _snapshot_files(table, markers)
    # the metadata is read after the files are listed, so that one committed in between is seen to be in use
    used = reached(table.refresh()).paths if files else set()
    return [path for path in files if path not in used] + list(markers.values())


def remove_leftovers(table: Table, older_than_s: float = THREE_DAYS_S) -> list[str]:
    """Delete what `find_leftovers` finds and return it."""
    return [path for path in find_leftovers(table, older_than_s) if deleted(table.pyiceberg.io, path)]


class RunningWrites:
    """Tells which files belong to writes that may still run, or to jobs that go on later.

    Parameters
    ----------
    table : Table
    began_after : float
        Writes that began before are taken for dead [s since 1970].
    """

    def __init__(self, table: Table, began_after: float) -> None:
        folder = table.pyiceberg.location_provider().metadata_path
        self._tokens: list[str] = []
        for path in table.storage.files(folder):
            match = MARKER.fullmatch(path.rpartition("/")[2])
            if match is not None and not _abandoned(table, path, began_after):
                self._tokens.append(match[1])
        self._tried = {token[:_TOKEN_DIGITS] for token in self._tokens}

    def own(self, name: str) -> bool:
        """Tell whether a file of that name, without its folder, is one of theirs."""
        if any(token in name for token in self._tokens):
            return True
        match = _SNAPSHOT_FILE.fullmatch(name)
        return match is not None and match[1].replace("-", "")[:_TOKEN_DIGITS] in self._tried


def _marker(table: IcebergTable, token: str) -> str:
    return table.location_provider().new_metadata_location(f"iceblink-write-{token}.json")


def _abandoned(table: Table, marker: str, oldest: float) -> bool:
    """Whether a write began before that time and no job wants its files; a marker cut short by the kill is old."""
    started: dict[str, Any] = {}
    try:
        with contextlib.suppress(ValueError), table.pyiceberg.io.new_input(marker).open() as stream:
            started = json.loads(stream.read())
    except FileNotFoundError:  # it ended this very moment
        return False
    if started.get("started_s", 0.0) > oldest:
        return False
    job = started.get("job", "")
    return not job or not table.storage.files(job, recursive=False)


def _data_files(table: Table, tokens: Collection[str]) -> list[str]:
    """Return the data files and delete files that these writes named."""
    if not tokens:
        return []
    names = re.compile(rf"(?:{'|'.join(map(re.escape, tokens))})-[0-9-]+(?:-deletes)?\.(?:parquet|puffin)")
    listed = table.storage.files(table.pyiceberg.location_provider().data_path, recursive=True)
    return [path for path in listed if names.fullmatch(path.rpartition("/")[2])]


def _snapshot_files(table: Table, tokens: Collection[str]) -> list[str]:
    """Return the manifests and manifest lists of tries to commit these writes."""
    tried = {token[:_TOKEN_DIGITS] for token in tokens}
    return [
        path
        for path in table.storage.files(table.pyiceberg.location_provider().metadata_path, recursive=False)
        if (match := _SNAPSHOT_FILE.fullmatch(path.rpartition("/")[2]))
        and match[1].replace("-", "")[:_TOKEN_DIGITS] in tried
    ]


def deleted(io: FileIO, path: str) -> bool:
    """Delete a file; true when it is gone, or was not there."""
    try:
        io.delete(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, pa.ArrowException):
        return False
    return True


def delete_all(io: FileIO, paths: Sequence[str]) -> list[str]:
    """Delete files, several at once and in about this order; return those that resist."""
    gone = in_threads(partial(deleted, io), paths, DELETERS, "iceblink-delete") if paths else iter(())
    return [path for path, done in zip(paths, gone, strict=True) if not done]
