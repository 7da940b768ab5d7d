"""The files of a table: those that its snapshots reach, as PyIceberg has it, and those that are there."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def reachable(table: Any) -> set[str]:
    """Return all that the snapshots of a PyIceberg table reach: manifest lists, manifests, data and delete files."""
    paths = set()
    for snapshot in table.metadata.snapshots:
        paths.add(snapshot.manifest_list)
        for manifest in snapshot.manifests(table.io):
            paths.add(manifest.manifest_path)
            paths |= {entry.data_file.file_path for entry in manifest.fetch_manifest_entry(table.io)}
    return paths


def on_disk(table: Any) -> set[str]:
    """Return such files that are in the table's folder."""
    folder = Path(table.location())
    return {str(path) for kind in ("*.avro", "*.parquet") for path in folder.rglob(kind)}


def inside(table: Any, paths: set[str]) -> set[str]:
    """Return of some files those that are in the table's folder, and not others' that were added to it."""
    return {path for path in paths if path.startswith(f"{table.location()}/")}


def strangers(table: Any) -> set[str]:
    """Return what else is in the folder of metadata beside what the table knows: markers, metadata of failed tries."""
    known = {table.metadata_location, *(entry.metadata_file for entry in table.metadata.metadata_log)}
    others = (path for path in Path(table.location(), "metadata").iterdir() if path.suffix != ".avro")
    return {str(path) for path in others} - known
