"""Many small files become few large ones, deletes are applied for good: `Lake.compact`."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from uuid import uuid4

import pyarrow as pa

from iceblink.config import GIB, MIB, Settings
from iceblink.errors import ColumnNotFound, ConfigError, TypeMismatch
from iceblink.events import FilesRewritten, emit
from iceblink.lake.compaction import TARGET_BYTES, Compaction, Idle, Rewritten, rewritten_as
from iceblink.lake.entries import FileEntry
from iceblink.lake.file_format import number
from iceblink.lake.files import NewFile
from iceblink.lake.format_version import check_writable
from iceblink.lake.leftovers import end_writes, mark_write, remove_strays, remove_uncommitted
from iceblink.lake.portable import PortableTable
from iceblink.lake.rewrite_snapshot import writable_specs
from iceblink.lake.row_lineage import moving
from iceblink.lake.table import Table
from iceblink.lake.transforms import parse_sort, show_sort
from iceblink.lake.write import TableWriter
from iceblink.mapped import Each, here
from iceblink.plan.chance import sampled
from iceblink.plan.nodes import Plan, Scan
from iceblink.plan.optimize import statement
from iceblink.plan.query import relate
from iceblink.plan.sql import sorted_query
from iceblink.plan.zorder import KEY_BITS, quantile_query, zorder_query
from iceblink.predicate import Everything, Predicate
from iceblink.run.data_files import can_sort
from iceblink.run.kernel_types import kernel_type
from iceblink.run.session import Session
from iceblink.scan.deletes import Deletes
from iceblink.scan.pieces import whole_file
from iceblink.scan.plan import owner_of, plan_files
from iceblink.scan.read import read_scan
from iceblink.scan.split import Piece
from iceblink.types import show_type

SMALL, LARGE = 0.75, 1.8
"""A file of less, or of more, than so many target sizes is rewritten."""
TAIL = 1.4
"""A file may grow to so many target sizes, so that none is followed by a tiny one."""
GROUP_BYTES = 100 * GIB
"""Files sorted together have at most so many bytes on disk: the kernel spills what does not fit in memory."""
SAMPLED_ROWS = 100_000
"""Rows that quantiles are taken from."""
READ_S, FILE_S = 4e-8, 2e-3
"""What a byte on disk, and a file, take to be rewritten [s], about."""
WHERE = "compact"


@dataclass(frozen=True)
class CompactOptions:
    """What `Lake.compact` was asked for; see there."""

    where: Any = None
    target_bytes: int | None = None
    sort_by: tuple[str, ...] | None = None
    zorder: tuple[str, ...] = ()
    min_files: int = 5
    rewrite_all: bool = False
    commits: int = 1
    branch: str = "main"

    def __post_init__(self) -> None:
        if self.sort_by is not None and self.zorder:
            raise ConfigError("give `sort_by` or `zorder`, not both", WHERE)
        if len(self.zorder) > KEY_BITS:
            raise ConfigError(f"{len(self.zorder)} columns are too many for `zorder`", WHERE, "two to four are useful")
        for name, value in (("target_size", self.target_bytes), ("min_files", self.min_files)):
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}", WHERE, "one or more")
        if self.commits < 1:
            raise ConfigError(f"max_commits is {self.commits}", WHERE, "one or more")


@dataclass(frozen=True)
class Compacted:
    """What a compaction did.

    Parameters
    ----------
    table : str
    files_before, files_after : int
        Data files that were replaced, and those in their place.
    bytes_before, bytes_after : int
        Their sizes on disk [bytes].
    delete_files_removed : int
        Delete files that applied to nothing any more.
    commits : int
        Snapshots made.
    files_left_out : int
        Data files that were rewritten in vain: others changed or deleted rows of them meanwhile.
    """

    table: str
    files_before: int = 0
    files_after: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    delete_files_removed: int = 0
    commits: int = 0
    files_left_out: int = 0

    def __str__(self) -> str:
        text = (
            f"{self.table}: {self.files_before:,} files of {self.bytes_before / MIB:,.1f} MiB became "
            f"{self.files_after:,} of {self.bytes_after / MIB:,.1f} MiB; commits: {self.commits:,}"
        )
        if self.delete_files_removed:
            text += f", {self.delete_files_removed:,} delete files removed"
        if self.files_left_out:
            text += f", {self.files_left_out:,} files left out: others changed them meanwhile"
        return text


Group = tuple[FileEntry, ...]
"""Files that are rewritten together."""


def compacted(session: Session, name: str, options: CompactOptions) -> Compacted:
    """Rewrite the files of a table that are worth it; see `Lake.compact`."""
    table = session.catalog.load(name)
    check_writable(table)
    if options.branch != "main":
        table = table.at(branch=options.branch)
    _check_zorder(table, options.zorder)
    target = options.target_bytes or number(table.properties, TARGET_BYTES, session.engine.settings.file_bytes)
    order = _order_of(table, options.sort_by)
    choice = chosen(session, table, _predicate(session, table, options.where), target, options)
    groups: Sequence[Group] = choice.groups
    if order or options.zorder:
        groups = list(_packed([file for group in groups for file in group], GROUP_BYTES))
    progress = _Progress(table, groups)
    rewrite: Callable[[Sequence[Group]], list[Rewritten]] = partial(_rewritten_packed, session, table, target, progress)
    if order or options.zorder:
        sort = _ZOrder(session, options.zorder) if options.zorder else _Sorted(session, order)
        view = rewritten_as(moving(table), target, in_table_order=not options.zorder and order == table.sort_by)
        rewrite = partial(_rewritten_sorted, session, table, view, sort, progress)
    done = Compacted(name)
    for batch in _batches(groups, options.commits):
        done = _committed(done, table, rewrite(batch), choice.idle)
    return done


def _committed(done: Compacted, table: Table, rewritten: list[Rewritten], idle: frozenset[Idle]) -> Compacted:
    tokens = [file.token for group in rewritten for file in group.new]
    commit = Compaction(table, rewritten, tokens[0] if tokens else uuid4().hex, idle)
    commit.run()
    new = [file for group in commit.groups for file in group.new]
    old = [file for group in commit.groups for file in group.old]
    return replace(
        done,
        files_before=done.files_before + len(old),
        files_after=done.files_after + len(new),
        bytes_before=done.bytes_before + sum(file.file_bytes for file in old),
        bytes_after=done.bytes_after + sum(file.file_bytes for file in new),
        delete_files_removed=done.delete_files_removed + commit.delete_files_removed,
        commits=done.commits + bool(commit.groups),
        files_left_out=done.files_left_out + sum(len(group.old) for group in commit.left_out),
    )


# what is worth it


def _order_of(table: Table, asked: tuple[str, ...] | None) -> tuple[str, ...]:
    """Return the words of the order that rows are to be in: that asked for, else the table's if we can sort so."""
    if asked is None:
        return table.sort_by if can_sort(table, table.sort_by) else ()
    words = show_sort(parse_sort(asked, table.iceberg_schema), table.iceberg_schema)
    if words and not can_sort(table, words):
        raise ConfigError(f"rows cannot be sorted by fields inside columns: {asked}", f"{WHERE} {table.name}, sort_by")
    return words


