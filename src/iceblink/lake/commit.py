"""One write, one snapshot: files, schema and properties go into a table together, once, whatever others do."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from copy import copy
from functools import cached_property
from typing import Any, Self
from uuid import uuid4

import pyarrow as pa
from pyiceberg.exceptions import (
    CommitFailedException,
    NoSuchTableError,
    RESTError,
    TableAlreadyExistsError,
    ValidationException,
)
from pyiceberg.expressions import AlwaysTrue
from pyiceberg.manifest import DataFile
from pyiceberg.table import StagedTable, Transaction
from pyiceberg.table import Table as IcebergTable
from pyiceberg.table.snapshots import Snapshot, ancestors_between_ids, ancestors_of
from pyiceberg.table.update.snapshot import CommitWindow
from pyiceberg.typedef import Record

from iceblink.errors import (
    CommitConflict,
    CommitUnknown,
    IceblinkError,
    SnapshotNotFound,
    TableExists,
    TableNotFound,
    WriteError,
)
from iceblink.events import Committed, emit
from iceblink.lake.evolve import stage_schema
from iceblink.lake.expressions import to_iceberg
from iceblink.lake.file_changes import FilesChanged
from iceblink.lake.files import NewFile
from iceblink.lake.leftovers import commit_id, end_writes, remove_writes
from iceblink.lake.manifests import data_files_by_path, origin_of, verify
from iceblink.lake.position import TOKEN, Position
from iceblink.lake.refused import REFUSED, client_errors, is_refusal
from iceblink.lake.replacement import Replacement, stage_replacement
from iceblink.lake.row_delta import Isolation, RowDelta, check_unmet
from iceblink.lake.snapshot_files import added_files
from iceblink.lake.table import Table
from iceblink.lake.transactions import keep_retention, one_try, sent
from iceblink.lake.tries import Tries, waits
from iceblink.lake.upgrade import created
from iceblink.predicate import Everything, Predicate

SnapshotProducer = Any  # PyIceberg's class is private, the objects are not


class Commit:
    """Changes to one table, staged by the methods below and made by `run`.

    Parameters
    ----------
    table : Table
        The version that the changes were made from, and the branch that they go to: what others committed since may
        be a conflict.
    token : str, optional
        Names this write in the snapshot's summary. A token that is in the table already is not committed again. That of
        a follower's step (`Position`) is committed only behind the step before it.
    patience_s : float
        Keep trying for this long [s].
    keep_files : bool
        Leave the new files when the commit fails: whoever wrote them will try again.
    """

    def __init__(
        self, table: Table, token: str | None = None, patience_s: float = 60.0, keep_files: bool = False
    ) -> None:
        self.token = token or uuid4().hex
        self._table, self._branch, self._patience_s = table, table.branch, patience_s
        self._keep_files = keep_files
        self._files: list[NewFile] = []
        self._adopted: frozenset[str] = frozenset()
        self._remove: frozenset[str] | None = None  # None: an append
        self._conflict: Predicate | None = None
        self._touched: frozenset[str] = frozenset()
        self._isolation: Isolation | None = None  # of a change of rows
        self._replaces = False
        self._schema: pa.Schema | None = None
        self._replacement: Replacement | None = None
        self._position = Position.read(self.token)
        self._properties: dict[str, str] = {}
        self._snapshot = False

    def append(self, files: Iterable[NewFile]) -> Self:
        """Add files; goes on top of whatever others commit."""
        self._files += files
        self._snapshot = True
        return self

    def adopt(self, files: Iterable[NewFile]) -> Self:
        """Add files that were there before, and stay there whatever becomes of the commit.

        That others added one of them meanwhile is a conflict.
        """
        self.append(files)
        self._adopted = frozenset(file.path for file in self._files)
        return self

    def overwrite(self, remove: Collection[str], files: Iterable[NewFile], conflict: Predicate | None = None) -> Self:
        """Take the data files `remove` out and put `files` in.

        Parameters
        ----------
        remove : collection of str
            Paths of live data files of the table.
        files : iterable of NewFile
        conflict : Predicate, optional
            The rows that were looked at: rows that others add or delete meanwhile are a conflict if they may match.
            Default: every row, so that anything but schema and properties conflicts.
        """
        self._files += files
        self._remove = frozenset(remove)
        self._conflict = conflict
        self._snapshot = True
        return self

    def change_rows(
        self,
        remove: Collection[str],
        files: Iterable[NewFile],
        touched: Collection[str],
        conflict: Predicate,
        isolation: Isolation,
        replaces: bool = False,
    ) -> Self:
        """Take the data files `remove` out and put `files` in, position delete files among them.

        Parameters
        ----------
        remove, files
            As of `overwrite`.
        touched : collection of str
            Data files that are removed or that delete files name: any change of them by others is a conflict.
        conflict : Predicate
            The rows that were looked at.
        isolation : {"serializable", "snapshot"}
            Whether rows that others add or delete meanwhile are a conflict if they may match `conflict`.
        replaces : bool
            Whether it is an overwrite to whoever follows the table, even if nothing was there to be overwritten.
        """
        self.overwrite(remove, files, conflict)
        self._touched, self._isolation, self._replaces = frozenset(touched), isolation, replaces
        return self

    def evolve(self, schema: pa.Schema) -> Self:
        """Merge `schema` into the table's; see `evolve.evolved` for what may change, and to write files for it."""
        self._schema = schema
        return self

    def replace(self, to: Replacement, files: Iterable[NewFile]) -> Self:
        """Put `files` and the shape `to` in the place of all that the table is; its history stays.

        The files are written for `replacement.replaced`. The snapshot has no parent, and whatever others commit
        meanwhile is a conflict.
        """
        self._files += files
        self._replacement = to
        self._snapshot = True
        return self

    def properties(self, values: Mapping[str, str]) -> Self:
        """Set table properties."""
        self._properties.update(values)
        return self

    def landed(self) -> bool:
        """Whether a write with this token is in the table already. Eager: asks the catalog.

        Raises
        ------
        CommitConflict
            It is a follower's step, and its turn has not come or is over.
        """
        head = self._load()
        if self._landed(head) is not None:
            return True
        if self._position is not None:
            self._position.check(self._at(head))
        return False

    def run(self) -> Table:
        """Make one commit of all that is staged, one snapshot if there are rows in it, and return the table after it.

        Eager. Tries again, on top of what others committed, while that is safe.

        Raises
        ------
        CommitConflict
            Others changed what this write was made from. Nothing was committed, the new files are removed.
        WriteError
            The catalog refused, or never could be reached. Nothing was committed, the new files are removed.
        DataCorrupt
            Metadata of the table is missing or damaged. Nothing was committed, the new files are removed.
        CommitUnknown
            The catalog took the commit and never answered. The new files are kept.
        """
        head = self._landing()
        end_writes(head, self._writes())
        table = self._at(head)
        snapshot = self._landed(head)
        if snapshot is not None:
            rows = sum(file.rows for file in self._files if not file.deletes)
            removed = len(self._remove or ())
            emit(Committed(self._table.name, snapshot.snapshot_id, rows, len(self._files), removed))
        return table

    def _landing(self) -> IcebergTable:
        """Try until the changes are in the table, and return it."""
        in_doubt = refused = False  # a commit was sent; the catalog said no to it
        failure: Exception | None = None
        tries = Tries()
        for wait_s in waits(self._patience_s):
            try:
                head = self._load()
                landed = self._landed(head)
                if landed is not None:  # one of our tries after all, or an earlier run with this token
                    tries.settle(head.metadata)
                    self._drop_unused(head, landed)
                    return head
                in_doubt = in_doubt and not refused  # only now: a "no" may be the answer to a repeated request
                if refused and not in_doubt:
                    tries.settle(head.metadata)
                if isinstance(head, StagedTable) and self._is_another(failure):
                    raise self._name_taken("something else, perhaps a view, has that name")
                if wait_s is None or isinstance(failure, REFUSED) or is_refusal(failure):
                    break
                transaction = self._stage(head)
                tries.take(transaction)
                in_doubt, refused = True, False
                after = sent(transaction)
                tries.settle(after.metadata)
                if isinstance(after, StagedTable):
                    return IcebergTable(after.name(), after.metadata, after.metadata_location, after.io, after.catalog)
                return after if after.metadata_location != head.metadata_location else head  # nothing to change
            except (CommitFailedException, TableAlreadyExistsError, *REFUSED) as error:
                refused, failure = True, error
            except client_errors(OSError, RESTError) as error:  # OSError has what requests raises, too
                refused, failure = refused or is_refusal(error), error
                if isinstance(error, FileNotFoundError) and not in_doubt:  # a manifest of the table
                    break
            except BaseException as error:
                if not in_doubt:
                    self._remove_files()
                if isinstance(error, ValidationException):
                    raise self._conflict_with(head) from error
                if isinstance(error, Exception) and not isinstance(error, IceblinkError):
                    self._name_damage()
                raise
            time.sleep(wait_s or 0.0)
        if not in_doubt:
            self._remove_files()
        if isinstance(failure, FileNotFoundError):
            self._name_damage()
        raise self._given_up(in_doubt, failure) from failure

    def _name_damage(self) -> None:
        """Raise DataCorrupt if a file of the table's metadata is to blame: PyIceberg raises whatever it meets there."""
        with suppress(TableNotFound):
            verify(self._table.refresh())

    def _load(self) -> IcebergTable:
        """Return the table as it is now."""
        base = self._table.pyiceberg
        try:
            head = base.catalog.load_table(base.name())
        except NoSuchTableError as error:
            if isinstance(base, StagedTable):
                return base
            raise TableNotFound(f"table {self._table.name!r} was dropped", self._table.name) from error
        if head.metadata.table_uuid != base.metadata.table_uuid:
            if isinstance(base, StagedTable):
                raise self._name_taken("another writer made it meanwhile: append to it, or drop it first")
            raise CommitConflict("the table was dropped and made anew", self._table.name, "write to the new one")
        if self._branch not in head.metadata.refs and not (self._branch == "main" and not head.metadata.snapshots):
            raise SnapshotNotFound(f"no branch {self._branch!r}", self._table.name, "make the branch first")
        return head

    def _is_another(self, failure: Exception | None) -> bool:
        """Whether a table could not be made for what has its name and is no table: some catalogs call it a conflict."""
        if isinstance(failure, CommitFailedException):
            return self._table.catalog.has_view(self._table.name)
        return isinstance(failure, TableAlreadyExistsError)

    def _name_taken(self, hint: str) -> TableExists:
        what = f"the name {self._table.name!r} is taken"
        return TableExists(what, repr(self._table.catalog), f"{hint}; nothing of yours was written")

    def _at(self, head: IcebergTable) -> Table:
        """Return our table of PyIceberg's, on the branch that is written."""
        table = Table.latest(self._table.catalog, self._table.name, head)
        return table if self._branch == "main" else table.at(branch=self._branch)

    def _added_meanwhile(self, top: Table) -> bool:
        return top.snapshot_id != self._table.snapshot_id and bool(data_files_by_path(top, self._adopted))

    def _landed(self, head: IcebergTable) -> Snapshot | None:
        snapshots: Iterable[Snapshot] = reversed(head.metadata.snapshots)
        if self._position is not None:  # rows that were rolled back are to be written again
            snapshots = ancestors_of(head.metadata.snapshot_by_name(self._branch), head.metadata)
        for snapshot in snapshots:
            if snapshot.summary is not None and snapshot.summary.additional_properties.get(TOKEN) == self.token:
                return snapshot
        return None

    def _drop_unused(self, head: IcebergTable, landed: Snapshot) -> None:
        """Remove files written again for a commit that had landed before."""
        if self._adopted:
            return
        added = added_files(head, landed)
        unused = [file for file in self._files if file.path not in added]
        remove_writes(head, {file.token for file in unused}, [file.path for file in unused])

    def _stage(self, head: IcebergTable) -> Transaction:
        if self._position is not None:
            self._position.check(self._at(head))
        if isinstance(head, StagedTable):
            transaction: Transaction = created(copy(head))  # it would change the table that it commits
            if self._properties:
                transaction.set_properties(self._properties)
            self._stage_snapshot(transaction, head)
            return transaction
        transaction = one_try(head)
        if self._replacement is not None:
            stage_replacement(transaction, self._replacement)
        if self._schema is not None:
            stage_schema(transaction, self._schema, self._table.name)
        if self._position is not None:
            transaction.set_properties(self._position.property(head.metadata.next_sequence_number()))
        if self._properties:
            transaction.set_properties(self._properties)
        if self._files:
            self._check_files_fit(transaction)
        if self._snapshot:
            self._stage_snapshot(transaction, head)
            keep_retention(transaction, head, self._branch)
        return transaction

    def _check_files_fit(self, transaction: Transaction) -> None:
        """Refuse if the files were written for another partitioning, or other field ids, or are there already."""
        metadata = transaction.table_metadata
        if self._adopted and self._added_meanwhile(self._at(transaction._table)):
            raise CommitConflict("others added a file meanwhile", self._table.name, "nothing was added")
        if any(file.spec_id != metadata.default_spec_id for file in self._files if not file.deletes):
            raise CommitConflict("the partitioning was changed meanwhile", self._table.name, "write again")
        staged = {field.field_id: field for field in metadata.schema().fields}
        written = {field.field_id: field for field in self._table.iceberg_schema.fields}
        new = self._schema is not None or self._replacement is not None
        for field_id, field in written.items():
            now = staged.get(field_id)
            if now is None or (new and (now.name, now.field_type) != (field.name, field.field_type)):
                raise CommitConflict(f"column {field.name!r} was changed meanwhile", self._table.name, "write again")
        for field_id, field in staged.items():
            if field.required and field_id not in written:
                raise CommitConflict(f"column {field.name!r} is required now", self._table.name, "write again")

    def _stage_snapshot(self, transaction: Transaction, head: IcebergTable) -> None:
        update = transaction.update_snapshot({TOKEN: self.token}, self._branch)
        if transaction.table_metadata.format_version >= 3:
            producer: SnapshotProducer = self._of_third(transaction, head)
        elif self._replacement is not None:
            producer = self._new_start(update.overwrite(), head)
        elif self._remove is None:
            producer = update.fast_append()
        elif self._isolation is not None:
            producer = self._removal(RowDelta(transaction, {TOKEN: self.token}, self._branch, self._replaces), head)
        else:
            producer = self._removal(update.overwrite(), head)
        for file in self._files:
            (producer.append_delete_file if file.deletes else producer.append_data_file)(file.data_file())
        if self._files:
            producer.commit_uuid = commit_id(min(self._writes()))
        producer.commit()

    def _new_start(self, producer: SnapshotProducer, head: IcebergTable) -> SnapshotProducer:
        """Return a producer of a snapshot that takes nothing over from the one before.

        Entries that delete the old files would need manifests of partitionings whose columns are gone.
        """
        self._check_unchanged(head)
        producer._parent_snapshot_id = None
        producer._existing_manifests = list
        return producer

    def _of_third(self, transaction: Transaction, head: IcebergTable) -> SnapshotProducer:
        """Return a producer for a table of format version 3, which PyIceberg has not."""
        newest = self._at(head)
        origin = None if newest.snapshot is None else origin_of(newest, newest.snapshot)
        # as of version 2: an overwrite of rows that nothing was there of is one, but for the table's first snapshot
        overwrites = self._remove is not None and self._isolation is None and bool(self._files) and origin is not None
        replaces = self._replaces or overwrites
        producer = FilesChanged(transaction, {TOKEN: self.token}, self._branch, origin, replaces)
        if self._replacement is not None:
            self._check_unchanged(head)
            producer.start_anew()
        elif self._remove is not None:
            self._check_follows(head)
            for file in self._removed:
                producer.delete_data_file(file)
            predicate = Everything() if self._conflict is None else self._conflict
            check_unmet(self._table, newest, self._touched, predicate, self._isolation or "serializable")
        return producer

    def _check_unchanged(self, head: IcebergTable) -> None:
        current = head.metadata.snapshot_by_name(self._branch)
        if (None if current is None else current.snapshot_id) != self._table.snapshot_id:
            raise ValidationException("the table is not what is to be replaced")

    def _check_follows(self, head: IcebergTable) -> None:
        current, base = head.metadata.snapshot_by_name(self._branch), self._table.snapshot_id
        if base is not None and not any(one.snapshot_id == base for one in ancestors_of(current, head.metadata)):
            raise ValidationException("the table was replaced, or rolled back")  # PyIceberg would not see that

    def _removal(self, producer: SnapshotProducer, head: IcebergTable) -> SnapshotProducer:
        schema = head.metadata.schema()
        looked_at = AlwaysTrue() if self._conflict is None else to_iceberg(self._conflict, schema)
        self._check_follows(head)
        for file in self._removed:
            producer.delete_data_file(file)
        producer.delete_by_predicate(looked_at)
        if self._isolation is not None:
            predicate = Everything() if self._conflict is None else self._conflict
            check_unmet(self._table, self._at(head), self._touched, predicate, self._isolation)
        else:
            # PyIceberg validates only inside its own retries: this is what it does there, from our starting point
            producer._commit_window = CommitWindow.resolve(head.metadata, self._table.snapshot_id, self._branch)
            producer._validate_concurrency()
        if any(math.isnan(value) for file in self._removed for value in _floats(file.partition)):
            # PyIceberg seeks the manifests to rewrite by partition and has no word for NaN: let it look at all
            producer.delete_by_predicate(AlwaysTrue())
            producer._build_delete_files_partition_predicate = lambda: None
        return producer

    @cached_property
    def _removed(self) -> list[DataFile]:
        removed = data_files_by_path(self._table, self._remove or frozenset())
        if len(removed) < len(self._remove or ()):
            raise CommitConflict("files that this write replaces are not in the table", self._table.name)
        return removed

    def _conflict_with(self, head: IcebergTable) -> CommitConflict:
        current = head.metadata.snapshot_by_name(self._branch)
        newest = None if current is None else current.snapshot_id
        since = ancestors_between_ids(self._table.snapshot_id, newest, head.metadata) if newest is not None else ()
        others = ", ".join(
            f"{snapshot.snapshot_id} ({snapshot.summary.operation.value if snapshot.summary else 'unknown'})"
            for snapshot in since
        )
        return CommitConflict(
            f"others changed rows that this write was made from: snapshot {others}",
            self._table.name,
            "read the table again and repeat the write; nothing was committed",
        )

    def _given_up(self, in_doubt: bool, failure: Exception | None) -> IceblinkError:
        tried = f"after trying for {self._patience_s:g} s"
        if in_doubt:
            return CommitUnknown(
                f"the catalog did not say whether the commit landed, {tried}",
                f"{self._table.name}, token {self.token}",
                f"the files are kept: look for a snapshot with {TOKEN} = {self.token}, or run again with that token",
            )
        if isinstance(failure, CommitFailedException):
            return CommitConflict(f"other writers were always faster, {tried}", self._table.name, "try again later")
        return WriteError(f"the commit could not be made, {tried}: {failure}", self._table.name)

    def _remove_files(self) -> None:
        if not self._keep_files and not self._adopted:
            remove_writes(self._table.pyiceberg, self._writes(), [file.path for file in self._files])

    def _writes(self) -> set[str]:
        return {file.token for file in self._files}


def _floats(partition: Record) -> list[float]:
    values = (partition[position] for position in range(len(partition)))
    return [value for value in values if isinstance(value, float)]
