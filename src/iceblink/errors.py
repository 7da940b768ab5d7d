"""Every error a user can meet: one root, three lines (what, where, hint), a stable code.

::

    IceblinkError                    error
    ├── PlanError                    plan-error            the question is wrong, found before anything runs
    │   ├── ColumnNotFound           column-not-found
    │   ├── AmbiguousColumn          ambiguous-column
    │   ├── DuplicateColumn          duplicate-column
    │   ├── TypeMismatch             type-mismatch
    │   ├── SqlError                 sql-error
    │   └── CheckpointMismatch       checkpoint-mismatch   another plan has this checkpoint id; says what differs
    ├── CatalogError                 catalog-error         names, and what the catalog says of them
    │   ├── TableNotFound            table-not-found
    │   ├── TableExists              table-exists
    │   ├── NamespaceNotFound        namespace-not-found
    │   └── SnapshotNotFound         snapshot-not-found
    ├── WriteError                   write-error           nothing was committed
    │   ├── SchemaMismatch           schema-mismatch
    │   ├── NullInRequired           null-in-required
    │   ├── CommitConflict           commit-conflict
    │   ├── MergeCardinality         merge-cardinality     several rows of a source match one row of a table
    │   └── CheckpointBusy           checkpoint-busy       a write with this checkpoint id is running
    ├── CommitUnknown                commit-unknown        it may or may not have been committed
    ├── StorageError                 storage-error         the store of files does not answer, or refuses
    ├── DataCorrupt                  data-corrupt          bytes that are missing, cut short or changed
    ├── FunctionError                function-error        a user's Python function failed
    │   └── BatchContractBroken      batch-contract-broken it returned what it must not
    ├── RowsLost                     rows-lost             rows are gone with the machine that had them
    ├── OutOfMemoryBudget            out-of-memory-budget
    └── ConfigError                  config-error
"""

from __future__ import annotations

import difflib
from collections.abc import Collection
from typing import ClassVar, Self

from iceblink.credentials import hidden


class IceblinkError(Exception):
    """The root: catch this to catch everything iceblink raises on purpose.

    Credentials are taken out of what it says (`credentials.hidden`).

    Parameters
    ----------
    what : str
        What is wrong, in one clause.
    where : str, optional
        The place: a column, an operator, a file, a line of SQL.
    hint : str, optional
        What to do next.
    """

    code: ClassVar[str] = "error"

    def __init__(self, what: str, where: str = "", hint: str = "") -> None:
        what, where, hint = hidden(what), hidden(where), hidden(hint)
        super().__init__(what, where, hint)  # all in args, so that it pickles
        self.what, self.where, self.hint = what, where, hint

    def __str__(self) -> str:
        lines = [self.what]
        if self.where:
            lines.append(f"  at    {self.where}")
        if self.hint:
            lines.append(f"  hint  {self.hint}")
        return "\n".join(lines)


class PlanError(IceblinkError):
    """The question is wrong; found before anything ran."""

    code = "plan-error"


class ColumnNotFound(PlanError, LookupError):
    """A name that the input schema does not have."""

    code = "column-not-found"

    @classmethod
    def of(cls, name: str, available: Collection[str], where: str = "") -> Self:
        return cls(f"no column {name!r}", where, nearest(name, available, "columns"))


class AmbiguousColumn(PlanError):
    """A name that two inputs have."""

    code = "ambiguous-column"


class DuplicateColumn(PlanError):
    """Two output columns of one name."""

    code = "duplicate-column"


class TypeMismatch(PlanError, TypeError):
    """An expression or a declared type that does not fit."""

    code = "type-mismatch"


class SqlError(PlanError):
    """SQL that cannot be parsed or bound; `where` shows the line with a caret."""

    code = "sql-error"


class CheckpointMismatch(PlanError):
    """A job of this checkpoint id was begun with another plan; `where` says what differs."""

    code = "checkpoint-mismatch"


class CatalogError(IceblinkError):
    """A name is wrong, or the catalog refused."""

    code = "catalog-error"


class TableNotFound(CatalogError, LookupError):
    """No table of that name."""

    code = "table-not-found"

    @classmethod
    def of(cls, name: str, available: Collection[str], where: str = "") -> Self:
        return cls(f"no table {name!r}", where, nearest(name, available, "tables"))


class TableExists(CatalogError):
    """The name is taken."""

    code = "table-exists"


class NamespaceNotFound(CatalogError, LookupError):
    """No namespace of that name."""

    code = "namespace-not-found"


class SnapshotNotFound(CatalogError, LookupError):
    """No such snapshot, tag, branch, or nothing as old as that time."""

    code = "snapshot-not-found"


class WriteError(IceblinkError):
    """A write failed; nothing was committed and its files are gone."""

    code = "write-error"


class SchemaMismatch(WriteError):
    """The data does not fit the table: column, expected, got."""

    code = "schema-mismatch"


class NullInRequired(WriteError):
    """A null in a column that the table requires."""

    code = "null-in-required"


class CommitConflict(WriteError):
    """Another writer committed something that this write cannot be put on top of."""

    code = "commit-conflict"


class MergeCardinality(WriteError):
    """Several rows of a merge's source match one row of the table: which one is meant cannot be told."""

    code = "merge-cardinality"


class CheckpointBusy(WriteError):
    """A write with this checkpoint id is running."""

    code = "checkpoint-busy"


class CommitUnknown(IceblinkError):
    """The catalog did not answer: the commit may have landed; its files are kept."""

    code = "commit-unknown"


class StorageError(IceblinkError):
    """The store that files are in does not answer, or refuses to hand them out."""

    code = "storage-error"


class DataCorrupt(IceblinkError):
    """A file of the table is missing, cut short or changed."""

    code = "data-corrupt"


class QueryError(IceblinkError):
    """A query met a value it cannot compute with: a cast, a division, an overflow."""

    code = "query-error"


class FunctionError(IceblinkError):
    """A function given to `map_batches` or `map` raised."""

    code = "function-error"


class BatchContractBroken(FunctionError):
    """A function returned the wrong type, length, columns or values."""

    code = "batch-contract-broken"


class RowsLost(IceblinkError):
    """Rows that an operator had made are gone with the machine that kept them."""

    code = "rows-lost"


class OutOfMemoryBudget(IceblinkError):
    """The plan cannot run inside the memory it was given."""

    code = "out-of-memory-budget"


class ConfigError(IceblinkError, ValueError):
    """A setting or an argument that cannot be."""

    code = "config-error"


def nearest(name: str, available: Collection[str], kind: str) -> str:
    """Return a hint: the nearest name if one is near, else what there is."""
    close = difflib.get_close_matches(name, available, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    if not available:
        return f"there are no {kind} yet"
    names = sorted(available)
    shown = ", ".join(names[:12]) + (f", ... ({len(names)} in all)" if len(names) > 12 else "")
    return f"the {kind} are: {shown}"
