"""A table of version 3 beside one of version 2, and the list of rows that both are to hold, each with its lineage."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
from hypothesis import strategies as st
from pyiceberg.manifest import ManifestContent
from pyiceberg.table.metadata import TableMetadataV3

import iceblink as ib
from iceblink import _
from iceblink.lake.deletes import OFFSET, REFERENCED
from iceblink.lake.manifest_files import FILE_FIRST_ROW_ID, FIRST_ROW_ID, read_entries, read_manifest_list
from iceblink.lake.manifests import origin_of
from iceblink.lake.table import Table

THIRD = {"format-version": "3"}
ON_READ = {f"write.{verb}.mode": "merge-on-read" for verb in ("delete", "update", "merge")}
SCHEMA = {"id": "long", "a b": "string", "g ü": "string"}
Row = tuple[int, str | None, str | None]


def loaded(lake: ib.Lake, name: str = "n.t") -> Table:
    return lake.session.catalog.load(name)


def arrow(rows: list[Row]) -> pa.Table:
    kinds = pa.schema(list(zip(SCHEMA, (pa.int64(), pa.string(), pa.string()), strict=True)))
    return pa.Table.from_pylist([dict(zip(SCHEMA, row, strict=True)) for row in rows], kinds)


def next_row_id(table: Table) -> int:
    metadata = table.pyiceberg.metadata
    assert isinstance(metadata, TableMetadataV3)
    assert metadata.next_row_id is not None
    return metadata.next_row_id


def files_of(table: Table) -> tuple[dict[str, tuple[int | None, int]], dict[str, tuple[str, int, int]]]:
    """Return first row id and rows of each live data file, and the place and rows of each deletion vector."""
    data, vectors = dict[str, tuple[int | None, int]](), dict[str, tuple[str, int, int]]()
    snapshot = table.snapshot
    assert snapshot is not None
    origin = origin_of(table, snapshot)
    for manifest in read_manifest_list(snapshot.manifest_list, origin):
        if manifest.content == ManifestContent.DATA and snapshot.first_row_id is not None:
            assert manifest[FIRST_ROW_ID] is not None
        for entry in read_entries(manifest, origin):
            file = entry.data_file
            if manifest.content == ManifestContent.DATA:
                data[file.file_path] = (file[FILE_FIRST_ROW_ID], file.record_count)
            elif file[OFFSET] is not None:
                assert file[REFERENCED] not in vectors, "a data file has one vector"
                vectors[file[REFERENCED]] = (file.file_path, file[OFFSET], file.record_count)
    return data, vectors


def check_ids(before: Table | None, after: Table) -> None:
    """Check what the spec says of row ids: no two rows share one, files keep theirs, the next is above all."""
    data, vectors = files_of(after)
    assert vectors.keys() <= data.keys()
    snapshot = after.snapshot
    assert snapshot is not None
    ranges = sorted((first, first + rows) for first, rows in data.values() if first is not None)
    assert len(ranges) == len(data)
    assert all(end <= start for (_, end), (start, _) in pairwise(ranges))
    assert snapshot.first_row_id is not None
    assert snapshot.added_rows is not None
    assert next_row_id(after) == snapshot.first_row_id + snapshot.added_rows
    assert all(end <= next_row_id(after) for _, end in ranges)
    said = json.loads(Path(after.pyiceberg.metadata_location).read_text())
    assert (said["format-version"], said["next-row-id"]) == (3, next_row_id(after))
    if before is not None and before.snapshot is not None and before.snapshot.first_row_id is not None:
        known, _ = files_of(before)
        assert snapshot.first_row_id >= next_row_id(before) or snapshot == before.snapshot
        assert all(data[path] == known[path] for path in data.keys() & known.keys())


Became = Callable[[Row], Row | None]
"""What a step makes of a row: the row itself if it stays, another one, or nothing."""


class Twins:
    """A table of version 2 and one of version 3, that are to hold the same as a list of rows.

    Of the rows of the latter it is known, too, which one each of them is, and which commit changed it last.
    """

    def __init__(self, lake: ib.Lake, shape: list[str], on_read: bool) -> None:
        self.lake, self.rows = lake, list[Row]()
        self.traced: dict[int, tuple[Row, int]] = {}
        self.next_id = 0
        self.became: Became = lambda row: row
        self.added = list[Row]()
        given = ON_READ if on_read else {}
        lake.create("n.t", SCHEMA, partition_by=shape, properties={**given, **THIRD})
        lake.create("n.second", SCHEMA, partition_by=shape, properties=given)
        self.upgraded = False

    def append(self, rows: list[Row]) -> None:
        self._step(lambda name: self.lake.write(name, arrow(rows)), added=rows)

    def delete(self, bound: int) -> None:
        self._step(lambda name: self.lake.delete(name, _.id < bound), lambda row: row if row[0] >= bound else None)

    def update(self, bound: int) -> None:
        def became(row: Row) -> Row:
            return (row[0], "new", row[2]) if row[0] % 3 == bound % 3 else row

        self._step(lambda name: self.lake.update(name, {"a b": "'new'"}, _.id % 3 == bound % 3), became)

    def overwrite(self, rows: list[Row]) -> None:
        def change(name: str) -> object:
            return self.lake.write(name, arrow(rows), "overwrite", where=_.id > 5)

        self._step(change, lambda row: row if row[0] <= 5 else None, rows)

    def merge(self, rows: list[Row]) -> None:
        given = {row[0]: row for row in rows}
        known = {row[0] for row in self.rows}

        def change(name: str) -> object:
            matched = ib.when_matched("target.id < 7").update({"g ü": 'source."g ü"'})
            gone, new = ib.when_matched().delete(), ib.when_not_matched().insert_all()
            return self.lake.merge(name, arrow(list(given.values())), "id", matched, gone, new)

        def became(row: Row) -> Row | None:
            if row[0] not in given:
                return row
            return (row[0], row[1], given[row[0]][2]) if row[0] < 7 else None

        self._step(change, became, [row for row in given.values() if row[0] not in known])

    def compact(self, bound: int) -> None:
        order = ["-id"] if bound % 2 else None
        self._step(lambda name: self.lake.compact(name, rewrite_all=bound > 4, min_files=2, sort_by=order))

    def manifests(self, bound: int) -> None:
        self._step(self.lake.rewrite_manifests)

    def _step(
        self, change: Callable[[str], object], became: Became = lambda row: row, added: list[Row] | None = None
    ) -> None:
        change("n.t")
        change("n.second")
        self.became, self.added = became, added or []
        self.rows = [new for row in self.rows if (new := became(row)) is not None] + self.added

    def check(self) -> None:
        expected = Counter(self.rows)
        for name in ("n.t", "n.second"):
            assert Counter(tuple(row.values()) for row in self.lake.table(name).to_pylist()) == expected
        summaries = [loaded(self.lake, name).snapshot.summary for name in ("n.t", "n.second")]  # type: ignore[union-attr]
        third, second = (said.additional_properties for said in summaries if said is not None)
        for total in ("total-records", "total-data-files"):
            assert third[total] == second[total]
        self._check_lineage()

    def _check_lineage(self) -> None:
        """Check that rows that stay keep all, changed ones their id, and that new ones have ids that none had."""
        table = loaded(self.lake)
        now = table.pyiceberg.metadata.next_sequence_number() - 1
        rows = [tuple(row.values()) for row in self.lake.table("n.t", row_lineage=True).to_pylist()]
        found = {row[3]: (row[:3], row[4]) for row in rows}
        assert len(found) == len(rows)
        left = {}
        for row_id, (row, at) in self.traced.items():
            if (new := self.became(row)) is not None:
                left[row_id] = (new, at) if new is row else (new, now)
        assert {row_id: found.get(row_id) for row_id in left} == left
        came = {row_id: one for row_id, one in found.items() if row_id not in left}
        assert Counter(row for row, _ in came.values()) == Counter(self.added)
        assert all(self.next_id <= row_id < next_row_id(table) for row_id in came)
        assert {at for _, at in came.values()} <= {now}
        self.traced, self.next_id = found, next_row_id(table)


ROWS = st.lists(
    st.tuples(st.integers(0, 9), st.sampled_from(["x", None]), st.sampled_from(["ü b", "c", None])), max_size=6
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["append", "overwrite", "merge"]), ROWS),
        st.tuples(st.sampled_from(["delete", "update", "delete", "compact", "manifests"]), st.integers(0, 9)),
    ),
    min_size=3,
    max_size=7,
)
