"""A dataset goes into a table: the rows of each mode, written as a stream, committed once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from iceblink.errors import CommitUnknown, ConfigError, TableNotFound, nearest
from iceblink.lake.commit import Commit
from iceblink.lake.evolve import evolved
from iceblink.lake.files import NewFile
from iceblink.lake.format_version import check_writable
from iceblink.lake.partition_overwrite import partition_files
from iceblink.lake.replacement import Replacement, replaced
from iceblink.lake.table import Table
from iceblink.plan.nodes import Plan, Scan
from iceblink.run.checkpoint import Checkpointed, checkpointed
from iceblink.run.data_files import fitted, written
from iceblink.run.outcome import Removed, Written, replaced_files, rows_in
from iceblink.run.replacing import overwriting, upserting
from iceblink.run.row_changes import change_rows
from iceblink.run.session import Session

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
    checkpoint: str | None = None

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
        if self.checkpoint is not None and self.token is not None:
            raise ConfigError("give `token` or `checkpoint`, not both", "write", "the checkpoint id is the token")
        if self.checkpoint is not None and self.mode == "upsert":
            hint = "write to a table of its own with a checkpoint, then upsert from that"
            raise ConfigError("an upsert takes no checkpoint: it needs all rows at once", "write", hint)

    @property
    def said(self) -> str:
        """What was asked for, in words."""
        given = [(name, repr(value)) for name, value in vars(self).items() if name != "checkpoint"]
        return ", ".join(f"{name}={text}" for name, text in given if text not in ("None", "()", "{}", "False"))


def write_table(session: Session, plan: Plan, name: str, options: WriteOptions) -> Scan:
    """Run `plan` and commit its rows to table `name`; see `Dataset.write`."""
    if options.checkpoint is None:
        return Scan.of(_write(session, plan, name, options, None).table)
    with checkpointed(session, plan, name, options.checkpoint, options.said) as job:
        table = job.landed or _write(session, plan, name, options, job).table
        job.end(table)
        return Scan.of(table if options.branch == "main" else table.at(branch=options.branch))


def write_rows(session: Session, plan: Plan, name: str, options: WriteOptions) -> Written:
    """Run `plan` and commit its rows to table `name`, and tell what that changed; see `Dataset.write`.

    Files that go whole are not read, but for the deletes that apply to them: see `live_rows`.
    """
    return _write(session, plan, name, options, None, counted=True)


def _write(
    session: Session, plan: Plan, name: str, options: WriteOptions, job: Checkpointed | None, counted: bool = False
) -> Written:
    catalog = session.catalog
    if options.mode == "create" or (options.mode == "replace" and not catalog.exists(name)):
        return _create(session, plan, name, options, job)
    table = _load(session, name)
    check_writable(table)
    if options.branch != "main":
        table = table.at(branch=options.branch)
    if options.mode == "replace":
        return _replace(session, plan, table, options, job, counted)
    if options.evolve:
        table = evolved(table, plan.schema)
    plan = fitted(session, plan, table)
    commit = _commit(table, options, job)
    if commit.landed():
        return Written(table.refresh(), None)
    if options.evolve:
        commit.evolve(plan.schema)
    if options.mode == "upsert":
        return change_rows(session, upserting(session, plan, table, options.on), commit)
    if options.where is not None:
        return change_rows(session, overwriting(session, plan, table, options.where), commit, job)
    gone = [] if options.mode == "append" else list(table.files())
    removed = rows_in(session.engine, table, gone) if counted and not options.dynamic else None
    files = _files(session, plan, table, job)
    if options.dynamic:
        paths = partition_files(table, files)
        gone = [entry for entry in gone if entry.path in paths]
        removed = rows_in(session.engine, table, gone) if counted else None
    if options.mode == "append":
        commit.append(files)
    else:
        commit.overwrite({entry.path for entry in gone}, files)
    return Written(commit.run(), replaced_files(removed, files))


def _files(session: Session, plan: Plan, table: Table, job: Checkpointed | None, staged: bool = False) -> list[NewFile]:
    return written(session, plan, table) if job is None else job.written(session, plan, table, staged)


def _commit(table: Table, options: WriteOptions, job: Checkpointed | None) -> Commit:
    return Commit(table, options.token) if job is None else Commit(table, options.checkpoint, keep_files=True)


def _create(session: Session, plan: Plan, name: str, options: WriteOptions, job: Checkpointed | None) -> Written:
    """Make a table and its rows in one commit: nobody sees it empty, and a kill leaves no table."""
    table = session.catalog.stage(
        name,
        plan.schema,
        options.partition_by,
        options.sort_by,
        options.properties,
        location=None if job is None else job.location,
    )
    try:
        commit = _commit(table, options, job)
        files = _files(session, fitted(session, plan, table), table, job, staged=True)
        return Written(commit.append(files).run(), replaced_files(Removed(0, 0), files))
    except CommitUnknown:  # it may be there
        raise
    except BaseException:
        if job is None or not job.begun:
            session.catalog.unstage(table)
        raise


def _replace(
    session: Session, plan: Plan, table: Table, options: WriteOptions, job: Checkpointed | None, counted: bool
) -> Written:
    shape = Replacement(plan.schema, options.partition_by, options.sort_by, options.properties)
    made = replaced(table, shape)
    commit = _commit(made, options, job)
    if commit.landed():
        return Written(table.refresh(), None)
    removed = rows_in(session.engine, table) if counted else None  # afterwards others may remove what has to be read
    files = _files(session, fitted(session, plan, made), made, job)
    return Written(commit.replace(shape, files).run(), replaced_files(removed, files))


def _load(session: Session, name: str) -> Table:
    try:
        return session.catalog.load(name)
    except TableNotFound as error:
        raise TableNotFound(error.what, error.where, f"{error.hint}; mode='create' makes it") from None
