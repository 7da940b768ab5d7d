"""Footers agree with pyarrow where it can see, and with the data where it cannot."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from iceblink.errors import DataCorrupt
from iceblink.lake.storage import Storage
from iceblink.scan.footer import FooterCache, read_footer

STORAGE = Storage()


def written(folder: Path, columns: int = 3, rows: int = 100, name: str = "f") -> Path:
    path = folder / f"{name}.parquet"
    table = pa.table(
        {
            f"c{number}": pa.array([f"{row}" * 3 if row % 4 else None for row in range(rows)])
            for number in range(columns)
        }
    )
    table = table.append_column("l", pa.array([[row] * (row % 3) for row in range(rows)]))
    pq.write_table(table, path, row_group_size=40, write_page_index=True)
    return path


def test_a_footer_says_what_pyarrow_says(tmp_path: Path) -> None:
    path = written(tmp_path)
    footer = read_footer(STORAGE, str(path), path.stat().st_size)
    file = pq.ParquetFile(path)
    assert footer.schema.equals(file.schema_arrow, check_metadata=True)
    assert footer.first_rows == (0, 40, 80, 100)
    assert footer.leaf_paths == ("c0", "c1", "c2", "l.list.element")
    for group in range(3):
        for leaf in range(4):
            told, chunk = file.metadata.row_group(group).column(leaf), footer.chunks[group][leaf]
            assert chunk.uncompressed_bytes == told.total_uncompressed_size
            assert (chunk.index_length > 0) == told.has_column_index


def test_a_footer_knows_lengths_and_levels(tmp_path: Path) -> None:
    path = written(tmp_path)
    text, *_, lists = read_footer(STORAGE, str(path), 1).chunks[0]
    assert text.byte_array_bytes == sum(len(f"{row}" * 3) for row in range(40) if row % 4)
    assert text.definition == (10, 30)
    assert lists.repetition == (40, sum(max(0, row % 3 - 1) for row in range(40)))
    assert sum(lists.definition) == sum(max(1, row % 3) for row in range(40))


def test_only_the_tail_of_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    pq.write_table(pa.table({"x": np.random.default_rng(0).random(50_000)}), path)
    content = bytearray(path.read_bytes())
    content[: len(content) // 2] = bytes(len(content) // 2)
    path.write_bytes(content)
    assert read_footer(STORAGE, str(path), len(content)).metadata.num_rows == 50_000


def test_a_footer_longer_than_the_first_read_is_read_whole(tmp_path: Path) -> None:
    path = written(tmp_path, columns=400)
    footer = read_footer(STORAGE, str(path), path.stat().st_size)
    assert len(footer.raw) > 64 * 1024
    assert len(footer.chunks[2]) == 401


@pytest.mark.parametrize(
    ("content", "size", "words"),
    [
        (None, 10, "missing"),
        (b"", 10, "cut short: 0 of 10 bytes"),
        (b"PAR1" + bytes(100), 104, "does not end as a Parquet file does"),
        (b"PAR1", 4, "does not end as a Parquet file does"),
        (b"PAR1" + bytes(20) + (10_000).to_bytes(4, "little") + b"PAR1", 32, "longer than its file"),
        (b"PAR1" + bytes(20) + (20).to_bytes(4, "little") + b"PARE", 32, "encrypted"),
        (b"PAR1" + b"\xff" * 20 + (20).to_bytes(4, "little") + b"PAR1", 32, "cannot be read"),
    ],
)
def test_a_damaged_footer_names_the_file_and_what_to_do(
    tmp_path: Path, content: bytes | None, size: int, words: str
) -> None:
    path = tmp_path / "f.parquet"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataCorrupt, match=words) as caught:
        read_footer(STORAGE, str(path), size, "table demo.t, snapshot 7")
    assert caught.value.where == f"table demo.t, snapshot 7, file {path}"
    assert "restore the file" in caught.value.hint


def test_no_flip_in_a_footer_raises_anything_but_data_corrupt(tmp_path: Path) -> None:
    path = written(tmp_path)
    good = path.read_bytes()
    start = len(good) - 8 - int.from_bytes(good[-8:-4], "little")
    refused = 0
    for at in range(start, len(good), 3):
        bad = bytearray(good)
        bad[at] ^= 1 << at % 8
        path.write_bytes(bad)
        try:
            assert len(read_footer(STORAGE, str(path), len(good)).chunks) >= 0
        except DataCorrupt:
            refused += 1
    assert refused


def test_the_cache_reads_a_footer_once_and_forgets_the_oldest(tmp_path: Path) -> None:
    paths = [written(tmp_path, name=f"f{number}") for number in range(3)]
    sizes = [path.stat().st_size for path in paths]
    first = read_footer(STORAGE, str(paths[0]), sizes[0])
    cache = FooterCache(max_bytes=int(len(first.raw) * 2.5))
    got = [cache.get(STORAGE, str(path), size) for path, size in zip(paths, sizes, strict=True)]
    assert cache.get(STORAGE, str(paths[2]), sizes[2]) is got[2]
    assert cache.get(STORAGE, str(paths[1]), sizes[1]) is got[1]
    assert cache.get(STORAGE, str(paths[0]), sizes[0]) is not got[0]


def test_the_cache_may_be_shared_between_threads(tmp_path: Path) -> None:
    path = written(tmp_path)
    cache, got = FooterCache(), []
    size = path.stat().st_size
    threads = [threading.Thread(target=lambda: got.append(cache.get(STORAGE, str(path), size))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 8
    assert cache.get(STORAGE, str(path), size) in got
