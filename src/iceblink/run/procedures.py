"""What ``CALL system.name(...)`` can call: functions whose parameters are the procedure's."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import get_args, get_type_hints

import pyarrow as pa

from iceblink.errors import SqlError, nearest
from iceblink.lake.references import rolled_back, set_current
from iceblink.lake.table import Table
from iceblink.plan.nodes import Memory
from iceblink.plan.statements.kinds import Call, Value
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


def _moved(before: Table, after: Table) -> Memory:
    ids = {"previous_snapshot_id": before.snapshot_id, "current_snapshot_id": after.snapshot_id}
    schema = pa.schema({"table": pa.string(), **dict.fromkeys(ids, pa.int64())})
    return rows([{"table": after.name, **ids}], schema, "call")


PROCEDURES: Mapping[str, Callable[..., Memory]] = {
    procedure.__name__: procedure for procedure in (rollback_to_snapshot, rollback_to_timestamp, set_current_snapshot)
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
    return procedure(**values)


def _fit(value: Value, kind: object, name: str, call: Call) -> object:
    """Return the value as the parameter's type, if it is one of it."""
    kinds = get_args(kind) or (kind,)
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
