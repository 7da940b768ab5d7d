"""Which codec the columns of a data file have, when it is named and when it is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER

import iceblink as ib
from iceblink.lake.catalog import Catalog
from iceblink.lake.files import FileKind, ParquetFile

ROWS = 300_000
DRAW = np.random.default_rng(3)


def codecs_of(path: Path) -> dict[str, str]:
    group = pq.read_metadata(path).row_group(0)
    chunks = (group.column(leaf) for leaf in range(group.num_columns))
    return {chunk.path_in_schema: chunk.compression for chunk in chunks}


def written(folder: Path, types: dict[str, str], columns: dict[str, Any], properties: dict[str, str]) -> Path:
    table = Catalog.embedded(folder / "lake").create("demo.t", types, properties=properties)
    iceberg = table.pyiceberg
    kind = FileKind(table.name, "token", table.storage, iceberg.schema(), iceberg.properties, 0, UNSORTED_SORT_ORDER)
    path = folder / "f.parquet"
    file = ParquetFile(kind, str(path), ())
    file.write(pa.table(columns).cast(table.schema))
    file.close()
    return path


def noise(rows: int = ROWS) -> Any:
    return DRAW.standard_normal(rows, np.float32)


def lists(values: Any, length: int) -> pa.Array:
    return pa.ListArray.from_arrays(np.arange(0, len(values) + 1, length, dtype=np.int32), values)


def test_what_a_codec_hardly_shrinks_is_not_compressed(tmp_path: Path) -> None:
    rows = 80_000
    types = {
        "id": "long",
        "x": "float",
        "hash": "binary",
        "part": "string",
        "emb": "list<float>",
        "s": "struct<y: double>",
    }
    columns = {
        "id": np.arange(rows),
        "x": noise(rows),
        "hash": [DRAW.bytes(24) for _ in range(rows)],
        "part": pa.array([f"part {place % 7} of the whole" for place in range(rows)]),
        "emb": lists(noise(rows * 8), 8),
        "s": pa.StructArray.from_arrays([DRAW.standard_normal(rows)], ["y"]),
    }
    path = written(tmp_path, types, columns, {})
    assert codecs_of(path) == {
        "id": "ZSTD",
        "x": "UNCOMPRESSED",
        "hash": "UNCOMPRESSED",
        "part": "ZSTD",
        "emb.list.element": "UNCOMPRESSED",
        "s.y": "UNCOMPRESSED",
    }
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        assert file.read(["x"])["x"].to_numpy().tobytes() == columns["x"].tobytes()


def test_a_name_may_have_dots(tmp_path: Path) -> None:
    columns = {"a.b": noise(), "a.few": np.repeat(noise(30), ROWS // 30)}
    path = written(tmp_path, dict.fromkeys(columns, "float"), columns, {})
    assert codecs_of(path) == {"a.b": "UNCOMPRESSED", "a.few": "ZSTD"}


def test_it_is_what_is_written_that_is_judged(tmp_path: Path) -> None:
    tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(noise(ROWS * 4).reshape(-1, 16))
    few = np.repeat(noise(30), len(tensors) // 30)  # a dictionary of noise, and long runs of its places
    columns = {"v": tensors, "few": few}
    path = written(tmp_path, {"v": "list<float>", "few": "float"}, columns, {})
    assert codecs_of(path) == {"v.list.element": "UNCOMPRESSED", "few": "ZSTD"}


@pytest.mark.parametrize(
    ("properties", "codec"),
    [
        ({"write.parquet.compression-codec": "zstd"}, "ZSTD"),
        ({"write.parquet.compression-codec": "GZIP", "write.parquet.compression-level": "1"}, "GZIP"),
        ({"write.parquet.compression-codec.column.x": "zstd"}, "ZSTD"),
        ({"write.parquet.compression-codec.column.x": "lz4"}, "LZ4"),
        (
            {"write.parquet.compression-codec": "zstd", "write.parquet.compression-codec.column.x": "uncompressed"},
            "UNCOMPRESSED",
        ),
        ({"write.parquet.compression-level": "9"}, "UNCOMPRESSED"),
        ({}, "UNCOMPRESSED"),
    ],
)
def test_a_codec_that_is_named_is_the_codec(tmp_path: Path, properties: dict[str, str], codec: str) -> None:
    assert codecs_of(written(tmp_path, {"x": "float"}, {"x": noise()}, properties))["x"] == codec


def test_rows_too_few_to_tell_are_compressed(tmp_path: Path) -> None:
    path = written(tmp_path, {"x": "float", "b": "boolean"}, {"x": noise(1000), "b": [True] * 1000}, {})
    assert set(codecs_of(path).values()) == {"ZSTD"}


def test_images_of_which_a_row_group_has_few_are_sampled(tmp_path: Path) -> None:
    images = {"image": [DRAW.bytes(100_000) for _ in range(30)]}
    assert codecs_of(written(tmp_path, {"image": "binary"}, images, {})) == {"image": "UNCOMPRESSED"}


def test_writes_and_compactions_decide_alike(tmp_path: Path) -> None:
    with ib.connect(tmp_path) as lake:
        for start, mode in ((0, "create"), (ROWS, "append")):
            lake.write("n.t", pa.table({"id": np.arange(start, start + ROWS), "x": noise()}), mode)
        lake.compact("n.t", min_files=2)
        (file,) = lake.table("n.t.files").to_arrow()["file_path"].to_pylist()
        assert codecs_of(Path(file.removeprefix("file://"))) == {"id": "ZSTD", "x": "UNCOMPRESSED"}
        assert sorted(lake.table("n.t").to_arrow()["id"].to_pylist()) == list(range(2 * ROWS))