def _check_zorder(table: Table, columns: Iterable[str]) -> None:
    where = f"{WHERE} {table.name}, zorder"
    for column in columns:
        if column not in table.schema.names:
            raise ColumnNotFound.of(column, table.schema.names, where)
        dtype = table.schema.field(column).type
        if pa.types.is_nested(dtype) or isinstance(dtype, pa.FixedShapeTensorType):
            raise TypeMismatch(
                f"column {column!r} is {show_type(dtype)}, which has no order", where, "name another one"
            )


def _predicate(session: Session, table: Table, where: Any) -> Predicate:
    """Return what is known of the rows asked for, by which files are chosen."""
    if where is None:
        return Everything()
    scan = Scan.of(table)
    if isinstance(where, str):
        query = session.sql(f"SELECT * FROM this WHERE {where}", this=scan)
    else:
        relation = relate(WHERE, [scan], lambda t: t.filter(where))
        query = session.engine.query(relation.tree, relation.sources, relation.expression)
    references = statement(query, session.engine.evaluate).references
    if len(references) != 1:
        raise ConfigError("`where` asks other tables", f"{WHERE} {table.name}", "choose files by columns of the table")
    return references[0].predicate


@dataclass(frozen=True)
class Chosen:
    """What is worth it.

    Parameters
    ----------
    groups : tuple of Group
        Each of one partition.
    idle : frozenset of Idle
        Position delete files that may apply to data files, and do not name them.
    """

    groups: tuple[Group, ...]
    idle: frozenset[Idle]


