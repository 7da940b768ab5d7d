"""What keeps the tables of a lake healthy: large files, few manifests, no snapshots and files that nobody needs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from iceblink.config import parse_bytes
from iceblink.dataset import Dataset
from iceblink.errors import ConfigError
from iceblink.lake.expiry import Expired, Retention, expire_snapshots
from iceblink.lake.manifest_rewrite import ManifestsRewritten, rewrite_manifests
from iceblink.lake.orphans import ORPHAN_AGE, Orphans, remove_orphans
from iceblink.lake.statistics import Statistics
from iceblink.lake.table import milliseconds
from iceblink.plan.nodes import Memory
from iceblink.run.late import analysis, compaction, health
from iceblink.run.session import Session

if TYPE_CHECKING:
    from iceblink.run.compaction import Compacted

Age = datetime | timedelta | str | int
"""A time, or how long ago: a datetime or ISO text (UTC unless it says otherwise), milliseconds since 1970, a
timedelta."""


class Maintaining:
    """Maintenance of tables; what `Lake` inherits."""

    session: Session

    def compact(
        self,
        name: str,
        *,
        where: Any = None,
        target_size: int | str | None = None,
        sort_by: Sequence[str] | None = None,
        zorder: Sequence[str] = (),
        min_files: int = 5,
        rewrite_all: bool = False,
        partial_progress: bool = False,
        max_commits: int = 10,
        branch: str = "main",
    ) -> Compacted:
        """Rewrite small files into large ones, without the rows that delete files take out; the rows stay the same.

        Eager, in bounded memory, several groups of files at once. Files that are smaller than three quarters of the
        target size, or much larger than it, and those of which rows are deleted, are rewritten, partition by partition
        and in the table's newest partitioning. Delete files that then apply to nothing leave the table. Others may
        write meanwhile: what they append, and rows that they delete by value, are kept; files of which they change or
        delete rows are left as they are.

        Killed at any moment it leaves the table as it was, or as it was after its last commit, and files that
        `remove_orphan_files` finds.

        Parameters
        ----------
        name : str
        where : boolean expression or str, optional
            Only files that may have such rows, by partitions and statistics: ``_.day == date(2026, 1, 31)``, or as SQL,
            ``"day = '2026-01-31'"``.
        target_size : int or str, optional
            Of the new files on disk [bytes, or a text such as ``"512MiB"``]. Default: the table's
            ``write.target-file-size-bytes``, else the engine's ``file_bytes``.
        sort_by : sequence of str, optional
            All files are rewritten, their rows sorted so: ``["day", "-price"]``. Default: a table with a sort order
            keeps it, and only files that are worth it are rewritten. ``[]`` leaves rows unsorted, which is faster.
        zorder : sequence of str, optional
            All files are rewritten, their rows in z-order [1]_ of these columns: who filters by any of them reads few
            files.
        min_files : int
            Fewer small files than this are left, unless they fill a file of the target size.
        rewrite_all : bool
            Rewrite every file, as `sort_by` and `zorder` do: after other properties were set, for instance.
        partial_progress : bool
            Commit as it goes, up to `max_commits` times, instead of once.
        max_commits : int
        branch : str

        Returns
        -------
        Compacted
            What was done: numbers of files, bytes and commits.

        Raises
        ------
        TableNotFound, SnapshotNotFound, ColumnNotFound, TypeMismatch, ConfigError
        WriteError
            The table has columns that are only read, or storage or catalog refused.
        CommitConflict
            Partitioning or columns were changed meanwhile. Nothing was committed.
        DataCorrupt
            A file is missing, cut short or changed. Nothing was committed.

        References
        ----------
        .. [1] Orenstein and Merrett, "A Class of Data Structures for Associative Searching", PODS 1984.
        """
        options = compaction.CompactOptions(
            where=where,
            target_bytes=_size(target_size),
            sort_by=None if sort_by is None else tuple(sort_by),
            zorder=tuple(zorder),
            min_files=min_files,
            rewrite_all=rewrite_all or bool(sort_by or zorder),
            commits=max_commits if partial_progress else 1,
            branch=branch,
        )
        return compaction.compacted(self.session, name, options)

    def expire_snapshots(
        self,
        name: str,
        *,
        older_than: Age | None = None,
        keep_last: int | None = None,
        snapshot_ids: Sequence[int] = (),
        dry_run: bool = False,
    ) -> Expired:
        """Forget old snapshots, and remove the files that only they reach.

        Eager. Heads of branches and tags are kept, as is what a branch's or tag's own properties keep; a branch or tag
        goes when its own maximum age is over. The metadata is committed first: killed after that, files are left that
        `remove_orphan_files` finds.

        Parameters
        ----------
        name : str
        older_than : datetime, timedelta, ISO text or int [ms], optional
            Snapshots before that time go. Default: the table's ``history.expire.max-snapshot-age-ms``, else five days.
        keep_last : int, optional
            At least so many of each branch are kept. Default: ``history.expire.min-snapshots-to-keep``, else one.
        snapshot_ids : sequence of int
            These go in any case.
        dry_run : bool
            Only tell.

        Returns
        -------
        Expired
            Snapshots, and the files removed.

        Raises
        ------
        TableNotFound
        SnapshotNotFound
            One of `snapshot_ids` is not there.
        ConfigError
            A time that cannot be read, a snapshot that a branch or tag is at, or the table's ``gc.enabled`` is false.
        WriteError
            The table has columns that are only read, or the catalog refused.
        DataCorrupt
            A manifest of a snapshot that stays is missing or damaged. Nothing was changed.

        References
        ----------
        .. [1] Iceberg table spec, "Snapshot Retention Policy".
        """
        since_ms = None if older_than is None else _milliseconds(older_than, f"expire_snapshots {name}, older_than")
        table = self.session.catalog.load(name)
        return expire_snapshots(table, Retention(since_ms, keep_last, frozenset(snapshot_ids)), dry_run)

    def remove_orphan_files(
        self, name: str, *, older_than: Age = ORPHAN_AGE, dry_run: bool = False, force: bool = False
    ) -> Orphans:
        """Remove the files in a table's folder that nothing refers to: of killed writes, and of whatever went wrong.

        Eager: lists the folder, and reads all metadata. Kept are files that any snapshot of the table reaches, that
        metadata reached which was current since `older_than`, that writes which run may be making, and what is in the
        folder of another table.

        Parameters
        ----------
        name : str
        older_than : datetime, timedelta, ISO text or int [ms]
            Files changed since are kept, by the clock of their storage. Longer than any write takes.
        dry_run : bool
            Only tell.
        force : bool
            Allow less than a day. Right only when certainly nobody writes.

        Returns
        -------
        Orphans
            The files, and their size.

        Raises
        ------
        TableNotFound
        ConfigError
            Less than a day without `force`, or the table's ``gc.enabled`` is false.
        WriteError
            The folder cannot be written.
        DataCorrupt
            Metadata is missing or damaged, or the listing does not have what it must. Nothing was removed.
        """
        if isinstance(older_than, timedelta):
            age = older_than
        else:
            since_ms = _milliseconds(older_than, f"remove_orphan_files {name}, older_than")
            age = timedelta(milliseconds=time.time() * 1000 - since_ms)
        return remove_orphans(self.session.catalog.load(name), age, dry_run, force)

    def rewrite_manifests(
        self, name: str, *, target_size: int | str | None = None, spec_id: int | None = None
    ) -> ManifestsRewritten:
        """Write few manifests in the place of many, each with a range of partitions, so that scans are planned faster.

        Eager. Data files are not touched. Does nothing where manifests are few and in order.

        Parameters
        ----------
        name : str
        target_size : int or str, optional
            Of a manifest [bytes, or a text such as ``"8MiB"``]. Default: ``commit.manifest.target-size-bytes``, else
            8 MiB.
        spec_id : int, optional
            Only manifests of this partitioning.

        Returns
        -------
        ManifestsRewritten

        Raises
        ------
        TableNotFound, ConfigError
        WriteError
            The table has columns that are only read, or the catalog refused.
        DataCorrupt
            A manifest is missing or damaged. Nothing was committed.
        """
        return rewrite_manifests(self.session.catalog.load(name), _size(target_size), spec_id)

    def compute_statistics(self, name: str, columns: Sequence[str] | None = None) -> Statistics:
        """Count the distinct values of columns, for planners to go by: ours, and those of other engines.

        Eager: one pass over the columns, on this lake's engine, in bounded memory. One commit of metadata, no new
        snapshot; the numbers are of the snapshot that is read here, and stand for later ones until they are computed
        anew. They are theta sketches in a Puffin file [1]_, as Spark's and Trino's are.

        Parameters
        ----------
        name : str
        columns : sequence of str, optional
            Default: all that are neither nested nor tensors. What is known of other columns of the same snapshot
            stays.

        Returns
        -------
        Statistics
            ``distinct`` has the numbers by column: exact up to 4,096, above with a standard error of 1/64. Nulls and,
            as in all engines, empty texts are not counted.

        Raises
        ------
        TableNotFound, ColumnNotFound
        TypeMismatch
            A column is nested, or a tensor.
        ConfigError
            The table is empty.
        SnapshotNotFound
            The snapshot that was read expired meanwhile.
        WriteError, CommitConflict, CommitUnknown
        DataCorrupt
            A data file is missing, cut short or changed. Nothing was committed.

        References
        ----------
        .. [1] Iceberg Puffin spec, "apache-datasketches-theta-v1 blob type".
        """
        return analysis.computed(self.session, name, columns)

    def health(self, name: str, *, orphans: bool = False) -> Dataset:
        """Return how a table is: a row for each check, with a verdict and the call that would mend it.

        Eager in metadata; no data is read, but for position deletes.

        Parameters
        ----------
        name : str
        orphans : bool
            Look for files that nothing refers to as well: lists the table's folder.

        Returns
        -------
        Dataset
            ``check``, ``value``, ``verdict`` (``good`` or ``act``), ``detail``, ``mend``.

        Raises
        ------
        TableNotFound, DataCorrupt
        """
        rows = health.health(self.session, name, orphans)
        return Dataset(Memory(rows.schema, rows, label="health"), self.session)


def _size(given: int | str | None) -> int | None:
    return parse_bytes(given, "target_size") if isinstance(given, str) else given


def _milliseconds(given: Age, where: str) -> int:
    if isinstance(given, timedelta):
        return int((time.time() - given.total_seconds()) * 1000)
    if isinstance(given, bool):
        raise ConfigError(f"{given} is no time", where, "give a datetime, or timedelta(days=3)")
    return milliseconds(given, where)
