"""One change of a table's metadata, which adds no snapshot: committed once, on top of whatever others commit."""

from __future__ import annotations

import time
from collections.abc import Callable

from pyiceberg.exceptions import CommitFailedException, NoSuchTableError, RESTError, ValidationError
from pyiceberg.table import Table as IcebergTable
from pyiceberg.table import Transaction
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.update import AssertTableUUID, TableUpdate

from iceblink.errors import CommitConflict, CommitUnknown, TableNotFound, WriteError
from iceblink.lake.format_version import check_writable
from iceblink.lake.refused import REFUSED, client_errors
from iceblink.lake.table import Table
from iceblink.lake.tries import waits


def change(
    table: Table,
    stage: Callable[[Transaction], None],
    about: Callable[[TableMetadata], object],
    repeatable: bool = True,
    patience_s: float = 60.0,
) -> Table:
    """Commit what `stage` stages, and return the table after it.

    Eager. When another writer was faster, `stage` is called again with what the table has become, so that it is checked
    anew. A commit whose answer was lost is looked for in the metadata.

    Parameters
    ----------
    table : Table
    stage : callable
        Given a transaction, stages updates and requirements, or raises.
    about : callable
        Returns what of the metadata the change is about: by this is told whether it was made.
    repeatable : bool
        Whether it may go on top of what others changed of the same since the table was loaded.
    patience_s : float
        Keep trying for this long [s].

    Raises
    ------
    CommitConflict
        Others commit faster, or changed the same and the change is not `repeatable`; the table was made anew.
    CommitUnknown
        The catalog took the commit and never answered.
    TableNotFound
        The table was dropped.
    WriteError
        The catalog refused, or cannot be reached, or the table has columns that are only read. Nothing was committed.
    """
    check_writable(table)
    sent: tuple[object, object] | None = None  # what a commit without an answer was about: before it, and after
    failure: Exception | None = None
    for wait_s in waits(patience_s):
        try:
            head = _head(table)
            if sent is not None:
                before, after = sent
                if (now := about(head.metadata)) == after:
                    return Table.latest(table.catalog, table.name, head)
                if now != before:
                    break  # others changed the same: whether ours came before theirs cannot be told
                sent = None
            if wait_s is None:
                break
            if not repeatable and about(head.metadata) != about(table.pyiceberg.metadata):
                raise CommitConflict(
                    "others committed to the table meanwhile", table.name, "look at its history and repeat it"
                )
            transaction = head.transaction()
            stage(transaction)
            if not transaction._updates:
                return Table.latest(table.catalog, table.name, head)
            sent = about(head.metadata), about(transaction.table_metadata)
            done = _committed(head, transaction)
            return Table.latest(table.catalog, table.name, done)
        except CommitFailedException as error:
            sent, failure = None, error
        except REFUSED as error:
            raise WriteError(f"the catalog refused: {error}", table.name, "nothing was committed") from error
        except client_errors(OSError, RESTError) as error:  # OSError has what requests raises, too
            failure = error
        time.sleep(wait_s or 0.0)
    tried = f"after trying for {patience_s:g} s"
    if sent is not None:
        hint = "look at the table: if the change is not there, make it again"
        raise CommitUnknown(f"the catalog did not say whether the change was made, {tried}", table.name, hint)
    if isinstance(failure, CommitFailedException):
        raise CommitConflict(f"other writers were always faster, {tried}", table.name, "try again later") from failure
    raise WriteError(f"the change could not be made, {tried}: {failure}", table.name) from failure


def _head(table: Table) -> IcebergTable:
    base = table.pyiceberg
    try:
        head = base.catalog.load_table(base.name())
    except NoSuchTableError:
        raise TableNotFound(f"table {table.name!r} was dropped", table.name) from None
    if head.metadata.table_uuid != base.metadata.table_uuid:
        raise CommitConflict("the table was dropped and made anew", table.name, "change the new one")
    return head


def _committed(head: IcebergTable, transaction: Transaction) -> IcebergTable:
    # not by the transaction: its own retries would send what was made from metadata of before
    requirements = (*transaction._requirements, AssertTableUUID(uuid=head.metadata.table_uuid))
    updates: tuple[TableUpdate, ...] = transaction._updates
    try:
        answer = head.catalog.commit_table(head, requirements, updates)
    except (KeyError, ValueError, ValidationError) as error:
        # PyIceberg's catalogs apply updates to what they load: another writer took away what ours are about
        raise CommitFailedException(str(error)) from error
    return IcebergTable(head.name(), answer.metadata, answer.metadata_location, head.io, head.catalog)