def chosen(session: Session, table: Table, predicate: Predicate, target: int, options: CompactOptions) -> Chosen:
    """Choose files that a predicate keeps: those that are worth it, or all, in groups of a target size.

    Eager: reads the manifests, and delete files.
    """
    usable = writable_specs(table.pyiceberg.metadata)
    files = [file for file in table.files(predicate) if file.spec_id in usable]
    folded, idle = _deletes_of(session.engine.settings, table, files)
    partitions: dict[Hashable, list[FileEntry]] = {}
    for file in files:
        partitions.setdefault((file.spec_id, tuple(file.partition.items())), []).append(file)
    groups: list[Group] = []
    for members in partitions.values():
        if options.rewrite_all:
            groups += _packed(members, target)
            continue
        unfit = [one for one in members if not SMALL * target <= one.file_bytes <= LARGE * target or one.path in folded]
        for group in _packed(unfit, target):
            size = sum(file.file_bytes for file in group)
            several = len(group) > 1 and (len(group) >= options.min_files or size >= SMALL * target)
            if several or size > LARGE * target or any(file.path in folded for file in group):
                groups.append(group)
    return Chosen(tuple(groups), idle)


def _deletes_of(settings: Settings, table: Table, files: Iterable[FileEntry]) -> tuple[frozenset[str], frozenset[Idle]]:
    """Return which files have deleted rows, and which position deletes only seem to apply."""
    deletes = Deletes(table.storage, table.schema, owner_of(table.name, table.snapshot_id))

    def idle_of(file: FileEntry) -> list[Idle]:
        positions = [delete for delete in file.deletes if delete.kind == "position"]
        return [(file.path, delete.path) for delete in positions if not deletes.names(delete, file.path)]

    asked = [file for file in files if file.deletes]
    found = here(Each("deletes", lambda: idle_of, lambda file: 1e-3, settings.threads), asked)
    idle = dict(zip((file.path for file in asked), found, strict=True))
    folded = frozenset(file.path for file in asked if len(idle[file.path]) < len(file.deletes))
    return folded, frozenset(pair for pairs in idle.values() for pair in pairs)


def _packed(files: Iterable[FileEntry], most_bytes: int) -> Iterator[Group]:
    """Yield the files in groups of at most so many bytes on disk, in order; a larger file is one by itself."""
    group: list[FileEntry] = []
    size = 0
    for file in files:
        if group and size + file.file_bytes > most_bytes:
            yield tuple(group)
            group, size = [], 0
        group.append(file)
        size += file.file_bytes
    if group:
        yield tuple(group)


