"""What a statement says, as frozen data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from iceblink.lake.alteration import Alteration
from iceblink.lake.references import How, Kind, Retention
from iceblink.plan.sql import QueryText, Version

Value = str | int | float | bool | bytes | None
Argument = Value | tuple[str, ...]


class Statement:
    """One statement that is not a query."""


@dataclass(frozen=True)
class CreateTable(Statement):
    """``CREATE [OR REPLACE] TABLE``, of columns or of a query's rows: one of `schema` and `query` is there."""

    name: str
    schema: pa.Schema | None = None
    query: QueryText | None = None
    partition_by: tuple[str, ...] = ()
    sort_by: tuple[str, ...] = ()
    properties: Mapping[str, str] = field(default_factory=dict)
    replace: bool = False
    if_not_exists: bool = False


@dataclass(frozen=True)
class DropTable(Statement):
    """``DROP TABLE``; with `purge` its files go too."""

    name: str
    if_exists: bool = False
    purge: bool = False


@dataclass(frozen=True)
class TruncateTable(Statement):
    """``TRUNCATE TABLE``."""

    name: str


@dataclass(frozen=True)
class CreateNamespace(Statement):
    """``CREATE NAMESPACE``, or ``SCHEMA``, or ``DATABASE``."""

    name: str
    if_not_exists: bool = False


@dataclass(frozen=True)
class DropNamespace(Statement):
    """``DROP NAMESPACE``."""

    name: str
    if_exists: bool = False


@dataclass(frozen=True)
class AlterTable(Statement):
    """``ALTER TABLE`` of columns, partition fields, sort order or properties.

    `if_exists` and `if_not_exists` are said of the columns and properties.
    """

    name: str
    to: Alteration
    if_exists: bool = False
    if_not_exists: bool = False


@dataclass(frozen=True)
class RenameTable(Statement):
    """``ALTER TABLE ... RENAME TO``; a new name without a namespace stays in the old one's."""

    name: str
    new: str


@dataclass(frozen=True)
class SetReference(Statement):
    """``ALTER TABLE ... CREATE BRANCH`` and its like."""

    name: str
    kind: Kind
    reference: str
    version: int | str | None = None
    how: How = "create"
    retention: Retention | None = None
    if_not_exists: bool = False


@dataclass(frozen=True)
class DropReference(Statement):
    """``ALTER TABLE ... DROP TAG`` or ``BRANCH``."""

    name: str
    kind: Kind
    reference: str
    if_exists: bool = False


@dataclass(frozen=True)
class Insert(Statement):
    """``INSERT INTO`` or ``OVERWRITE``.

    Parameters
    ----------
    name : str
    query : QueryText or None
        None for one row of default values.
    columns : tuple of str, optional
        Where the query's columns go, in order. Default: all of the table's, but those with a value in `partition`.
    by_name : bool
        The query's columns go where their names say.
    overwrite : bool
    partition : mapping of str to value
        Columns that have this value in all rows, and with `overwrite` say what is replaced.
    dynamic : tuple of str
        Partition columns without a value: the partitions that the rows are in are replaced.
    """

    name: str
    query: QueryText | None
    columns: tuple[str, ...] | None = None
    by_name: bool = False
    overwrite: bool = False
    partition: Mapping[str, Value] = field(default_factory=dict)
    dynamic: tuple[str, ...] = ()


@dataclass(frozen=True)
class Analyze(Statement):
    """``ANALYZE TABLE ... COMPUTE STATISTICS``, of these columns or of all."""

    name: str
    columns: tuple[str, ...] | None = None


@dataclass(frozen=True)
class CreateView(Statement):
    """``CREATE [OR REPLACE] VIEW``; `columns` are names of the query's columns and their comments, in order."""

    name: str
    query: QueryText
    columns: tuple[tuple[str, str | None], ...] | None = None
    properties: Mapping[str, str] = field(default_factory=dict)
    replace: bool = False
    if_not_exists: bool = False


@dataclass(frozen=True)
class DropView(Statement):
    """``DROP VIEW``."""

    name: str
    if_exists: bool = False


@dataclass(frozen=True)
class Use(Statement):
    """``USE`` a catalog or a namespace."""

    place: str


@dataclass(frozen=True)
class Explain(Statement):
    """``EXPLAIN`` a query; with `analyze` it is run."""

    query: QueryText
    analyze: bool = False


@dataclass(frozen=True)
class Describe(Statement):
    """``DESCRIBE [EXTENDED]`` a table or view, of the past too, or a query."""

    name: str | None = None
    query: QueryText | None = None
    extended: bool = False
    version: Version | None = None


@dataclass(frozen=True)
class ShowTables(Statement):
    """``SHOW TABLES``; the pattern is that of ``LIKE``."""

    namespace: str | None = None
    pattern: str | None = None


@dataclass(frozen=True)
class ShowViews(Statement):
    """``SHOW VIEWS``; the pattern is that of ``LIKE``."""

    namespace: str | None = None
    pattern: str | None = None


@dataclass(frozen=True)
class ShowCurrent(Statement):
    """``SHOW CURRENT NAMESPACE``: what ``USE`` has set."""


@dataclass(frozen=True)
class ShowNamespaces(Statement):
    """``SHOW NAMESPACES``; the pattern is that of ``LIKE``."""

    inside: str | None = None
    pattern: str | None = None


@dataclass(frozen=True)
class ShowProperties(Statement):
    """``SHOW TBLPROPERTIES``, all or one."""

    name: str
    key: str | None = None


@dataclass(frozen=True)
class ShowCreateTable(Statement):
    """``SHOW CREATE TABLE``, or ``VIEW``."""

    name: str


@dataclass(frozen=True)
class Call(Statement):
    """``CALL [catalog.]system.procedure(value, name => value)``; `place` shows where its name is."""

    procedure: str
    values: tuple[Argument, ...]
    named: Mapping[str, Argument]
    place: str
    catalog: str = ""
