"""The files of a table that is off the list, removed one by one: its folder may have those of others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

from pyiceberg.table.metadata import TableMetadata

from iceblink.lake.served.metadata_files import MetadataFiles
from iceblink.lake.served.refusal import Refusal
from iceblink.lake.served.warehouse import Warehouse


def remove_files(files: MetadataFiles, warehouse: Warehouse, metadata_location: str) -> None:
    """Remove all files that a metadata file names, as far as they can be read; only those inside of the table's folder.

    A client may have put any path at all into a manifest, and the server's keys may remove more than the client's.
    """
    try:
        metadata = files.table(metadata_location)
        folder = warehouse.table_location(metadata.location)
    except Refusal:
        return
    inside = _inside(warehouse, folder)
    for path in [*_named(files, metadata, inside), metadata_location]:
        if inside(path):
            files.remove(path)


def _inside(warehouse: Warehouse, folder: str) -> Callable[[str], bool]:
    def inside(path: str) -> bool:
        try:
            return warehouse.checked(path).startswith(f"{folder}/")
        except Refusal:
            return False

    return inside


def _named(files: MetadataFiles, metadata: TableMetadata, inside: Callable[[str], bool]) -> Iterator[str]:
    io = files.io(metadata.location)
    manifests = set()
    for snapshot in metadata.snapshots:
        if inside(snapshot.manifest_list):
            with suppress(Exception):  # a list that is damaged, or gone: what it named stays
                manifests.update(snapshot.manifests(io))
        yield snapshot.manifest_list
    for manifest in manifests:
        if inside(manifest.manifest_path):
            with suppress(Exception):
                yield from {entry.data_file.file_path for entry in manifest.fetch_manifest_entry(io)}
        yield manifest.manifest_path
    for file in (*metadata.statistics, *metadata.partition_statistics):
        yield file.statistics_path
    yield from (entry.metadata_file for entry in metadata.metadata_log)
