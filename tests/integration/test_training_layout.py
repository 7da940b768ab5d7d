"""A table laid out for training: the same rows as before, stored otherwise, whatever is done with it afterwards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.types import FixedType

import iceblink as ib
from iceblink import _
from iceblink.errors import (
    ColumnNotFound,
    CommitConflict,
    ConfigError,
    NullInRequired,
    SchemaMismatch,
    TypeMismatch,
)
from iceblink.lake.files import NewFile
from iceblink.lake.table import Table

WIDTH, ROWS = 6, 500
TENSOR = pa.fixed_shape_tensor(pa.float32(), [WIDTH])
Row = tuple[Any, ...]


def vector(number: int) -> list[float] | None:
    return None if number % 7 == 3 else [float(number * WIDTH + place) for place in range(WIDTH)]


def rows(numbers: range, emb: pa.DataType | None = None) -> pa.Table:
    schema = pa.schema({"id": pa.int64(), "text": pa.string(), "emb": emb or pa.list_(pa.float32())})
    return pa.table([list(numbers), [f"text {n}" for n in numbers], [vector(n) for n in numbers]], schema=schema)


def expected(*ranges: range) -> list[Row]:
    return sorted((n, f"text {n}", vector(n)) for numbers in ranges for n in numbers)


def held(dataset: ib.Dataset) -> list[Row]:
    found = dataset.to_arrow()
    emb = found["emb"].combine_chunks()
    lists = emb.storage if isinstance(emb.type, pa.FixedShapeTensorType) else emb
    return sorted(zip(found["id"].to_pylist(), found["text"].to_pylist(), lists.to_pylist(), strict=True))


def scanned(dataset: ib.Dataset) -> Table:
    return dataset.plan.table  # type: ignore[attr-defined,no-any-return]


def optimized(lake: ib.Lake, numbers: range = range(ROWS), **options: Any) -> ib.Dataset:
    lake.write("n.t", rows(numbers), "create")
    return lake.optimize("n.t", embeddings={"emb": WIDTH}, row_group_rows=100, **options)


@pytest.mark.parametrize("count", [0, 1, ROWS])
@pytest.mark.parametrize("codec", ["lz4", "none"])
def test_the_rows_are_the_same_in_another_order_and_form(lake: ib.Lake, count: int, codec: str) -> None:
    after = optimized(lake, range(count), codec=codec)
    assert after.schema.field("emb").type == TENSOR
    assert scanned(after).iceberg_schema.find_type("emb") == FixedType(4 * WIDTH)
    assert held(after) == held(lake.table("n.t")) == expected(range(count))
    order = after.to_arrow()["id"].to_pylist()
    assert (order == sorted(order)) == (count < 2)
    for file in scanned(after).files():
        metadata = pq.read_metadata(file.path)
        groups = [metadata.row_group(place) for place in range(metadata.num_row_groups)]
        assert [group.num_rows for group in groups] == [min(count, 100)] * len(groups)
        text, emb = groups[0].column(1), groups[0].column(2)
        assert (text.compression, text.is_stats_set) == ("ZSTD", True)
        assert emb.compression == {"lz4": "LZ4", "none": "UNCOMPRESSED"}[codec]
        assert (emb.physical_type, emb.is_stats_set) == ("FIXED_LEN_BYTE_ARRAY", False)
        assert not any("DICTIONARY" in encoding for encoding in emb.encodings)


def test_without_a_shuffle_rows_stay_where_they_are(lake: ib.Lake) -> None:
    assert optimized(lake, shuffle=False).to_arrow()["id"].to_pylist() == list(range(ROWS))


def test_what_was_before_is_read_as_it_was(lake: ib.Lake) -> None:
    before = lake.write("n.t", rows(range(20)), "create")
    lake.optimize("n.t", embeddings={"emb": WIDTH})
    then = lake.table("n.t", snapshot=scanned(before).snapshot_id)
    assert then.schema.field("emb").type == pa.list_(pa.field("element", pa.float32()))
    assert held(then) == expected(range(20))
    assert lake.history("n.t").count() == 2


APPENDED = range(ROWS, ROWS + 5)
LATER: list[tuple[Callable[[ib.Lake], object], tuple[range, ...]]] = [
    (lambda lake: lake.write("n.t", rows(APPENDED)), (range(ROWS), APPENDED)),
    (lambda lake: lake.write("n.t", rows(APPENDED, TENSOR)), (range(ROWS), APPENDED)),
    (lambda lake: lake.write("n.t", rows(APPENDED), evolve=True), (range(ROWS), APPENDED)),
    (lambda lake: lake.write("n.t", rows(range(ROWS - 5, ROWS + 5)), "upsert", on="id"), (range(ROWS), APPENDED)),
    (lambda lake: lake.write("n.t", rows(range(0)), "overwrite", where=_.id >= 9), (range(9),)),
    (lambda lake: lake.write("n.t", lake.table("n.t").filter(_.id < 9), "replace"), (range(9),)),
    (lambda lake: lake.optimize("n.t", codec="zstd", seed=1), (range(ROWS),)),
]


@pytest.mark.parametrize(("change", "left"), LATER)
def test_writes_keep_the_layout(lake: ib.Lake, change: Callable[[ib.Lake], object], left: tuple[range, ...]) -> None:
    before = scanned(optimized(lake)).iceberg_schema.find_field("emb")
    change(lake)
    after = lake.table("n.t")
    assert held(after) == expected(*left)
    assert scanned(after).iceberg_schema.find_field("emb") == before
    assert {pq.read_schema(file.path).field("emb").type for file in scanned(after).files()} == {pa.binary(4 * WIDTH)}


def test_a_tensor_added_later_is_bytes_too_and_small_numbers_stay_small(lake: ib.Lake) -> None:
    optimized(lake, range(3))
    pixels = pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(8, dtype="u1").reshape(2, 2, 2))
    after = lake.write("n.t", pa.table({"id": [8, 9], "pixels": pixels}), evolve=True)
    assert scanned(after).iceberg_schema.find_type("pixels") == FixedType(4)
    assert after.filter(_.id > 7).to_arrow()["pixels"].combine_chunks().equals(pixels)
    assert lake.write("n.t", {"id": [10]}).filter(_.pixels.isnull()).count() == 4


def test_tensors_are_stored_as_bytes_from_the_start_where_the_table_says_so(lake: ib.Lake) -> None:
    properties = {"iceblink.tensor-storage": "fixed", "write.parquet.compression-codec.column.emb": "uncompressed"}
    made = lake.write("n.t", rows(range(9), TENSOR), "create", properties=properties)
    assert scanned(made).iceberg_schema.find_type("emb") == FixedType(4 * WIDTH)
    assert held(made) == expected(range(9))
    lists = lake.write("n.t", made, "replace", properties={"iceblink.tensor-storage": "list"})
    assert held(lists) == expected(range(9))
    assert held(lake.optimize("n.t")) == expected(range(9))


def test_sql_reads_other_columns_natively_and_the_tensor_as_an_array(lake: ib.Lake) -> None:
    optimized(lake)
    assert "read by the kernel itself" in lake.sql("SELECT id, text FROM n.t").explain()
    found = lake.sql("SELECT id, emb[2] AS second, emb FROM n.t WHERE id BETWEEN 4 AND 5 ORDER BY id").to_arrow()
    assert found.schema.field("emb").type == TENSOR
    assert found["second"].to_pylist() == [25.0, 31.0]


def test_another_engine_sees_the_bytes_that_numpy_has(lake: ib.Lake) -> None:
    after = optimized(lake, range(9))
    theirs = scanned(after).pyiceberg.scan().to_arrow().sort_by("id")
    assert theirs.schema.field("emb").type == pa.binary(4 * WIDTH)
    numbers = [vector(n) for n in range(9)]
    assert theirs["emb"].to_pylist() == [None if n is None else np.array(n, "<f4").tobytes() for n in numbers]
    scanned(after).pyiceberg.append(theirs)
    assert held(lake.table("n.t")) == sorted(expected(range(9)) * 2)


def test_partitions_stay(lake: ib.Lake) -> None:
    lake.write("n.t", rows(range(50)), "create", partition_by=["bucket(3, id)"])
    after = lake.optimize("n.t", embeddings={"emb": (2, 3)})
    assert scanned(after).partition_by == ("bucket(3, id)",)
    assert after.schema.field("emb").type == pa.fixed_shape_tensor(pa.float32(), [2, 3])
    assert held(after) == expected(range(50))


def test_a_sorted_table_keeps_its_order_or_is_refused(lake: ib.Lake) -> None:
    lake.write("n.t", rows(range(50)), "create", sort_by=["-id"])
    with pytest.raises(ConfigError, match="shuffle=False"):
        lake.optimize("n.t", embeddings={"emb": WIDTH})
    after = lake.optimize("n.t", embeddings={"emb": WIDTH}, shuffle=False)
    assert after.to_arrow()["id"].to_pylist() == list(range(50))[::-1]


class Meddled(ib.LocalEngine):
    """Somebody else appends when all is written and nothing is committed."""

    others: Callable[[], object] | None = None

    def files(self, *arguments: Any) -> list[NewFile]:
        made = super().files(*arguments)
        others, self.others = self.others, None
        if others is not None:
            others()
        return made


def test_an_append_meanwhile_is_a_conflict_and_stays(tmp_path: Path) -> None:
    engine = Meddled()
    lake = ib.connect(tmp_path, engine=engine)
    lake.write("n.t", rows(range(9)), "create")
    engine.others = lambda: lake.write("n.t", rows(APPENDED))
    with pytest.raises(CommitConflict):
        lake.optimize("n.t", embeddings={"emb": WIDTH})
    assert held(lake.table("n.t")) == expected(range(9), APPENDED)
    assert held(lake.optimize("n.t", embeddings={"emb": WIDTH})) == expected(range(9), APPENDED)


@pytest.mark.parametrize(
    ("emb", "error", "match"),
    [
        ([1.0] * (WIDTH - 1), SchemaMismatch, r"'emb': expected tensor<float>\[6\], got list<float>, and \[1.0, 1.0"),
        ([1.0] * 99, SchemaMismatch, "of length 99 does not fit"),
        ([1.0] * (WIDTH - 1) + [None], NullInRequired, "'emb' has 1 null inside"),
    ],
)
def test_an_embedding_that_does_not_fit_is_named_and_nothing_changes(
    lake: ib.Lake, emb: list[Any], error: type[Exception], match: str
) -> None:
    data = rows(range(9))
    odd = data.slice(0, 1).set_column(2, data.schema.field("emb"), pa.array([emb], pa.list_(pa.float32())))
    before = lake.write("n.t", pa.concat_tables([data, odd]), "create")
    with pytest.raises(error, match=match):
        lake.optimize("n.t", embeddings={"emb": WIDTH})
    assert scanned(lake.table("n.t")).snapshot_id == scanned(before).snapshot_id


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"for_": "speed"}, ConfigError),
        ({"codec": "brotli"}, ConfigError),
        ({"row_group_rows": 0}, ConfigError),
        ({"embeddings": {"emb": 0}}, ConfigError),
        ({"embeddings": {"text": 3}}, TypeMismatch),
        ({"embeddings": {"words": 3}}, TypeMismatch),
        ({"embeddings": {"embs": 3}}, ColumnNotFound),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_read(
    lake: ib.Lake, options: dict[str, Any], error: type[Exception]
) -> None:
    lake.create("n.t", {"id": "long", "text": "string", "emb": "list<float>", "words": "list<string>"})
    with pytest.raises(error):
        lake.optimize("n.t", **options)
