"""Damage to stored pages is found without decoding them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from iceblink.errors import DataCorrupt
from iceblink.lake.storage import Storage
from iceblink.scan.checksum import check_headers, verify_pages
from iceblink.scan.footer import Footer, read_footer
from iceblink.scan.thrift import read_struct

STORAGE = Storage()
ROWS = 90


def written(folder: Path, **options: Any) -> tuple[Path, Footer]:
    path = folder / "f.parquet"
    rng = np.random.default_rng(0)
    table = pa.table(
        {
            "x": rng.integers(0, 1 << 40, ROWS),
            "s": [f"s{row % 5}" if row % 7 else None for row in range(ROWS)],
            "l": [[float(row)] * (row % 3) for row in range(ROWS)],
        }
    )
    chosen = {"write_page_checksum": True, "max_rows_per_page": 20, "write_batch_size": 10, **options}
    pq.write_table(table, path, row_group_size=50, **chosen)
    return path, read_footer(STORAGE, str(path), path.stat().st_size)


def changed(path: Path, good: bytes, at: int, bit: int) -> None:
    bad = bytearray(good)
    bad[at] ^= 1 << bit
    path.write_bytes(bad)


def place(footer: Footer, group: int, leaf: int) -> tuple[int, int]:
    """Return where the pages of a column chunk begin and end."""
    chunk = footer.metadata.row_group(group).column(leaf)
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    return start, start + chunk.total_compressed_size


def pages(good: bytes, footer: Footer) -> Iterator[tuple[int, int, int]]:
    """Yield where the header of each page begins, where its body begins, and where it ends."""
    for group, leaf in product(range(2), range(3)):
        at, stop = place(footer, group, leaf)
        while at < stop:
            header, body = read_struct(good, {3: None}, at)
            yield at, body, body + header[3]
            at = body + header[3]


@pytest.mark.parametrize(
    "options", [{}, {"compression": "none", "use_dictionary": False}, {"data_page_version": "2.0"}]
)
def test_every_flip_in_a_page_body_is_found(tmp_path: Path, options: dict[str, Any]) -> None:
    path, footer = written(tmp_path, **options)
    good = path.read_bytes()
    verify_pages(STORAGE, footer, range(2), range(3))
    for at in (at for _, body, end in pages(good, footer) for at in range(body, end, 4)):
        changed(path, good, at, at % 8)
        os.utime(path, ns=(at, at))  # a change of the same instant would be the same file
        with pytest.raises(DataCorrupt, match=r"page at byte .* checksum") as caught:
            verify_pages(STORAGE, footer, range(2), range(3), owner="table demo.t, snapshot 7")
        assert caught.value.where.startswith(f"table demo.t, snapshot 7, file {path}, row group")


def decoded(path: Path, footer: Footer) -> list[Any]:
    file = pq.ParquetFile(path, metadata=footer.metadata, page_checksum_verification=True)
    return [row for group in range(2) for row in file.read_row_group(group, use_threads=False).to_pylist()]


def check_both_groups(footer: Footer) -> None:
    for group in range(2):
        check_headers(STORAGE, footer, group, range(3), "")


def test_a_wrong_number_of_values_in_a_header_is_found(tmp_path: Path) -> None:
    path, footer = written(tmp_path)
    good, expected = path.read_bytes(), decoded(path, footer)
    missed = []
    for at in (at for header, body, _ in pages(good, footer) for at in range(header, body)):
        changed(path, good, at, 1)
        try:
            rows = decoded(path, footer)
        except (OSError, pa.ArrowInvalid):
            continue
        if rows != expected:
            missed.append(at)
            with pytest.raises(DataCorrupt, match="values"):
                check_both_groups(footer)
    assert missed, "pyarrow finds them itself: check_headers is no longer needed"


def test_pages_without_a_checksum_pass(tmp_path: Path) -> None:
    path, footer = written(tmp_path, write_page_checksum=False)
    verify_pages(STORAGE, footer, range(2), range(3), threads=3)
    assert path.exists()


def test_only_the_given_columns_are_looked_at(tmp_path: Path) -> None:
    path, footer = written(tmp_path)
    changed(path, path.read_bytes(), place(footer, 1, 1)[1] - 1, 0)
    verify_pages(STORAGE, footer, [0], [0, 1, 2])
    verify_pages(STORAGE, footer, [1], [0, 2])
    with pytest.raises(DataCorrupt, match="column 's'") as caught:
        verify_pages(STORAGE, footer, [0, 1], [0, 1, 2], threads=2)
    assert "row group 1" in caught.value.where


def test_a_chunk_is_checked_once_as_long_as_the_file_stays(tmp_path: Path) -> None:
    path, footer = written(tmp_path)
    os.utime(path, ns=(1, 1))
    verify_pages(STORAGE, footer, [0], [0])
    changed(path, path.read_bytes(), place(footer, 0, 0)[0] + 60, 0)
    os.utime(path, ns=(1, 1))
    verify_pages(STORAGE, footer, [0], [0])  # remembered
    os.utime(path, ns=(2, 2))
    with pytest.raises(DataCorrupt):
        verify_pages(STORAGE, footer, [0], [0])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    path, footer = written(tmp_path)
    path.unlink()
    with pytest.raises(DataCorrupt, match="missing"):
        verify_pages(STORAGE, footer, [0], [0])
