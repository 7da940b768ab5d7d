"""Damaged tables: whatever is missing, cut short or changed is an error that names it, never a wrong answer."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

import iceblink as ib
from iceblink import _
from iceblink.errors import DataCorrupt

ROWS = {
    "i": list(range(20_000)),
    "x": [n * 0.37 for n in range(20_000)],
    "s": [f"text {n % 113}" for n in range(20_000)],
}

READINGS: dict[str, Callable[[ib.Lake], object]] = {
    "arrow": lambda lake: lake.table("n.t").to_arrow(),
    "sql": lambda lake: lake.sql("SELECT sum(i), sum(x), count(DISTINCT s) AS n FROM n.t").to_pylist(),
    "filter": lambda lake: lake.table("n.t").filter(_.x >= 0, _.s != "", _.i >= 0).to_arrow(),
    "function": lambda lake: lake.table("n.t").map_batches(lambda batch: batch).to_arrow(),
}


@pytest.fixture
def data_file(lake: ib.Lake, tmp_path: Path) -> Path:
    lake.write("n.t", ROWS, "create", properties={"write.parquet.row-group-limit": "5000"})
    (path,) = (tmp_path / "my lake ü").rglob("*.parquet")
    return path


@pytest.mark.parametrize("reading", READINGS)
def test_every_flipped_bit_of_a_data_page_is_found(lake: ib.Lake, data_file: Path, reading: str) -> None:
    whole = data_file.read_bytes()
    footer = int.from_bytes(whole[-8:-4], "little") + 8
    chosen = random.Random(7)
    for _attempt in range(12):
        damaged = bytearray(whole)
        damaged[chosen.randrange(4, len(whole) - footer)] ^= 1 << chosen.randrange(8)
        data_file.write_bytes(damaged)
        found = ""
        try:
            got = READINGS[reading](lake)
        except DataCorrupt as error:
            found = str(error)
        data_file.write_bytes(whole)
        # what is not found must have changed nothing: a bit of a page index that this reading does not use
        assert data_file.name in found if found else got == READINGS[reading](lake)


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("damage", ["gone", "empty", "cut short", "not Parquet"])
def test_a_data_file_that_cannot_be_read_is_named(lake: ib.Lake, data_file: Path, damage: str, reading: str) -> None:
    if damage == "gone":
        data_file.unlink()
    else:
        whole = data_file.read_bytes()
        data_file.write_bytes({"empty": b"", "cut short": whole[: len(whole) // 2]}.get(damage, b"x" * len(whole)))
    with pytest.raises(DataCorrupt) as caught:
        READINGS[reading](lake)
    assert data_file.name in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize("kind", ["snap-*.avro", "*-m0.avro"])
def test_a_damaged_manifest_is_named_for_readers_and_writers(
    lake: ib.Lake, data_file: Path, tmp_path: Path, kind: str
) -> None:
    (path,) = (tmp_path / "my lake ü").rglob(kind)
    path.write_bytes(path.read_bytes()[:50])
    for action in (READINGS["arrow"], lambda lake: lake.write("n.t", ROWS, "overwrite")):
        with pytest.raises(ib.IceblinkError, match=path.name):
            action(lake)


def test_a_missing_metadata_file_is_named(lake: ib.Lake, data_file: Path, tmp_path: Path) -> None:
    for path in (tmp_path / "my lake ü").rglob("*.metadata.json"):
        path.unlink()
    with pytest.raises(DataCorrupt, match=r"metadata\.json"):
        lake.table("n.t")


def test_other_snapshots_stay_readable(lake: ib.Lake, data_file: Path) -> None:
    second = lake.write("n.t", {"i": [1], "x": [1.0], "s": ["new"]}, "overwrite")
    data_file.unlink()
    assert second.to_pylist() == [{"i": 1, "x": 1.0, "s": "new"}]
    assert lake.table("n.t").count() == 1
