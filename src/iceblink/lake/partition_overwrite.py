"""Which live files a dynamic overwrite takes out: those in the partitions that new files fall in."""

from __future__ import annotations

from collections.abc import Iterable

from pyiceberg.manifest import ManifestContent

from iceblink.errors import ConfigError
from iceblink.lake.files import NewFile
from iceblink.lake.leftovers import remove_writes
from iceblink.lake.partition import comparable
from iceblink.lake.table import Table


def partition_files(table: Table, files: Iterable[NewFile]) -> set[str]:
    """Return the paths of live data files whose partition is that of any of `files`, whatever its transforms.

    Eager: reads the manifests. Should it fail, `files` are removed: they can no longer be committed.

    Raises
    ------
    ConfigError
        The table is not partitioned, or holds files of an older partitioning, whose partitions cannot be compared.
    """
    written = list(files)
    try:
        return _same_partitions(table, written)
    except BaseException:
        remove_writes(table.pyiceberg, {file.token for file in written}, [file.path for file in written])
        raise


def _same_partitions(table: Table, files: list[NewFile]) -> set[str]:
    iceberg = table.pyiceberg
    spec = iceberg.spec()
    if spec.is_unpartitioned():
        raise ConfigError("the table has no partitions to overwrite", table.name, "overwrite it whole, or by a filter")
    partitions = {comparable(file.partition) for file in files}
    snapshot = table.snapshot
    manifests = snapshot.manifests(iceberg.io) if snapshot is not None and partitions else []
    found = set()
    for manifest in manifests:
        if manifest.content is not ManifestContent.DATA:
            continue
        for entry in manifest.fetch_manifest_entry(iceberg.io, discard_deleted=True):
            if manifest.partition_spec_id != spec.spec_id:
                raise ConfigError(
                    f"{entry.data_file.file_path} was written under an older partitioning",
                    table.name,
                    "overwrite by a filter instead, or rewrite the old files first",
                )
            record = entry.data_file.partition
            if comparable(record[position] for position in range(len(record))) in partitions:
                found.add(entry.data_file.file_path)
    return found
