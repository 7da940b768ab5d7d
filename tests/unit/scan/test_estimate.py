"""Estimated against real sizes, over the kinds of columns that lakes hold, with lengths that drift between files."""

from __future__ import annotations

import decimal
import json
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from iceblink.lake.storage import Storage
from iceblink.lake.tensors import from_bytes, to_bytes
from iceblink.scan.estimate import DecodedRatios, decoded_bytes, exact_bytes, learn
from iceblink.scan.footer import Footer, read_footer
from iceblink.scan.project import Projection

ROWS = 3_000
Kind = Callable[[np.random.Generator, float], pa.Array]


def words(rng: np.random.Generator, lengths: np.ndarray) -> list[str]:
    text = rng.integers(97, 123, 5_000, dtype=np.uint8).tobytes().decode()
    starts = rng.integers(0, 4_000, len(lengths))
    return [text[start : start + max(1, int(length))] for start, length in zip(starts, lengths, strict=True)]


def lists(rng: np.random.Generator, mean: float) -> list[list[float] | None]:
    sizes = rng.poisson(mean, ROWS)
    return [None if at % 17 == 0 else list(map(float, rng.random(size))) for at, size in enumerate(sizes)]


def large_json(rng: np.random.Generator, drift: float) -> pa.Array:
    texts = [json.dumps({"k": words(rng, np.array([1500 * drift]))}) for _ in range(4)]
    return pa.array([texts[i] for i in rng.integers(0, 4, ROWS)])


KINDS: dict[str, Kind] = {
    "random long": lambda rng, drift: pa.array(rng.integers(0, 1 << 60, ROWS)),
    "low-cardinality int": lambda rng, drift: pa.array(rng.integers(0, 10, ROWS), pa.int32()),
    "sequential long": lambda rng, drift: pa.array(np.arange(ROWS)),
    "double": lambda rng, drift: pa.array(rng.random(ROWS)),
    "boolean with nulls": lambda rng, drift: pa.array([None if i % 5 == 0 else i % 2 == 0 for i in range(ROWS)]),
    "decimal": lambda rng, drift: pa.array([decimal.Decimal(i) / 4 for i in range(ROWS)], pa.decimal128(12, 2)),
    "timestamp": lambda rng, drift: pa.array(rng.integers(0, 1 << 50, ROWS), pa.timestamp("us", "UTC")),
    "dictionary string": lambda rng, drift: pa.array(rng.choice(words(rng, np.full(40, 12 * drift)), ROWS).tolist()),
    "uuid string": lambda rng, drift: pa.array([str(uuid.UUID(bytes=rng.bytes(16))) for _ in range(ROWS)]),
    "uuid": lambda rng, drift: pa.array([rng.bytes(16) for _ in range(ROWS)], pa.uuid()),
    "long text": lambda rng, drift: pa.array(words(rng, rng.lognormal(5.5, 0.5, ROWS) * drift)),
    "list of float": lambda rng, drift: pa.array(lists(rng, 30 * drift), pa.list_(pa.float32())),
    "list of lists of string": lambda rng, drift: pa.array(
        [[None, [], words(rng, np.full(i % 3, 9 * drift))] if i % 7 else None for i in range(ROWS)],
        pa.list_(pa.list_(pa.string())),
    ),
    "nested struct": lambda rng, drift: pa.array(
        [
            None if i % 11 == 0 else {"x": i, "inner": {"y": text, "z": None if i % 2 else float(i)}}
            for i, text in enumerate(words(rng, np.full(ROWS, 20 * drift)))
        ]
    ),
    "map": lambda rng, drift: pa.array(
        [[(f"k{j}", i) for j in range(int(i % 5 * drift))] for i in range(ROWS)], pa.map_(pa.string(), pa.int64())
    ),
    "sparse string": lambda rng, drift: pa.array(
        [text if i % 100 == 0 else None for i, text in enumerate(words(rng, np.full(ROWS, 30 * drift)))]
    ),
    "sparse long": lambda rng, drift: pa.array([i if i % 100 == 0 else None for i in range(ROWS)]),
    "repeated large json": large_json,
    "image bytes": lambda rng, drift: pa.array([rng.bytes(int(600 * drift)) for _ in range(ROWS)]),
}


