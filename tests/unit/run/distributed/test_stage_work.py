"""One task of a stage: what it reads by itself, what it holds, and what comes of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from iceblink.config import MIB, Settings
from iceblink.errors import DataCorrupt
from iceblink.lake.storage import Storage
from iceblink.predicate import Everything
from iceblink.run.distributed.share import Share
from iceblink.run.distributed.stage_work import ReadSpec, Scanned, StageWork
from iceblink.run.pipeline.backend import Call
from iceblink.scan.batch import Batch
from iceblink.scan.split import Piece, Split

SETTINGS = Settings(threads=1, memory_bytes=256 * MIB)
FILE = pa.schema(
    [
        pa.field("id", pa.int64(), metadata={"PARQUET:field_id": "1"}),
        pa.field("x", pa.int64(), metadata={"PARQUET:field_id": "2"}),
    ]
)
SIDE = pa.schema([("id", pa.int64()), ("w", pa.int64())])
JOIN = "SELECT big.x, side.w FROM big JOIN side ON big.id = side.id"


@pytest.fixture
def split(tmp_path: Path) -> Split:
    """The second of three row groups."""
    path = tmp_path / "a b.parquet"
    data = pa.table({"id": range(300), "x": range(1000, 1300)}, schema=FILE)
    pq.write_table(data, path, row_group_size=100, write_page_checksum=True, compression="none", use_dictionary=False)
    piece = Piece(str(path), path.stat().st_size, 1, 1, 100, 100, 1600)
    return Split("t", 1, 0, ("id", "x"), Everything(), (piece,))


def work(sql: str, direct: bool, schema: pa.Schema) -> StageWork:
    reads = {"big": ReadSpec(FILE, Scanned(FILE, Storage(), "demo.t", "demo.t")), "side": ReadSpec(SIDE)}
    named = {name: spec for name, spec in reads.items() if name in sql}
    return StageWork(sql, named, schema, "as it is", SETTINGS, planned=True, direct=direct)


def rows_of(made: StageWork, share: Share, *blocks: pa.RecordBatch) -> list[tuple[object, ...]]:
    call = Call([share.packed(), *(Batch(block, "", 0) for block in blocks)])
    found = [output.data.data for output in made()(call, lambda consumed: None)]
    return sorted(tuple(row.values()) for batch in found for row in batch.to_pylist())


@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize("held", [(), ("side",), ("big", "side")])
def test_a_task_joins_its_row_groups_with_blocks_however_it_reads_them(
    split: Split, direct: bool, held: tuple[str, ...]
) -> None:
    sides = [
        pa.record_batch({"id": ids, "w": values}, SIDE) for ids, values in (([5, 105], [1, 2]), ([199, 200], [3, 4]))
    ]
    share = Share({"big": (split,)}, ("side", "side"), frozenset(held))
    schema = pa.schema([("x", pa.int64()), ("w", pa.int64())])
    assert rows_of(work(JOIN, direct, schema), share, *sides) == [(1105, 2), (1199, 3)]


@pytest.mark.parametrize("direct", [True, False])
def test_a_task_reads_its_row_groups_and_no_others(split: Split, direct: bool) -> None:
    schema = pa.schema([("a", pa.int64()), ("b", pa.int64()), ("n", pa.int64())])
    made = work("SELECT min(id) AS a, max(x) AS b, count(*) AS n FROM big", direct, schema)
    assert rows_of(made, Share({"big": (split,)})) == [(100, 1199, 100)]
    assert rows_of(made, Share({"big": (split, split)})) == [(100, 1199, 200)]


@pytest.mark.parametrize("direct", [True, False])
def test_damage_in_its_row_groups_is_found_before_a_row_leaves_and_that_in_others_is_not_its_affair(
    split: Split, direct: bool
) -> None:
    (piece,) = split.pieces
    path, total = Path(piece.path), pa.schema([("n", pa.int64())])
    chunks = [pq.read_metadata(path).row_group(group).column(1) for group in range(3)]
    made = work("SELECT sum(x)::BIGINT AS n FROM big", direct, total)

    def flip(group: int) -> None:
        content = bytearray(path.read_bytes())
        content[chunks[group].data_page_offset + chunks[group].total_compressed_size - 3] ^= 4
        path.write_bytes(content)

    flip(2)
    assert rows_of(made, Share({"big": (split,)})) == [(sum(range(1100, 1200)),)]
    flip(1)
    other = path.rename(path.with_name("other.parquet"))  # what was verified is not verified again under its name
    moved = replace(split, pieces=(replace(piece, path=str(other)),))
    with pytest.raises(DataCorrupt):
        rows_of(made, Share({"big": (moved,)}))


def test_an_input_is_narrowed_to_what_is_named_and_keeps_a_column_to_count_by() -> None:
    assert ReadSpec(SIDE).narrowed(frozenset({"w", "other"})).schema.names == ["w"]
    assert ReadSpec(SIDE).narrowed(frozenset()).schema.names == ["id"]
    assert ReadSpec(SIDE).narrowed(None) == ReadSpec(SIDE)
