"""Which files the snapshots of a table reach: manifest lists, manifests, data files and delete files."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from functools import partial

from pyiceberg.manifest import ManifestFile
from pyiceberg.table.snapshots import Snapshot

from iceblink.errors import DataCorrupt
from iceblink.lake.manifest_files import Origin, read_manifest, read_manifest_list
from iceblink.lake.manifests import READERS, origin_of
from iceblink.lake.table import Table
from iceblink.mapped import in_threads


@dataclass(frozen=True)
class Content:
    """A data file or a delete file.

    Parameters
    ----------
    file_bytes : int
        Size on disk [bytes].
    deletes : bool
        Whether it is a delete file.
    """

    file_bytes: int
    deletes: bool


@dataclass(frozen=True)
class Reached:
    """What snapshots reach, by path."""

    lists: set[str] = field(default_factory=set)
    manifests: dict[str, tuple[ManifestFile, Origin]] = field(default_factory=dict)
    content: dict[str, Content] = field(default_factory=dict)

    @property
    def paths(self) -> set[str]:
        """All of it."""
        return self.lists | self.manifests.keys() | self.content.keys()


def reached(table: Table, snapshots: Iterable[Snapshot] | None = None) -> Reached:
    """Return what `snapshots` reach, by default all that the table's metadata has.

    Eager: reads each manifest once. Raises DataCorrupt where one is missing or damaged.
    """
    found = listed_in(table, table.pyiceberg.metadata.snapshots if snapshots is None else snapshots)
    read_content(found)
    return found


def listed_in(
    table: Table, snapshots: Iterable[Snapshot], without: Collection[str] = (), complete: bool = True
) -> Reached:
    """Return the manifest lists and manifests that `snapshots` reach; no manifest is read.

    Parameters
    ----------
    table : Table
    snapshots : iterable of Snapshot
    without : collection of str
        Manifests that are left out.
    complete : bool
        Whether a list that cannot be read is an error; else it is passed over.

    Raises
    ------
    DataCorrupt
    """
    found = Reached()
    for snapshot in snapshots:
        found.lists.add(snapshot.manifest_list)
        origin = origin_of(table, snapshot)
        try:
            manifests = read_manifest_list(snapshot.manifest_list, origin)
        except DataCorrupt:
            if complete:
                raise
            continue
        found.manifests.update(
            {one.manifest_path: (one, origin) for one in manifests if one.manifest_path not in without}
        )
    return found


def read_content(found: Reached, complete: bool = True) -> None:
    """Read the manifests, and add the files that they say are live; `complete` as for `listed_in`."""
    reading = list(found.manifests.values())
    for content in in_threads(partial(_content, complete), reading, READERS, "iceblink-manifests") if reading else ():
        found.content.update(content)


def _content(complete: bool, listed: tuple[ManifestFile, Origin]) -> dict[str, Content]:
    try:
        entries = read_manifest(*listed)
    except DataCorrupt:
        if complete:
            raise
        return {}
    return {
        entry.data_file.file_path: Content(entry.data_file.file_size_in_bytes, bool(entry.data_file.content))
        for entry in entries
    }
