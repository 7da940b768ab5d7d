"""Files in a table's folder that nothing refers to, and that no running write can be making.

Whatever is not certain keeps a file. Ages are told by the clock of the store, which a small file written now tells. A
write of ours that runs has a marker. Metadata that was current within the age is looked at too: readers may have it.

References
----------
.. [1] Apache Iceberg documentation, "Maintenance", "Delete orphan files".
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from urllib.parse import unquote
from uuid import uuid4

import pyarrow.fs as pafs
from pyiceberg.table import Table as IcebergTable

from iceblink.config import MIB
from iceblink.errors import ConfigError, DataCorrupt, IceblinkError, WriteError
from iceblink.lake.expiry import check_garbage
from iceblink.lake.late import views
from iceblink.lake.leftovers import RunningWrites, delete_all, deleted
from iceblink.lake.reachable import listed_in, reached, read_content
from iceblink.lake.table import Table

WHERE = "remove_orphan_files"
LEAST_AGE, ORPHAN_AGE = timedelta(days=1), timedelta(days=3)
"""Of files that are removed: what may be asked for without force, and what is meant where nothing is said."""
_METADATA = re.compile(r"(.*)/metadata/[^/]+\.metadata\.json(?:\.gz)?", re.DOTALL)
_PLACE = re.compile(r"[a-z][a-z0-9+.-]*:(?://[^/]*)?", re.IGNORECASE)
_KEPT_NAMES = {"version-hint.text"}
"""What other engines keep beside the metadata."""


@dataclass(frozen=True)
class Orphans:
    """Files that nothing refers to.

    Parameters
    ----------
    table : str
    files : tuple of str
    file_bytes : int
        Their size [bytes].
    kept_files : int
        Of these, files that could not be removed.
    """

    table: str
    files: tuple[str, ...] = field(default=(), repr=False)
    file_bytes: int = 0
    kept_files: int = 0

    def __str__(self) -> str:
        text = f"{self.table}: {len(self.files):,} orphan files of {self.file_bytes / MIB:,.1f} MiB"
        return f"{text}, {self.kept_files:,} could not be removed" if self.kept_files else text


def remove_orphans(table: Table, age: timedelta, dry_run: bool = False, force: bool = False) -> Orphans:
    """Remove, or only find, files of a table that nothing refers to; see `Lake.remove_orphan_files`."""
    check_garbage(table, WHERE)
    if age < LEAST_AGE and not force:
        raise ConfigError(
            f"older_than is {age}: a write that runs may have files of that age",
            f"{WHERE} {table.name}",
            "give a day or more, or force=True if certainly nobody writes",
        )
    oldest_s = _now_s(table) - age.total_seconds()
    # in this order: a file that is there now is one of a write that runs after that, or the metadata read last has it
    found = list(_listing(table))
    running = RunningWrites(table, oldest_s)
    own, metadata_file = f"{_key(table.location).rstrip('/')}/", _key(table.pyiceberg.metadata_location)
    if metadata_file.startswith(own) and metadata_file not in {_key(one.path) for one in found}:
        raise DataCorrupt(
            "the table's folder does not have its metadata file: its paths are written in another way there",
            f"{WHERE} {table.name}, {table.location}",
            "nothing was removed",
        )
    table = table.refresh()
    used = _Used(table, oldest_s)
    strangers = tuple({*_nested(own, found), *_others(table, own), *map(_key, views.view_files(table.catalog))})
    orphans = [
        one
        for one in found
        if one.modified_s <= oldest_s  # some clocks tick a few times in 10 ms only
        and not used.has(one.path)
        and not running.own(one.name)
        and one.name not in _KEPT_NAMES
        and not _hidden(one.path, table.location)
        and not _key(one.path).startswith(strangers)
    ]
    report = Orphans(table.name, tuple(one.path for one in orphans), sum(one.file_bytes for one in orphans))
    if dry_run:
        return report
    return replace(report, kept_files=len(delete_all(table.pyiceberg.io, report.files)))


@dataclass(frozen=True)
class _Listed:
    """A file as the store tells of it; where that has no time, it is new."""

    path: str
    file_bytes: int
    modified_s: float

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


def _listing(table: Table) -> Iterator[_Listed]:
    """List the table's folder, named as its metadata names it."""
    folder = table.location.rstrip("/")
    filesystem, inner = table.storage.filesystem(folder)
    found = filesystem.get_file_info(pafs.FileSelector(inner, allow_not_found=True, recursive=True))
    for info in found:
        if info.is_file:
            modified_s = time.time() if info.mtime_ns is None else info.mtime_ns / 1e9
            yield _Listed(folder + info.path[len(inner) :], info.size or 0, modified_s)


