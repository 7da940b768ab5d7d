"""A table emptied in one commit; its history stays."""

from __future__ import annotations

from iceblink.lake.commit import Commit
from iceblink.lake.format_version import check_writable
from iceblink.lake.table import Table


def truncated(table: Table) -> Table:
    """Take all files out of a table, or of the branch that it is at, and return it at the snapshot of that.

    Eager; no file is read.

    Raises
    ------
    CommitConflict
        Others committed rows meanwhile.
    CommitUnknown, WriteError
    """
    check_writable(table)
    return Commit(table).overwrite({entry.path for entry in table.files()}, []).run()