def written(folder: Path, kind: str, seed: int, drift: float) -> tuple[Footer, pa.Table]:
    table = pa.table({"c": KINDS[kind](np.random.default_rng(seed), drift)})
    path = str(folder / f"{seed}.parquet")
    pq.write_table(table, path, row_group_size=ROWS // 2, compression="zstd")
    return read_footer(Storage(), path, 1), table


@pytest.mark.parametrize("kind", KINDS)
def test_with_size_statistics_the_estimate_is_within_5_percent(kind: str, tmp_path: Path) -> None:
    for seed, drift in enumerate((1.0, 2.5)):
        footer, table = written(tmp_path, kind, seed, drift)
        projection = Projection.of(table.schema, footer.schema)
        for group in range(2):
            real = pq.ParquetFile(footer.path).read_row_group(group).nbytes
            assert exact_bytes(projection.columns[0], footer, group) == pytest.approx(real, rel=0.05)
            assert decoded_bytes(projection, footer, group) == pytest.approx(real, rel=0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_without_size_statistics_the_estimate_is_within_35_percent_under_drift(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("iceblink.scan.footer._SIZES", 99)  # a field that no footer has
    ratios = DecodedRatios()
    drifts = np.random.default_rng(7).lognormal(0, 0.6, 6)
    for seed, drift in enumerate(drifts):
        footer, table = written(tmp_path, kind, seed, float(drift))
        projection = Projection.of(table.schema, footer.schema)
        (column,) = projection.columns
        real = pq.ParquetFile(footer.path).read_row_group(0).nbytes
        if seed:
            assert decoded_bytes(projection, footer, 0, "t", ratios) == pytest.approx(real, rel=0.35)
        if exact_bytes(column, footer, 0) is None:
            learn("t", projection, footer, 0, {0: real}, ratios)


def test_a_column_of_fixed_width_is_exact_without_size_statistics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("iceblink.scan.footer._SIZES", 99)
    footer, table = written(tmp_path, "sparse long", 0, 1.0)
    (column,) = Projection.of(table.schema, footer.schema).columns
    assert exact_bytes(column, footer, 0) == pytest.approx(ROWS // 2 * 8.125)


def test_the_size_of_a_promoted_column_is_that_of_the_table(tmp_path: Path) -> None:
    footer, _ = written(tmp_path, "low-cardinality int", 0, 1.0)
    projection = Projection.of(pa.schema([("c", pa.int64())]), footer.schema)
    assert decoded_bytes(projection, footer, 0) == pytest.approx(ROWS // 2 * 8.125, rel=0.01)


@pytest.mark.parametrize("stored", [pa.list_(pa.float32()), pa.binary(24)])
def test_a_tensor_costs_no_offsets(tmp_path: Path, stored: pa.DataType) -> None:
    path = str(tmp_path / "tensor.parquet")
    tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(np.ones((ROWS, 2, 3), "f4"))
    plain = tensors.storage.cast(stored) if pa.types.is_list(stored) else to_bytes(tensors, "c", "t")
    pq.write_table(pa.table({"c": plain}), path)
    footer = read_footer(Storage(), path, 1)
    projection = Projection.of(pa.schema([("c", tensors.type)]), footer.schema)
    size = (tensors if pa.types.is_list(stored) else from_bytes(plain, tensors.type)).nbytes
    assert decoded_bytes(projection, footer, 0) == pytest.approx(size, rel=0.05)


def test_ratios_follow_what_is_decoded() -> None:
    ratios, key = DecodedRatios(weight=0.5), ("t", "w", 1)
    assert ratios.get(key) is None
    ratios.learn(key, 200, 100)
    assert ratios.get(key) == 2.0
    ratios.learn(key, 400, 100)
    assert ratios.get(key) == 3.0
