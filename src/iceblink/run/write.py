"""A dataset goes into a table: the rows of each mode, written as a stream, committed once."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from iceblink.errors import CommitUnknown, ConfigError, SchemaMismatch, TableNotFound, nearest
from iceblink.lake.commit import Commit
from iceblink.lake.evolve import evolved
from iceblink.lake.files import NewFile
from iceblink.lake.format_version import check_writable
from iceblink.lake.partition_overwrite import partition_files
from iceblink.lake.replacement import Replacement, replaced
from iceblink.lake.table import Table
from iceblink.lake.write import TableWriter
from iceblink.plan.nodes import Plan, Scan
from iceblink.plan.sql import sorted_query, widened_query
from iceblink.run.kernel_types import kernel_type
from iceblink.run.rewrite import Rewrite, overwritten, upserted
from iceblink.run.session import Session
from iceblink.types import show_type, storable

Mode = Literal["append", "create", "overwrite", "upsert", "replace"]


@dataclass(frozen=True)
class WriteOptions:
    """What `Dataset.write` was asked for; see there."""

    mode: Mode = "append"
    on: tuple[str, ...] = ()
    where: Any = None
    dynamic: bool = False
    partition_by: tuple[str, ...] = ()
    sort_by: tuple[str, ...] = ()
    properties: Mapping[str, str] = field(default_factory=dict)
    evolve: bool = False
    branch: str = "main"
    token: str | None = None

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise ConfigError(f"no mode {self.mode!r}", "write", nearest(self.mode, get_args(Mode), "modes"))
        if (self.mode == "upsert") != bool(self.on):
            hint = "on='id', or on=['a', 'b']" if self.mode == "upsert" else "use mode='upsert'"
            raise ConfigError("`on` names the key of an upsert, and an upsert needs it", "write", hint)
        if self.mode != "overwrite" and (self.where is not None or self.dynamic):
            raise ConfigError("`where` and `partitions` say what to overwrite", "write", "use mode='overwrite'")
        if self.where is not None and self.dynamic:
            raise ConfigError("give `where` or partitions='dynamic', not both", "write")
        if self.mode not in ("create", "replace") and (self.partition_by or self.sort_by or self.properties):
            raise ConfigError("partition_by, sort_by and properties are for new tables", "write", "use mode='create'")


def write_table(session: Session, plan: Plan, name: str, options: WriteOptions) -> Scan:
    """Run `plan` and commit its rows to table `name`; see `Dataset.write`."""
    catalog = session.catalog
    if options.mode == "create" or (options.mode == "replace" and not catalog.exists(name)):
        return _create(session, plan, name, options)
    table = _load(session, name)
    check_writable(table)
    if options.branch != "main":
        table = table.at(branch=options.branch)
    if options.mode == "replace":
        return _replace(session, plan, table, options)
    if options.evolve:
        table = evolved(table, plan.schema)
    plan = fitted(session, plan, table)
    commit = Commit(table, options.token)
    if commit.landed():
        return Scan.of(table.refresh())
    if options.evolve:
        commit.evolve(plan.schema)
    match options.mode:
        case "append":
            commit.append(written(session, plan, table))
        case "upsert":
            _rewrite(session, table, commit, upserted(session, plan, table, options.on))
        case _ if options.dynamic:
            files = written(session, plan, table)
            commit.overwrite(partition_files(table, files), files)
        case _ if options.where is not None:
            _rewrite(session, table, commit, overwritten(session, plan, table, options.where))
        case _:
            gone = {entry.path for entry in table.files()}
            commit.overwrite(gone, written(session, plan, table))
    return Scan.of(commit.run())


def _create(session: Session, plan: Plan, name: str, options: WriteOptions) -> Scan:
    """Make a table and its rows in one commit: nobody sees it empty, and a kill leaves no table."""
    table = session.catalog.stage(
        name, storable(plan.schema), options.partition_by, options.sort_by, options.properties
    )
    try:
        commit = Commit(table, options.token)
        commit.append(written(session, fitted(session, plan, table), table))
        return Scan.of(commit.run())
    except CommitUnknown:  # it may be there
        raise
    except BaseException:
        session.catalog.unstage(table)
        raise


def _replace(session: Session, plan: Plan, table: Table, options: WriteOptions) -> Scan:
    shape = Replacement(storable(plan.schema), options.partition_by, options.sort_by, options.properties)
    made = replaced(table, shape)
    commit = Commit(made, options.token)
    if commit.landed():
        return Scan.of(table.refresh())
    commit.replace(shape, written(session, fitted(session, plan, made), made))
    return Scan.of(commit.run())


def _load(session: Session, name: str) -> Table:
    try:
        return session.catalog.load(name)
    except TableNotFound as error:
        raise TableNotFound(error.what, error.where, f"{error.hint}; mode='create' makes it") from None


def _rewrite(session: Session, table: Table, commit: Commit, rewrite: Rewrite) -> None:
    files = written(session, rewrite.rows, table)
    commit.overwrite(rewrite.remove, files, rewrite.conflict)


def fitted(session: Session, plan: Plan, table: Table) -> Plan:
    """Return `plan` with exactly the table's columns: optional ones it lacks are null.

    Raises
    ------
    SchemaMismatch
        A column the table does not have, or a required one missing.
    """
    ours, theirs = plan.schema, table.schema
    extra = [name for name in ours.names if name not in theirs.names]
    if extra:
        hint = nearest(extra[0], [name for name in theirs.names if name not in ours.names], "columns left")
        raise SchemaMismatch(
            f"table {table.name} has no column {extra[0]!r}",
            f"write to {table.name}",
            f"{hint}; or evolve=True adds it ({show_type(ours.field(extra[0]).type)})",
        )
    missing = [item for item in theirs if item.name not in ours.names]
    required = next((item.name for item in missing if not item.nullable), None)
    if required is not None:
        raise SchemaMismatch(f"column {required!r} is missing", f"write to {table.name}", "the table requires it")
    if not missing:
        return plan
    tree = widened_query(plan.name, {item.name: kernel_type(item.type) for item in missing})
    return session.engine.query(tree, {plan.name: plan})


def written(session: Session, plan: Plan, table: Table) -> list[NewFile]:
    """Run `plan` and write its rows to data files of `table`, sorted if the table is; nothing is committed.

    Whatever fails, its files are removed.
    """
    sorts = bool(table.sort_by) and all(_column(word) in table.schema.names for word in table.sort_by)
    if sorts:  # all rows, not file by file: files then hold disjoint ranges, and readers skip more of them
        plan = session.engine.query(sorted_query(plan.name, table.sort_by), {plan.name: plan})
    with (
        closing(session.engine.batches(plan)) as batches,
        TableWriter(table, session.engine.settings, sorted=sorts) as writer,
    ):
        for batch in batches:
            writer.write(batch.data)
        return writer.finish()


def _column(word: str) -> str:
    return word.removesuffix(" nulls first").removesuffix(" nulls last").removesuffix(" desc")
