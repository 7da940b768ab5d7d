"""The journal of a job: small files, numbered, each written once and whole, so that any process can go on from them."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from iceblink.errors import CheckpointBusy, ConfigError, DataCorrupt, WriteError
from iceblink.lake.files import NewFile
from iceblink.lake.storage import Storage

LOCK = "lock"
_ENTRY = re.compile(r"\d{5,}\.json")


class Journal:
    """What a job has done, in a folder that is gone when the job is.

    Parameters
    ----------
    storage : Storage
    folder : str
    """

    def __init__(self, storage: Storage, folder: str) -> None:
        self.storage, self.folder = storage, folder
        names = [name for name in self.files() if _ENTRY.fullmatch(name)]
        self.entries = [self._read(name) for name in names]
        self._next = 1 + max((int(name[:-5]) for name in names), default=-1)

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Return the entries of one kind, oldest first."""
        return [entry for entry in self.entries if entry["kind"] == kind]

    def files(self) -> list[str]:
        """Return the names of the files in the folder, sorted."""
        return [path.rpartition("/")[2] for path in self.storage.files(self.folder)]

    def add(self, kind: str, **values: Any) -> None:
        """Write an entry; it is there as a whole or not at all.

        Raises
        ------
        WriteError
        """
        entry = {"kind": kind, **values}
        name = f"{self._next:05d}.json"
        try:
            with self.writing(name) as stream:
                stream.write(json.dumps(packed(entry)).encode())
        except OSError as error:
            hint = "free space there: the job goes on from the entry before"
            raise WriteError(f"cannot write the journal: {error}", f"{self.folder}/{name}", hint) from error
        self.entries.append(entry)
        self._next += 1

    @contextmanager
    def writing(self, name: str) -> Iterator[Any]:
        """Open a new file of the folder; on this machine it has its name only when it is whole, as in object stores."""
        path = f"{self.folder}/{name}"
        if self.storage.local_path(self.folder) is None:
            with self.storage.open_output(path) as stream:
                yield stream
            return
        filesystem, inside = self.storage.filesystem(path)
        unfinished = f"{inside}.unfinished"
        try:
            with filesystem.open_output_stream(unfinished) as stream:
                yield stream
            filesystem.move(unfinished, inside)
        except BaseException:
            self.storage.delete(unfinished)
            raise

    def delete(self, names: list[str]) -> None:
        """Remove files of the folder."""
        for name in names:
            self.storage.delete(f"{self.folder}/{name}")

    def remove(self) -> None:
        """Remove the folder, and the one that it is in when it was the last."""
        filesystem, inside = self.storage.filesystem(self.folder)
        with suppress(FileNotFoundError):  # nothing was written in an object store
            filesystem.delete_dir(inside)
        if (local := self.storage.local_path(self.folder)) is not None:
            with suppress(OSError):  # other jobs are there
                Path(local).parent.rmdir()

    def _read(self, name: str) -> dict[str, Any]:
        path = f"{self.folder}/{name}"
        try:
            entry: dict[str, Any] = unpacked(json.loads(self.storage.read(path)))
            return {"kind": entry["kind"], **entry}
        except (ValueError, TypeError, LookupError) as error:
            hint = f"remove {self.folder} to begin the job anew"
            raise DataCorrupt(f"the journal of a job cannot be read: {error}", path, hint) from error


def folder_name(checkpoint: str) -> str:
    """Return a folder's name for a checkpoint id, whatever characters it has."""
    if not checkpoint:
        raise ConfigError("the checkpoint id is empty", "write", "checkpoint='job-42'")
    readable = re.sub(r"[^A-Za-z0-9_-]+", "_", checkpoint)[:40]
    return f"{readable}-{hashlib.sha256(checkpoint.encode()).hexdigest()[:12]}"


@contextmanager
def held(storage: Storage, folder: str, checkpoint: str) -> Iterator[None]:
    """Hold the job alone; the system lets go of it when this process ends, however it ends.

    Only on file systems of this machine and those that pass locks on: in an object store nothing is locked.

    Raises
    ------
    CheckpointBusy
        Another process, or another thread of this one, is at it.
    WriteError
        No file can be made there.
    """
    local = storage.local_path(folder)
    if local is None:
        yield
        return
    try:
        lock = _locked(Path(local, LOCK), checkpoint)
    except OSError as error:
        hint = "a checkpoint needs a place where files can be made"
        raise WriteError(f"cannot begin a journal: {error.strerror}", folder, hint) from error
    try:
        yield
    finally:
        os.close(lock)


def _locked(path: Path, checkpoint: str) -> int:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # the job before has ended just now, and its folder is gone
            lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(lock), path.stat()):
                    os.truncate(lock, 0)
                    os.write(lock, str(os.getpid()).encode())
                    return lock
            except BlockingIOError:
                holder = os.pread(lock, 32, 0).decode() or "unknown"
                os.close(lock)
                raise CheckpointBusy(
                    f"a write with checkpoint {checkpoint!r} is running, in process {holder}",
                    str(path.parent),
                    "wait for it, or end it: then the same call goes on where it was",
                ) from None
            os.close(lock)


_TAGGED: dict[str, Any] = {
    "bytes": (bytes, lambda value: base64.b64encode(value).decode(), base64.b64decode),
    "decimal": (Decimal, str, Decimal),
    "uuid": (UUID, str, UUID),
    "tuple": (tuple, lambda value: [packed(item) for item in value], lambda given: tuple(map(unpacked, given))),
    "dict": (
        dict,
        lambda value: [[packed(key), packed(item)] for key, item in value.items()],
        lambda given: {unpacked(key): unpacked(item) for key, item in given},
    ),
    "file": (NewFile, lambda value: packed(vars(value)), lambda given: NewFile(**unpacked(given))),
}
"""What JSON has no word for: its type, how it is written, and how it is read."""


def packed(value: Any) -> Any:
    """Return a value as JSON has it, types kept."""
    if isinstance(value, list):
        return [packed(item) for item in value]
    for tag, (kind, written, _) in _TAGGED.items():
        if isinstance(value, kind):
            return {tag: written(value)}
    return value


def unpacked(given: Any) -> Any:
    """Return what `packed` was given."""
    if isinstance(given, list):
        return [unpacked(item) for item in given]
    if isinstance(given, dict):
        ((tag, value),) = given.items()
        return _TAGGED[tag][2](value)
    return given
