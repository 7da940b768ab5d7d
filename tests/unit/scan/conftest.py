"""Tables made of Parquet files written by hand, planned and read as any other."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import settings

from iceblink.config import MIB, Settings
from iceblink.lake.entries import DeleteFile, FileEntry
from iceblink.lake.storage import Storage
from iceblink.lake.table import Table
from iceblink.mapped import Mapped, here
from iceblink.predicate import Everything, Predicate
from iceblink.scan.batch import Batch
from iceblink.scan.plan import ScanPlan, plan_scan
from iceblink.scan.read import read_scan

settings.register_profile("files", deadline=None)  # examples write files: a busy disk is no failure
settings.load_profile("files")

SETTINGS = Settings(threads=2, memory_bytes=256 * MIB)


@dataclass
class HandMade:
    """A table's outside, with data files that no writer of ours would write."""

    folder: Path
    schema: pa.Schema
    entries: list[FileEntry] = field(default_factory=list)
    name: str = "demo.t"
    uuid: str = "9a9a9a9a-0000-0000-0000-000000000000"
    snapshot_id: int | None = 7
    schema_id: int = 0
    storage: Storage = field(default_factory=Storage)
    settings: Settings = SETTINGS
    numbers: Iterator[int] = field(default_factory=count)

    @property
    def location(self) -> str:
        return str(self.folder)

    @property
    def file_count(self) -> int:
        return len(self.entries)

    def files_as(self, made: Callable[[FileEntry], Any], *_: object) -> Iterator[Any]:
        return map(made, self.entries)

    def write(self, data: pa.Table, group_rows: int = 1 << 20, **options: Any) -> str:
        """Write a Parquet file and return its path."""
        path = str(self.folder / f"{next(self.numbers)}.parquet")
        options = {"compression": "zstd", "write_page_checksum": True, "write_page_index": True, **options}
        pq.write_table(data, path, row_group_size=group_rows, **options)
        return path

    def add(
        self,
        data: pa.Table,
        group_rows: int = 1 << 20,
        deletes: tuple[DeleteFile, ...] = (),
        identity: dict[int, object] | None = None,
        **options: Any,
    ) -> str:
        """Write a data file of the table and return its path."""
        path = self.write(data, group_rows, **options)
        size = Path(path).stat().st_size
        self.entries.append(FileEntry(path, size, data.num_rows, 0, {}, identity or {}, {}, {}, {}, {}, deletes))
        return path

    def plan(
        self,
        columns: tuple[str, ...] | None = None,
        predicate: Predicate | None = None,
        mapped: Mapped = here,
        paths: Collection[str] | None = None,
        **settings: Any,
    ) -> ScanPlan:
        predicate, given = predicate or Everything(), self.settings.override(**settings)
        return plan_scan(cast(Table, self), columns, predicate, given, mapped, paths=paths)

    def batches(
        self, columns: tuple[str, ...] | None = None, predicate: Predicate | None = None, **settings: Any
    ) -> list[Batch]:
        plan = self.plan(columns, predicate, **settings)
        return list(read_scan(plan, self.storage, self.settings.override(**settings)))

    def rows(self, columns: tuple[str, ...] | None = None, **settings: Any) -> list[dict[str, Any]]:
        return [row for batch in self.batches(columns, **settings) for row in batch.data.to_pylist()]


@pytest.fixture
def hand_made(tmp_path: Path) -> Callable[[pa.Schema], HandMade]:
    def make(schema: pa.Schema) -> HandMade:
        folder = tmp_path / uuid4().hex  # a file never changes under its name, in a lake
        folder.mkdir()
        return HandMade(folder, schema)

    return make