def _batches(groups: Sequence[Group], commits: int) -> Iterator[Sequence[Group]]:
    """Yield the groups of each commit."""
    size = -(-len(groups) // commits)
    for start in range(0, len(groups), size or 1):
        yield groups[start : start + size]


class _Progress:
    """Tells how far a compaction is."""

    def __init__(self, table: Table, groups: Sequence[Group]) -> None:
        self._table = table.name
        self._files = sum(map(len, groups))
        self._bytes = sum(file.file_bytes for group in groups for file in group)
        self._done = self._bytes_done = 0

    def __call__(self, group: Group) -> None:
        self._done += len(group)
        self._bytes_done += sum(file.file_bytes for file in group)
        emit(FilesRewritten(self._table, self._done, self._files, self._bytes_done, self._bytes))


# rows as they come: each group by itself, many at once


@dataclass(frozen=True)
class _Task:
    """Files to be rewritten, and the size of those in their place [bytes]."""

    pieces: tuple[Piece, ...]
    file_bytes: int


@dataclass(frozen=True)
class _Rewriter:
    """Makes what rewrites a group; picklable.

    Parameters
    ----------
    table : PortableTable
    snapshot_id : int or None
        Whose files they are, for errors.
    token : str
        Of the write that all share.
    """

    table: PortableTable
    snapshot_id: int | None
    token: str

    def __call__(self, settings: Settings, stopped: Callable[[], bool]) -> Callable[[_Task], list[NewFile]]:
        return partial(self._rewritten, replace(self.table.table(), snapshot_id=self.snapshot_id), settings, stopped)

    def _rewritten(self, table: Table, settings: Settings, stopped: Callable[[], bool], task: _Task) -> list[NewFile]:
        planned = plan_files(table, task.pieces, settings)
        target = rewritten_as(table, task.file_bytes, in_table_order=False)
        with (
            closing(read_scan(planned, table.storage, settings)) as batches,
            TableWriter(target, settings, sorted=True, share_of=self.token) as writer,
        ):
            for batch in batches:
                if stopped():
                    raise InterruptedError("nobody waits for these files any more")
                writer.write(batch.data)
            return writer.finish()


def _rewritten_packed(
    session: Session, table: Table, target: int, progress: _Progress, groups: Sequence[Group]
) -> list[Rewritten]:
    token = uuid4().hex
    mark_write(table.pyiceberg, token)
    try:
        work = _Rewriter(PortableTable.of(moving(table)), table.snapshot_id, token)
        tasks = [_task(group, target) for group in groups]
        lost: list[bool] = []
        done: list[Rewritten] = []
        results = session.engine.each(f"compact {table.name}", work, tasks, _cost_s, lambda: lost.append(True))
        with closing(results):
            for group, files in zip(groups, results, strict=True):
                done.append(Rewritten(group, tuple(files)))
                progress(group)
        if lost:
            remove_strays(table, token, {file.path for group in done for file in group.new})
        if not any(group.new for group in done):  # all rows were deleted: the commit has no file to know the write by
            end_writes(table.pyiceberg, [token])
        return done
    except BaseException:
        remove_uncommitted(table, [token])
        raise


def _task(group: Group, target: int) -> _Task:
    size = sum(file.file_bytes for file in group)
    parts = -(-size // target)
    even = int(TAIL * target) if size <= TAIL * target else int(size / parts * 1.05)
    return _Task(tuple(map(whole_file, group)), even)


def _cost_s(task: _Task) -> float:
    return sum(FILE_S + piece.file_bytes * READ_S for piece in task.pieces)


# rows in an order: each group as one statement, which the engine sorts


@dataclass(frozen=True)
class _Sorted:
    """Sorts rows by columns."""

    session: Session
    words: tuple[str, ...]

    def __call__(self, plan: Scan, rows: int) -> Plan:
        return self.session.engine.query(sorted_query(plan.name, self.words), {plan.name: plan})


@dataclass(frozen=True)
class _ZOrder:
    """Sorts rows along a curve through several columns."""

    session: Session
    columns: tuple[str, ...]

    def __call__(self, plan: Scan, rows: int) -> Plan:
        engine, names = self.session.engine, list(dict.fromkeys(self.columns))
        keyed: Plan = plan.choose(names)
        if rows > SAMPLED_ROWS:
            keyed = engine.query(*sampled(keyed, SAMPLED_ROWS / rows, seed=0))
        quantiles = engine.query(quantile_query(keyed.name, names), {keyed.name: keyed})
        with closing(engine.batches(quantiles)) as batches:
            (bounds,) = [row for batch in batches for row in batch.data.to_pylist()]
        keys = [
            (name, kernel_type(plan.schema.field(name).type), list(dict.fromkeys(bounds[f"q{place}"] or ())))
            for place, name in enumerate(names)
        ]
        return engine.query(zorder_query(plan.name, plan.schema.names, keys), {plan.name: plan})


def _rewritten_sorted(
    session: Session,
    table: Table,
    view: Table,
    sort: Callable[[Scan, int], Plan],
    progress: _Progress,
    groups: Sequence[Group],
) -> list[Rewritten]:
    done: list[Rewritten] = []
    tokens: list[str] = []
    try:
        for group in groups:
            rows = sum(file.rows for file in group)
            plan = sort(Scan.of(moving(table)).only(frozenset(file.path for file in group)), rows)
            files = session.engine.files(plan, view, True, tokens.append, "")
            done.append(Rewritten(group, tuple(files)))
            progress(group)
    except BaseException:
        remove_uncommitted(table, tokens)
        raise
    return done
