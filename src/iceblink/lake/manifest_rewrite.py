"""Few manifests in the place of many, their entries in the order of partitions, so that planning reads few of them.

References
----------
.. [1] Iceberg table spec, "Manifests", "Manifest Lists", "Scan Planning".
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from uuid import uuid4

from pyiceberg.conversions import from_bytes
from pyiceberg.manifest import ManifestEntry, ManifestFile
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table as IcebergTable
from pyiceberg.table import Transaction
from pyiceberg.transforms import VoidTransform
from pyiceberg.types import PrimitiveType

from iceblink.lake.commit import Commit
from iceblink.lake.file_format import number
from iceblink.lake.format_version import check_writable
from iceblink.lake.leftovers import commit_id, mark_write
from iceblink.lake.manifest_files import read_manifest_list
from iceblink.lake.manifests import origin_of
from iceblink.lake.position import TOKEN
from iceblink.lake.pruning import partition_values
from iceblink.lake.rewrite_snapshot import (
    MANIFEST_BYTES,
    MANIFEST_BYTES_DEFAULT,
    Kind,
    Manifests,
    existing,
    writable_specs,
)
from iceblink.lake.table import Table


@dataclass(frozen=True)
class ManifestsRewritten:
    """What a rewrite of manifests did.

    Parameters
    ----------
    table : str
    manifests_before, manifests_after : int
        All manifests of the table.
    entries : int
        Files listed in those that were rewritten.
    """

    table: str
    manifests_before: int = 0
    manifests_after: int = 0
    entries: int = 0

    def __str__(self) -> str:
        return f"{self.table}: {self.manifests_before:,} manifests became {self.manifests_after:,}"


def rewrite_manifests(table: Table, target_bytes: int | None = None, spec_id: int | None = None) -> ManifestsRewritten:
    """Cluster the entries of a table's manifests; see `Lake.rewrite_manifests`."""
    check_writable(table)
    before = _listed(table)
    size = _target(table, target_bytes)
    if not _due(table.pyiceberg, before, size, spec_id):
        return ManifestsRewritten(table.name, len(before), len(before))
    token = uuid4().hex
    mark_write(table.pyiceberg, token)
    commit = _ManifestCommit(table, token, size, spec_id)
    after = commit.run()
    return ManifestsRewritten(table.name, len(before), len(_listed(after)), commit.entries)


def worth_rewriting(table: Table) -> tuple[int, int]:
    """Return how many manifests there are, and how many of them `rewrite_manifests` would rewrite."""
    listed = _listed(table)
    due = _due(table.pyiceberg, listed, _target(table, None), None)
    return len(listed), sum(len(manifests) for manifests in due.values())


def _target(table: Table, asked: int | None) -> int:
    return asked or number(table.properties, MANIFEST_BYTES, MANIFEST_BYTES_DEFAULT)


def _listed(table: Table) -> list[ManifestFile]:
    snapshot = table.snapshot
    return [] if snapshot is None else read_manifest_list(snapshot.manifest_list, origin_of(table, snapshot))


def _due(
    table: IcebergTable, listed: list[ManifestFile], target_bytes: int, spec_id: int | None
) -> dict[Kind, list[ManifestFile]]:
    """Return the manifests that are too many, or whose partitions overlap, by kind."""
    usable = writable_specs(table.metadata)
    kinds: dict[Kind, list[ManifestFile]] = defaultdict(list)
    for manifest in listed:
        if manifest.partition_spec_id in usable and spec_id in (None, manifest.partition_spec_id):
            kinds[manifest.partition_spec_id, manifest.content].append(manifest)
    return {
        kind: manifests
        for kind, manifests in kinds.items()
        if len(manifests) > max(1, math.ceil(sum(one.manifest_length for one in manifests) / target_bytes))
        or _overlap(manifests, table.specs()[kind[0]], usable[kind[0]])
    }


def _overlap(manifests: list[ManifestFile], spec: PartitionSpec, schema: Schema) -> bool:
    """Tell whether values of the first partition field are in several manifests that have others between them."""
    place = next((at for at, one in enumerate(spec.fields) if not isinstance(one.transform, VoidTransform)), None)
    if place is None or len(manifests) < 2:
        return False
    kind = spec.partition_type(schema).fields[place].field_type
    assert isinstance(kind, PrimitiveType), "partition values are never nested"
    ranges = []
    for manifest in manifests:
        summary = (manifest.partitions or [])[place] if manifest.partitions else None
        if summary is not None and summary.lower_bound is not None and summary.upper_bound is not None:
            ranges.append((from_bytes(kind, summary.lower_bound), from_bytes(kind, summary.upper_bound)))
    ranges.sort()
    return any(upper > lower for (_, upper), (lower, _) in pairwise(ranges))


class _ManifestCommit(Commit):
    """Makes the snapshot of a rewrite, of the manifests as they are at the moment of the commit."""

    def __init__(self, table: Table, token: str, target_bytes: int, spec_id: int | None) -> None:
        super().__init__(table, token)
        self.entries = 0
        self._target_bytes, self._spec_id = target_bytes, spec_id
        self._snapshot = True

    def _stage_snapshot(self, transaction: Transaction, head: IcebergTable) -> None:
        newest = Table.latest(self._table.catalog, self._table.name, head)
        due = _due(head, _listed(newest), self._target_bytes, self._spec_id)
        if newest.snapshot is None or not due:
            return
        producer = _Clustered(
            transaction, head.io, {TOKEN: self.token}, self._branch, origin_of(newest, newest.snapshot)
        )
        producer.cluster(due, self._target_bytes)
        producer.commit_uuid = commit_id(self.token)
        producer.commit()
        self.entries = producer.entries

    def _writes(self) -> set[str]:
        return {self.token}


class _Clustered(Manifests):
    """The same files in manifests that each have a range of partitions."""

    entries = 0

    def cluster(self, due: dict[Kind, list[ManifestFile]], target_bytes: int) -> None:
        """Say which manifests are rewritten, and how large the new ones are [bytes]."""
        self._due, self._manifest_bytes = due, target_bytes

    def _rewritten(self, listed: list[ManifestFile]) -> list[ManifestFile]:
        replaced = {manifest.manifest_path for manifests in self._due.values() for manifest in manifests}
        kept = [manifest for manifest in listed if manifest.manifest_path not in replaced]
        made: list[ManifestFile] = []
        for kind, manifests in self._due.items():
            entries = sorted((entry for manifest in manifests for entry in self._read(manifest)), key=_place)
            self.entries += len(entries)
            made += self._write(kind, entries, existing)
        self.snapshot_properties |= {
            "manifests-created": str(len(made)),
            "manifests-kept": str(len(kept)),
            "manifests-replaced": str(len(replaced)),
            "entries-processed": str(self.entries),
        }
        return made + kept


def _place(entry: ManifestEntry) -> tuple[Any, ...]:
    """Return what entries are sorted by: their partition, null first and NaN last, then their path."""
    values = partition_values(entry.data_file)
    return (
        *((0, 0) if one is None else (2, 0) if one != one else (1, one) for one in values),
        entry.data_file.file_path,
    )
