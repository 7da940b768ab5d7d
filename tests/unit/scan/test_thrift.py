"""The compact protocol, against structs encoded here by the book."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iceblink.scan.thrift import ThriftError, read_struct


def varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def signed(number: int) -> bytes:
    return varint((number << 1) ^ (number >> 63))


def encode(value: Any) -> tuple[int, bytes]:
    """Return the type and bytes of a value: bool, int, float, bytes, list of one type, dict of field ids."""
    match value:
        case bool():
            return (1 if value else 2), b""
        case int():
            return 6, signed(value)
        case float():
            return 7, struct.pack("<d", value)
        case bytes():
            return 8, varint(len(value)) + value
        case list():
            kinds = [encode(one) for one in value] or [(6, b"")]
            kind = 1 if kinds[0][0] in (1, 2) else kinds[0][0]
            items = [bytes([found]) if kind == 1 else raw for found, raw in kinds] if value else []
            size = len(value)
            header = bytes([size << 4 | kind]) if size < 15 else bytes([0xF0 | kind]) + varint(size)
            return 9, header + b"".join(items)
        case dict():
            out, last = b"", 0
            for number, inner in sorted(value.items()):
                kind, raw = encode(inner)
                short = 0 < number - last < 16
                out += bytes([(number - last) << 4 | kind]) if short else bytes([kind]) + signed(number)
                out, last = out + raw, number
            return 12, out + b"\0"
    raise TypeError(value)


plain = st.one_of(st.booleans(), st.integers(-(1 << 62), 1 << 62), st.floats(allow_nan=False), st.binary(max_size=20))
lists = st.one_of(
    st.lists(st.booleans(), max_size=20),
    st.lists(st.integers(-9, 1 << 40), max_size=20),
    st.lists(st.binary(max_size=4), max_size=3),
)
values = st.dictionaries(st.integers(1, 60), plain | lists, max_size=8)
structs = st.dictionaries(st.integers(1, 60), plain | lists | values | st.lists(values, max_size=3), max_size=8)


def wanted(value: Any) -> Any:
    if isinstance(value, dict):
        return {number: wanted(inner) for number, inner in value.items()}
    return wanted(value[0]) if isinstance(value, list) and value and isinstance(value[0], dict) else None


def merged(values: list[Any]) -> Any:
    return {number: None for value in values for number in value}


@given(value=structs, before=st.binary(max_size=5), after=st.binary(max_size=5))
def test_what_is_wanted_is_read_and_the_rest_stepped_over(value: dict[int, Any], before: bytes, after: bytes) -> None:
    raw = encode(value)[1]
    want = {
        number: merged(inner) if isinstance(inner, list) and inner and isinstance(inner[0], dict) else wanted(inner)
        for number, inner in value.items()
    }
    assert read_struct(before + raw + after, want, len(before)) == (value, len(before) + len(raw))
    assert read_struct(before + raw + after, {}, len(before)) == ({}, len(before) + len(raw))
    some = {number: want[number] for number in list(want)[::2]}
    assert read_struct(raw, some)[0] == {number: value[number] for number in some}


def test_a_map_is_stepped_over() -> None:
    raw = bytes([0x1B]) + varint(2) + bytes([0x58]) + signed(1) + b"\x01a" + signed(2) + b"\x01b"
    raw += bytes([0x1B, 0]) + bytes([0x16]) + signed(7) + b"\0"
    assert read_struct(raw, {3: None})[0] == {3: 7}


@given(value=structs, cut=st.integers(0, 200))
def test_a_struct_cut_short_is_refused(value: dict[int, Any], cut: int) -> None:
    raw = encode(value)[1]
    if cut < len(raw):
        with pytest.raises(ThriftError):
            read_struct(raw[:cut], {})


@given(raw=st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    try:
        _, end = read_struct(raw, {1: None, 2: {1: None}, 3: None})
    except ThriftError:
        return
    assert end <= len(raw)


@pytest.mark.parametrize(
    ("raw", "want"),
    [
        (bytes([0x1C, 0x00, 0x00]), {1: None}),  # a struct where a number belongs
        (bytes([0x15, 0x02, 0x00]), {1: {}}),  # a number where a struct belongs
        (bytes([0x1F, 0x00]), {}),  # no such type
        (bytes([0x19, 0xF5, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F]), {1: None}),  # a list longer than all bytes
        (bytes([0x16, *[0xFF] * 12, 0x00]), {1: None}),  # a number longer than any
    ],
)
def test_nonsense_is_refused(raw: bytes, want: dict[int, Any]) -> None:
    with pytest.raises(ThriftError):
        read_struct(raw, want)