def _now_s(table: Table) -> float:
    """Return the time by the store's clock, or ours if that is behind [s since 1970]."""
    io = table.pyiceberg.io
    path = table.pyiceberg.location_provider().new_metadata_location(f"iceblink-clock-{uuid4().hex}.txt")
    try:
        with io.new_output(path).create(overwrite=True) as stream:
            stream.write(b"what time is it?")
        filesystem, inner = table.storage.filesystem(path)
        told = filesystem.get_file_info(inner).mtime_ns
    except OSError as error:
        hint = "check that its folder may be written"
        raise WriteError(f"the clock of the store cannot be read: {error}", f"{WHERE} {table.name}", hint) from None
    finally:
        deleted(io, path)
    return time.time() if told is None else min(time.time(), told / 1e9)


class _Used:
    """Which files the metadata refers to: as it is, and as it was at any time since `since_s`."""

    def __init__(self, table: Table, since_s: float) -> None:
        metadata = table.pyiceberg.metadata
        log = [(entry.metadata_file, entry.timestamp_ms / 1000) for entry in metadata.metadata_log]
        paths = {table.pyiceberg.metadata_location, *(path for path, _ in log)} | reached(table).paths
        paths |= {one.statistics_path for one in (*metadata.statistics, *metadata.partition_statistics)}
        known = {snapshot.snapshot_id for snapshot in metadata.snapshots}
        # each was current until the next one was written
        ended = [*(when for _, when in log), metadata.last_updated_ms / 1000][1:]
        for (path, _), until_s in zip(log, ended, strict=True):
            if until_s >= since_s:
                paths |= _reached_then(table, path, known)
        self._keys = {_key(path) for path in paths} | {_key(unquote(path)) for path in paths}

    def has(self, path: str) -> bool:
        return _key(path) in self._keys


def _reached_then(table: Table, metadata_file: str, known: set[int]) -> set[str]:
    """Return what an older metadata file reaches beside `known` snapshots; of files that are gone, what is left."""
    then: IcebergTable | None = None
    with suppress(Exception):  # it may be gone or damaged: nobody can read by it then
        then = table.catalog.load_from(table.name, metadata_file, table.pyiceberg.io)
    if then is None:
        return set()
    found = listed_in(table, [one for one in then.metadata.snapshots if one.snapshot_id not in known], complete=False)
    known |= {snapshot.snapshot_id for snapshot in then.metadata.snapshots}
    read_content(found, complete=False)
    statistics = (*then.metadata.statistics, *then.metadata.partition_statistics)
    return found.paths | {one.statistics_path for one in statistics}


def _nested(own: str, found: Iterable[_Listed]) -> Iterator[str]:
    """Yield the folders inside of `own` that look like a table's, as keys that end in a slash."""
    for one in found:
        match = _METADATA.fullmatch(_key(one.path))
        if match is not None and f"{match[1]}/" != own:
            yield f"{match[1]}/"


def _others(table: Table, own: str) -> Iterator[str]:
    """Yield the folders of the catalog's other tables that are inside of `own`, or data folders that have it inside."""
    for name in table.catalog.tables():
        if name == table.name:
            continue
        with suppress(IceblinkError):  # a damaged one is known by its folder
            other = table.catalog.load(name).pyiceberg
            places = other.location_provider()
            location, *rest = (
                f"{_key(folder).rstrip('/')}/" for folder in (other.location(), places.data_path, places.metadata_path)
            )
            yield from (folder for folder in (location, *rest) if folder.startswith(own))
            yield from (folder for folder in rest if own.startswith(folder))


def _hidden(path: str, location: str) -> bool:
    """Tell whether a file, or a folder around it that is no partition, is hidden by its name, as Hadoop has it."""
    parts = path[len(location.rstrip("/")) :].strip("/").split("/")
    return any(part.startswith((".", "_")) and "=" not in part for part in parts)


def _key(path: str) -> str:
    """Return a path without what may be written in several ways: scheme, host or bucket, doubled slashes."""
    return re.sub("/+", "/", _PLACE.sub("", path, count=1))
