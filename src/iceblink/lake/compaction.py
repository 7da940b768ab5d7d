"""The commit of a compaction: groups of files are replaced by others of the same rows, each whole or not at all.

What others do meanwhile is never lost. Appended files stay beside the new ones. A group is left out, and its new files
are removed, when one of its old files is no longer in the table, when deletes that were applied to it are not there any
more (a rollback), or when rows of it were deleted by position: the new files have these rows at other places. Equality
deletes apply to the new files as they did to the old, by sequence number, unless the partitioning is another one.

References
----------
.. [1] Iceberg table spec, "Scan Planning", "Sequence Numbers" and "Snapshots" (operation ``replace``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Self

from pyiceberg.manifest import DataFileContent, ManifestEntry
from pyiceberg.table import Table as IcebergTable
from pyiceberg.table import Transaction
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER

from iceblink.lake.commit import Commit
from iceblink.lake.deletes import OFFSET
from iceblink.lake.entries import DeleteFile, FileEntry
from iceblink.lake.files import NewFile
from iceblink.lake.leftovers import commit_id, remove_writes
from iceblink.lake.manifests import origin_of
from iceblink.lake.position import TOKEN
from iceblink.lake.rewrite_snapshot import FilesReplaced
from iceblink.lake.snapshot_files import removed_files
from iceblink.lake.table import Table

TARGET_BYTES = "write.target-file-size-bytes"

PATIENCE_S = 600.0
"""Other writers are faster, and what was rewritten may be the work of hours: try for so long [s]."""

DeleteKey = tuple[str, int]
"""A delete file, or a blob in one: path and offset."""
Idle = tuple[str, str]
"""A data file, and a position delete file that may apply to it and is known not to name it: their paths."""


@dataclass(frozen=True, eq=False)
class Rewritten:
    """Files, as the version that was read has them, and those that have their rows now.

    Parameters
    ----------
    old : tuple of FileEntry
        With the deletes that were applied.
    new : tuple of NewFile
        Empty where all rows were deleted.
    """

    old: tuple[FileEntry, ...]
    new: tuple[NewFile, ...]

    @property
    def paths(self) -> frozenset[str]:
        """Where the old files are."""
        return frozenset(file.path for file in self.old)


@dataclass
class _Survey:
    """What a version of the table has: deletes of the files asked for, and all deletes that other files need."""

    deletes: dict[str, dict[DeleteKey, DeleteFile]] = field(default_factory=dict)
    needed: set[DeleteKey] = field(default_factory=set)

    @classmethod
    def of(cls, files: Iterable[FileEntry], asked: frozenset[str], idle: frozenset[Idle]) -> Self:
        survey = cls()
        for file in files:
            if file.path in asked:
                survey.deletes[file.path] = _by_key(file.deletes)
            else:
                survey.needed.update(_by_key(one for one in file.deletes if (file.path, one.path) not in idle))
        return survey

    def allows(self, group: Rewritten, spec_id: int) -> bool:
        """Tell whether the new files of a group, written for a spec, still say what its old ones do."""
        return all(self._allows(file, spec_id) for file in group.old)

    def _allows(self, file: FileEntry, spec_id: int) -> bool:
        now, applied = self.deletes.get(file.path), _by_key(file.deletes)
        if now is None or not applied.keys() <= now.keys():
            return False
        since = [delete for key, delete in now.items() if key not in applied]
        return all(delete.kind == "equality" and file.spec_id == spec_id for delete in since)


class Compaction(Commit):
    """Puts the new files of groups in the place of the old ones, in one snapshot of operation ``replace``.

    Parameters
    ----------
    table : Table
        The version whose files were rewritten.
    groups : sequence of Rewritten
    token : str
        Of the write that made the new files.
    idle : frozenset of Idle
        Delete files that files which stay do not need, though they may seem to.
    """

    def __init__(
        self, table: Table, groups: Sequence[Rewritten], token: str, idle: frozenset[Idle] = frozenset()
    ) -> None:
        super().__init__(table, token, PATIENCE_S)
        self._idle = idle
        self.groups, self.left_out = list(groups), list[Rewritten]()
        """What was replaced, once `run` is done, and what others were in the way of."""
        self.delete_files_removed = 0
        """Delete files that applied to nothing any more."""
        self._tokens = {token, *(file.token for group in groups for file in group.new)}
        self._files = [file for group in groups for file in group.new]
        self._remove = frozenset().union(*(group.paths for group in groups))
        self._snapshot = True

    def _stage_snapshot(self, transaction: Transaction, head: IcebergTable) -> None:
        newest = Table.latest(self._table.catalog, self._table.name, head)
        newest = newest if self._branch == "main" else newest.at(branch=self._branch)
        spec_id = transaction.table_metadata.default_spec_id
        seen = _Survey.of(newest.files(), frozenset(self._remove or ()), self._idle)
        fitting = {group for group in self.groups if seen.allows(group, spec_id)}
        if not fitting or newest.snapshot is None:
            return
        for group in set(self.groups) - fitting:  # their files stay where they are, and need their deletes
            for path in group.paths:
                seen.needed.update(seen.deletes.get(path, ()))
        read_at = self._table.snapshot
        sequence = None if read_at is None or head.metadata.format_version < 2 else read_at.sequence_number
        producer = FilesReplaced(
            transaction, head.io, {TOKEN: self.token}, self._branch, origin_of(newest, newest.snapshot)
        )
        producer.replace(
            leaving=(path for group in fitting for path in group.paths),
            coming=(file.data_file() for group in self.groups if group in fitting for file in group.new),
            sequence=sequence,
            unneeded=partial(_unneeded, seen.needed, sequence or 0),
        )
        producer.commit_uuid = commit_id(self.token)
        producer.commit()

    def _landing(self) -> IcebergTable:
        head = super()._landing()
        landed = self._landed(head)  # the snapshot says it: a try that was thought to have failed may be the one
        gone = set() if landed is None else removed_files(head, landed)
        replaced = [group for group in self.groups if group.paths <= gone]
        self.left_out += [group for group in self.groups if not group.paths <= gone]
        remove_writes(head, (), [file.path for group in self.left_out for file in group.new])
        self.groups = replaced
        self._files = [file for group in replaced for file in group.new]
        self._remove = frozenset().union(*(group.paths for group in replaced))
        if landed is not None and landed.summary is not None:
            self.delete_files_removed = int(landed.summary.get("removed-delete-files") or 0)
        return head

    def _writes(self) -> set[str]:
        return self._tokens


def rewritten_as(table: Table, file_bytes: int, in_table_order: bool) -> Table:
    """Return `table` for a writer that fills one file after the other up to a size of ours.

    Parameters
    ----------
    table : Table
    file_bytes : int
        Size on disk at which a file is closed [bytes].
    in_table_order : bool
        Whether files say that their rows are in the table's sort order.
    """
    iceberg = table.pyiceberg
    metadata = iceberg.metadata
    changed: dict[str, object] = {"properties": {**metadata.properties, TARGET_BYTES: str(file_bytes)}}
    if not in_table_order:
        others = [order for order in metadata.sort_orders if order.order_id != UNSORTED_SORT_ORDER.order_id]
        changed |= {
            "sort_orders": [*others, UNSORTED_SORT_ORDER],
            "default_sort_order_id": UNSORTED_SORT_ORDER.order_id,
        }
    made = IcebergTable(
        iceberg.name(), metadata.model_copy(update=changed), iceberg.metadata_location, iceberg.io, iceberg.catalog
    )
    return replace(table, pyiceberg=made)


def _by_key(deletes: Iterable[DeleteFile]) -> dict[DeleteKey, DeleteFile]:
    return {(delete.path, delete.offset): delete for delete in deletes}


def _unneeded(needed: set[DeleteKey], sequence: int, entry: ManifestEntry) -> bool:
    """Tell whether a delete file applies to nothing any more.

    Positions are those of old files: of new ones, whose names did not exist, no delete file can tell any.
    """
    file = entry.data_file
    if (file.file_path, file[OFFSET] or 0) in needed:
        return False
    return file.content != DataFileContent.EQUALITY_DELETES or (entry.sequence_number or 0) <= sequence
