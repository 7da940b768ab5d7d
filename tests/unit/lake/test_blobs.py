"""Puffin files of ours are read by PyIceberg, those of others by us, and damaged ones by nobody."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.table.puffin import PuffinFile

from iceblink.errors import DataCorrupt
from iceblink.lake.blobs import MAGIC, Blob, Puffin

blobs = st.lists(
    st.builds(
        Blob,
        kind=st.sampled_from(["apache-datasketches-theta-v1", "ü"]),
        fields=st.lists(st.integers(0, 9), max_size=2).map(tuple),
        snapshot_id=st.integers(0, 2**62),
        sequence_number=st.integers(0, 9),
        content=st.binary(max_size=20),
        properties=st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2),
    ),
    max_size=3,
)


@settings(max_examples=30)
@given(blobs)
def test_blobs_come_back_and_pyiceberg_reads_them(written: list[Blob]) -> None:
    puffin = Puffin.of(written, "a test")
    assert puffin.blobs("x") == written
    theirs = PuffinFile(puffin.content)
    assert [theirs.get_blob_payload(one) for one in theirs.footer.blobs] == [blob.content for blob in written]
    assert puffin.content[-puffin.footer_bytes :][:4] == MAGIC


def compressed(content: bytes, codec: str) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, codec) as stream:
        stream.write(content)
    return bytes(sink.getvalue())


def hand_made(listed: dict[str, Any], body: bytes, packed_footer: bool) -> bytes:
    payload = json.dumps({"blobs": [{"type": "x", "fields": [1], "snapshot-id": 1, "sequence-number": 1, **listed}]})
    footer = compressed(payload.encode(), "lz4") if packed_footer else payload.encode()
    flags = bytes([packed_footer, 0, 0, 0])
    return MAGIC + body + MAGIC + footer + len(footer).to_bytes(4, "little") + flags + MAGIC


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
@pytest.mark.parametrize("packed_footer", [False, True])
def test_blobs_and_footers_of_others_are_unpacked(codec: str, packed_footer: bool) -> None:
    body = compressed(b"many bytes" * 9, codec)
    listed = {"offset": 4, "length": len(body), "compression-codec": codec}
    (found,) = Puffin(hand_made(listed, body, packed_footer), 0).blobs("x")
    assert found.content == b"many bytes" * 9


def test_a_damaged_file_is_said_to_be_one() -> None:
    whole = Puffin.of([Blob("x", (1,), 1, 1, b"content")], "a test").content
    for cut in range(len(whole)):
        with pytest.raises(DataCorrupt):
            Puffin(whole[:cut], 0).blobs("x")
    wrong: list[dict[str, Any]] = [
        {"offset": 4, "length": 9},
        {"offset": 0, "length": 1},
        {"offset": 4},
        {"offset": 4, "length": -1},
    ]
    wrong.append({"offset": 4, "length": 1, "compression-codec": "brotli"})
    wrong.append({"offset": 4, "length": 1, "compression-codec": "zstd"})
    for listed in wrong:
        with pytest.raises(DataCorrupt):
            Puffin(hand_made(listed, b"?", False), 0).blobs("x")
