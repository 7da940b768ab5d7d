"""What ``CALL system.name(...)`` can call: functions whose parameters are the procedure's."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from types import UnionType
from typing import get_args, get_origin, get_type_hints

import pyarrow as pa

from iceblink.errors import SqlError, nearest
from iceblink.lake.expiry import Retention
from iceblink.lake.expiry import expire_snapshots as expired
from iceblink.lake.manifest_rewrite import rewrite_manifests as manifests_rewritten
from iceblink.lake.orphans import ORPHAN_AGE, remove_orphans
from iceblink.lake.references import rolled_back, set_current
from iceblink.lake.table import Table, milliseconds
from iceblink.plan.nodes import Memory
from iceblink.plan.statements.kinds import Argument, Call
from iceblink.plan.statements.tables import sort_field
from iceblink.plan.statements.words import Words
from iceblink.run.analysis import computed
from iceblink.run.compaction import CompactOptions, compacted
from iceblink.run.outcome import rows
from iceblink.run.session import Session


def rollback_to_snapshot(session: Session, table: str, snapshot_id: int) -> Memory:
    """See `references.rolled_back`."""
    before = session.catalog.load(table)
    return _moved(before, rolled_back(before, snapshot=snapshot_id))


def rollback_to_timestamp(session: Session, table: str, timestamp: datetime) -> Memory:
    """See `references.rolled_back`."""
    before = session.catalog.load(table)
    return _moved(before, rolled_back(before, as_of=timestamp))


def set_current_snapshot(
    session: Session, table: str, snapshot_id: int | None = None, ref: str | None = None
) -> Memory:
    """See `references.set_current`."""
    before = session.catalog.load(table)
    if (snapshot_id is None) == (ref is None):
        raise SqlError("give a snapshot_id or a ref", "CALL system.set_current_snapshot", "ref => 'a tag or branch'")
    return _moved(before, set_current(before, ref if snapshot_id is None else snapshot_id))


def rewrite_data_files(
    session: Session,
    table: str,
    sort_order: str | None = None,
    where: str | None = None,
    target_file_size_bytes: int | None = None,
    min_input_files: int = 5,
    rewrite_all: bool = False,
    partial_progress: bool = False,
) -> Memory:
    """See `Lake.compact`. A sort order is ``'id, price DESC'``, or ``'zorder(id, price)'``."""
    sort_by, zorder = (None, ()) if sort_order is None else _sort_order(sort_order)
    options = CompactOptions(
        where=where,
        target_bytes=target_file_size_bytes,
        sort_by=sort_by,
        zorder=zorder,
        min_files=min_input_files,
        rewrite_all=rewrite_all or sort_order is not None,
        commits=10 if partial_progress else 1,
    )
    done = compacted(session, table, options)
    return _counted(
        rewritten_data_files_count=done.files_before,
        added_data_files_count=done.files_after,
        rewritten_bytes_count=done.bytes_before,
        failed_data_files_count=done.files_left_out,
        removed_delete_files_count=done.delete_files_removed,
    )


def _sort_order(text: str) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    words = Words(text)
    if words.accept("ZORDER"):
        found: tuple[tuple[str, ...] | None, tuple[str, ...]] = None, tuple(words.listed(words.dotted))
    else:
        found = tuple(words.several(lambda: sort_field(words))), ()
    words.end()
    return found


def expire_snapshots(
    session: Session,
    table: str,
    older_than: datetime | None = None,
    retain_last: int | None = None,
    dry_run: bool = False,
) -> Memory:
    """See `Lake.expire_snapshots`."""
    since_ms = None if older_than is None else milliseconds(older_than, "CALL system.expire_snapshots")
    done = expired(session.catalog.load(table), Retention(since_ms, retain_last), dry_run)
    return _counted(
        deleted_snapshots_count=len(done.snapshots),
        deleted_data_files_count=done.data_files,
        deleted_delete_files_count=done.delete_files,
        deleted_manifest_files_count=done.manifests,
        deleted_manifest_lists_count=done.manifest_lists,
        deleted_statistics_files_count=done.statistics_files,
    )


def remove_orphan_files(
    session: Session, table: str, older_than: datetime | None = None, dry_run: bool = False
) -> Memory:
    """See `Lake.remove_orphan_files`."""
    age = ORPHAN_AGE
    if older_than is not None:
        age = timedelta(milliseconds=time.time() * 1000 - milliseconds(older_than, "CALL system.remove_orphan_files"))
    found = remove_orphans(session.catalog.load(table), age, dry_run)
    schema = pa.schema({"orphan_file_location": pa.string()})
    return rows([{"orphan_file_location": path} for path in found.files], schema, "call")


def rewrite_manifests(session: Session, table: str, spec_id: int | None = None) -> Memory:
    """See `Lake.rewrite_manifests`."""
    done = manifests_rewritten(session.catalog.load(table), None, spec_id)
    return _counted(manifests_before_count=done.manifests_before, manifests_after_count=done.manifests_after)


def compute_table_stats(
    session: Session, table: str, snapshot_id: int | None = None, columns: tuple[str, ...] | None = None
) -> Memory:
    """See `Lake.compute_statistics`. Columns are ``array('id', 'price')``."""
    done = computed(session, table, columns, snapshot_id)
    return rows([{"statistics_file": done.path}], pa.schema({"statistics_file": pa.string()}), "call")


def _counted(**counts: int) -> Memory:
    return rows([counts], pa.schema(dict.fromkeys(counts, pa.int64())), "call")


def _moved(before: Table, after: Table) -> Memory:
    ids = {"previous_snapshot_id": before.snapshot_id, "current_snapshot_id": after.snapshot_id}
    schema = pa.schema({"table": pa.string(), **dict.fromkeys(ids, pa.int64())})
    return rows([{"table": after.name, **ids}], schema, "call")


PROCEDURES: Mapping[str, Callable[..., Memory]] = {
    procedure.__name__: procedure
    for procedure in (
        rollback_to_snapshot,
        rollback_to_timestamp,
        set_current_snapshot,
        rewrite_data_files,
        expire_snapshots,
        remove_orphan_files,
        rewrite_manifests,
        compute_table_stats,
    )
}
"""Every procedure, by its name. The parameters after the session are those of ``CALL``: names, types and defaults."""


def called(session: Session, call: Call) -> Memory:
    """Call a procedure, and return the rows that it gives.

    Raises
    ------
    SqlError
        There is none of that name, or its parameters are others.
    """
    procedure = PROCEDURES.get(call.procedure)
    if procedure is None:
        raise SqlError(
            f"no procedure {call.procedure!r}", call.place, nearest(call.procedure, PROCEDURES, "procedures")
        )
    signature = inspect.signature(procedure)
    takes = ", ".join(str(one) for one in list(signature.parameters.values())[1:])
    hint = f"it takes {takes}".replace("'", "")
    try:
        given = signature.bind(session, *call.values, **call.named).arguments
    except TypeError as error:
        raise SqlError(f"{call.procedure}: {error}", call.place, hint) from None
    kinds = get_type_hints(procedure)
    values = {name: given[name] if name == "session" else _fit(given[name], kinds[name], name, call) for name in given}
    if "table" in values:
        values["table"] = _full_name(session, call, str(values["table"]))
    return procedure(**values)


def _full_name(session: Session, call: Call, table: str) -> str:
    """Return the full name of the table that a procedure is called for, in the catalog whose procedure it is."""
    others = session.catalog.others
    if not call.catalog or not others:  # of one catalog any name stands for it
        return session.full_name(table)
    if call.catalog not in others:
        if call.catalog == session.catalog.name:
            return table
        raise SqlError(f"no catalog {call.catalog!r}", call.place, nearest(call.catalog, others, "catalogs"))
    return table if table.startswith(f"{call.catalog}.") and table.count(".") > 1 else f"{call.catalog}.{table}"


def _fit(value: Argument, kind: object, name: str, call: Call) -> object:
    """Return the value as the parameter's type, if it is one of it."""
    kinds = tuple(get_origin(one) or one for one in (get_args(kind) if isinstance(kind, UnionType) else (kind,)))
    if datetime in kinds and isinstance(value, str):
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            raise SqlError(f"{value!r} is no time", call.place, "write it like '2026-01-31 12:00:00'") from None
    if float in kinds and type(value) is int:
        return float(value)
    if not any(type(value) is one for one in kinds):
        words = " or ".join(one.__name__ for one in kinds if isinstance(one, type) and one is not type(None))
        raise SqlError(f"{name} is {value!r}, and no {words}", call.place)
    return value
