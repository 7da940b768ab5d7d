"""The pass over a table that makes its statistics: each part is sketched where it is read, and sketches are merged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial

from iceblink.config import Settings
from iceblink.errors import ColumnNotFound, ConfigError, TypeMismatch
from iceblink.lake.format_version import check_writable
from iceblink.lake.statistics import Statistics
from iceblink.lake.statistics_files import set_statistics
from iceblink.lake.table import Table
from iceblink.lake.theta import Theta
from iceblink.lake.value_hashes import hashable, hashes
from iceblink.predicate import Everything
from iceblink.run.session import Session
from iceblink.scan.plan import ScanPlan, plan_scan
from iceblink.scan.read import read_scan
from iceblink.scan.split import Split
from iceblink.types import show_type

READ_BYTES_S = 200e6
"""Rows that a CPU decodes and hashes in a second, about [B/s]."""


def computed(session: Session, name: str, columns: Sequence[str] | None, snapshot_id: int | None = None) -> Statistics:
    """Sketch the columns of a table and set its statistics; see `Lake.compute_statistics`."""
    table = session.catalog.load(name)
    if snapshot_id is not None:
        table = table.at(snapshot=snapshot_id)
    check_writable(table)
    names = _checked(table, columns)
    if table.snapshot_id is None:
        raise ConfigError("the table is empty: there is nothing to tell", table.name, "write rows first")
    return set_statistics(table, _sketched(session, table, names))


def _checked(table: Table, columns: Sequence[str] | None) -> list[str]:
    """Return the columns to sketch: those asked for, or all that can be."""
    where = f"statistics of {table.name}"
    if columns is None:
        return [one.name for one in table.schema if hashable(one.type)]
    for name in columns:
        if name not in table.schema.names:
            raise ColumnNotFound.of(name, table.schema.names, where)
        kind = table.schema.field(name).type
        if not hashable(kind):
            raise TypeMismatch(f"column {name!r} is {show_type(kind)}: its values are not counted", where)
    return list(dict.fromkeys(columns))


def _sketched(session: Session, table: Table, names: Sequence[str]) -> dict[str, Theta]:
    found = dict.fromkeys(names, Theta())
    if not names:
        return found
    plan = plan_scan(table, names, Everything(), session.engine.settings)
    work = _Sketcher(replace(plan, splits=()))
    results = session.engine.each(f"statistics of {table.name}", work, plan.splits, _cost_s, lambda: None)
    with closing(results):
        for part in results:
            found = {name: sketch.merged(part[name]) for name, sketch in found.items()}
    return found


def _cost_s(split: Split) -> float:
    return split.decoded_bytes / READ_BYTES_S


@dataclass(frozen=True)
class _Sketcher:
    """Makes what sketches the columns of a split; picklable.

    Parameters
    ----------
    plan : ScanPlan
        Without splits.
    """

    plan: ScanPlan

    def __call__(self, settings: Settings, stopped: Callable[[], bool]) -> Callable[[Split], dict[str, Theta]]:
        return partial(self._sketched, settings, stopped)

    def _sketched(self, settings: Settings, stopped: Callable[[], bool], split: Split) -> dict[str, Theta]:
        found = {name: Theta() for name in self.plan.schema.names}
        with closing(read_scan(replace(self.plan, splits=(split,)), self.plan.storage, settings)) as batches:
            for batch in batches:
                if stopped():
                    raise InterruptedError("nobody waits for these statistics any more")
                for name, values in zip(batch.data.schema.names, batch.data.columns, strict=True):
                    found[name] = found[name].adding(hashes(values))
        return found
