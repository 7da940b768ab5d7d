"""What a statement reads, once the run knows: splits to be decoded by whoever needs them, or rows in blocks."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pyarrow as pa

from iceblink.config import MIB, Settings
from iceblink.plan.nodes import Scan
from iceblink.plan.optimize import Reference
from iceblink.plan.selectivity import rows_kept
from iceblink.plan.stage import Leaf
from iceblink.run.distributed.kept import Kept
from iceblink.run.distributed.stage_work import ReadSpec, Scanned
from iceblink.scan.plan import ScanPlan, projected
from iceblink.scan.split import Split

TASK_BYTES = 128 * MIB
"""Decoded bytes that one task of a scan reads, of a large table."""
SHARES = 4
"""Tasks for each CPU, where there is enough to share out: the last ones then end at about the same time."""
LEAST_BYTES = 8 * MIB
BESIDE = 2.0
"""Times what all tasks see whole: a row of it goes into a hash table, which costs more than reading one."""


@dataclass(frozen=True)
class ScanTable:
    """A scan whose splits are planned.

    Parameters
    ----------
    plan : ScanPlan
    schema : pa.Schema
    expected : tuple of str
        What is read of it, as a rule.
    kept_part : float
        Which part of its rows filters are taken to keep, from 0 to 1.
    """

    plan: ScanPlan
    schema: pa.Schema
    expected: tuple[str, ...]
    kept_part: float = 1.0

    @classmethod
    def of(cls, plan: ScanPlan, reference: Reference) -> ScanTable:
        schema = projected(plan.table_schema, reference.named, plan.table_name)
        return cls(plan, schema, reference.columns, kept_part(plan, reference))

    @property
    def rows(self) -> int:
        """Rows before deletes."""
        return self.plan.rows

    @property
    def total_bytes(self) -> int:
        """Estimated Arrow size [bytes]."""
        return self.plan.decoded_bytes

    @property
    def spec(self) -> ReadSpec:
        """What the work of a stage must know of it."""
        return ReadSpec(self.schema, Scanned.of(self.plan), self.expected)

    def shares(self, cpus: float, beside: float = 0) -> list[tuple[Split, ...]]:
        """Return consecutive splits in groups of about one decoded size, enough to keep all CPUs at work to the end.

        What each task reads besides, all of it [bytes], is not to be most of its work: then the groups are larger.
        """
        total = self.plan.decoded_bytes
        size = min(TASK_BYTES, max(total / max(1.0, SHARES * cpus), min(BESIDE * beside, total / max(1.0, cpus))))
        size = max(LEAST_BYTES, size)
        groups: list[list[Split]] = []
        filled = 0.0
        for split in self.plan.splits:
            if not groups or filled + split.decoded_bytes / 2 > size:
                groups.append([])
                filled = 0.0
            groups[-1].append(split)
            filled += split.decoded_bytes
        return [tuple(group) for group in groups]


def kept_part(plan: ScanPlan, reference: Reference) -> float:
    """Return which part of the rows of a scan its filters are taken to keep, from 0 to 1."""
    if not isinstance(reference.plan, Scan) or not plan.rows:
        return 1.0
    return rows_kept(reference.plan.table, reference.predicate, plan.rows) / plan.rows


def split_bytes(settings: Settings) -> Settings:
    """Return settings that plan splits small enough to be grouped evenly."""
    return replace(settings, split_bytes=min(settings.split_bytes, 2 * LEAST_BYTES))


Table = ScanTable | Kept


def leaf_of(name: str, table: Table) -> Leaf:
    """Return what the planner must know of it."""
    kept = table.kept_part if isinstance(table, ScanTable) else 1.0
    return Leaf(name, table.schema, table.rows, table.total_bytes, kept)
