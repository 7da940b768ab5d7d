"""PyIceberg's transactions, sent once, and what it forgets in them."""

from __future__ import annotations

from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table as IcebergTable
from pyiceberg.table import Transaction
from pyiceberg.table.update import SetSnapshotRefUpdate


def one_try(head: IcebergTable) -> Transaction:
    """Return a transaction that is tried once: PyIceberg's own retries would send what was made of stale metadata."""
    once = {**head.metadata.properties, "commit.retry.num-retries": "0"}
    metadata = head.metadata.model_copy(update={"properties": once})
    return IcebergTable(head.name(), metadata, head.metadata_location, head.io, head.catalog).transaction()


def sent(transaction: Transaction) -> IcebergTable:
    """Send a transaction, and return the table after it. Raises CommitFailedException where others were faster."""
    try:
        return transaction.commit_transaction()
    except ValueError as error:
        if not str(error).startswith("Cannot add"):
            raise
        raise CommitFailedException(str(error)) from error  # another branch has the sequence number or row ids now


def keep_retention(transaction: Transaction, head: IcebergTable, branch: str) -> None:
    """Leave a branch what it says of how long it and its snapshots are kept: PyIceberg forgets that when it moves."""
    ref = head.metadata.refs.get(branch)
    if ref is not None:
        names = ("max_ref_age_ms", "max_snapshot_age_ms", "min_snapshots_to_keep")
        kept = {name: getattr(ref, name) for name in names}
        transaction._updates = tuple(
            one.model_copy(update=kept) if isinstance(one, SetSnapshotRefUpdate) and one.ref_name == branch else one
            for one in transaction._updates
        )
