"""Read Thrift's compact protocol: only the wanted fields of a struct, everything else stepped over.

References
----------
.. [1] Apache Thrift, "Thrift Compact protocol encoding", doc/specs/thrift-compact-protocol.md.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, TypeAlias

Want: TypeAlias = "Mapping[int, Want] | None"
"""What to keep of a value: field ids for a struct or a list of structs, None for everything else."""


class ThriftError(ValueError):
    """The bytes are not what the protocol allows."""


_STOP, _TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(13)


def read_struct(data: bytes, want: Mapping[int, Want], offset: int = 0) -> tuple[dict[int, Any], int]:
    """Read the struct that begins at `offset`.

    Parameters
    ----------
    data : bytes
    want : mapping of int to Want
        Field ids to keep, and what to keep inside them.
    offset : int
        Where it begins [bytes].

    Returns
    -------
    (dict, int)
        Values by field id, for the fields that are there; and where the struct ends [bytes].

    Raises
    ------
    ThriftError
        Cut short, or of no known type.
    """
    try:
        return _struct(data, offset, want)
    except (IndexError, struct.error, RecursionError) as error:
        raise ThriftError(f"a struct that begins at byte {offset} is cut short or damaged") from error


# Each function below takes where a value begins and returns where it ends. The loops are plain and call little:
# footers are read by the thousand.


def _struct(data: bytes, at: int, want: Mapping[int, Want]) -> tuple[dict[int, Any], int]:
    values: dict[int, Any] = {}
    field_id = 0
    while (header := data[at]) != _STOP:
        at += 1
        kind = header & 15
        if header > 15:
            field_id += header >> 4
        else:
            field_id, at = _signed(data, at)
        if field_id in want:
            inner = want[field_id]
            if inner is None and _I16 <= kind <= _I64:
                number, at = _varint(data, at)
                values[field_id] = (number >> 1) ^ -(number & 1)
            elif inner is None and kind <= _FALSE:  # a boolean lies in the field's header
                values[field_id] = kind == _TRUE
            else:
                values[field_id], at = _value(data, at, kind, inner)
        elif _I16 <= kind <= _I64:
            while data[at] > 0x7F:
                at += 1
            at += 1
        elif kind > _FALSE:
            at = _skip(data, at, kind)
    return values, at + 1


def _value(data: bytes, at: int, kind: int, want: Want) -> tuple[Any, int]:
    """Read a wanted value: a number or a string for a want of None, a struct for one of fields, or a list."""
    if kind in (_LIST, _SET):
        size, element, at = _list_header(data, at)
        values = []
        for _ in range(size):
            value, at = _value(data, at, element, want)
            values.append(value)
        return values, at
    if (kind == _STRUCT) != (want is not None):
        raise ThriftError(f"type {kind} where another belongs, at byte {at}")
    if want is not None:
        return _struct(data, at, want)
    if _I16 <= kind <= _I64:
        number, at = _varint(data, at)
        return (number >> 1) ^ -(number & 1), at
    if kind == _BINARY:
        length, at = _varint(data, at)
        end = at + length
        if end > len(data):
            raise ThriftError(f"a string is cut short at byte {at}")
        return data[at:end], end
    if kind == _DOUBLE:
        return struct.unpack_from("<d", data, at)[0], at + 8
    if kind == _BYTE:
        return data[at] - ((data[at] & 0x80) << 1), at + 1
    if kind in (_TRUE, _FALSE):  # in a list a boolean takes a byte of its own
        return data[at] == _TRUE, at + 1
    raise ThriftError(f"no type {kind}, at byte {at}")


def _skip(data: bytes, at: int, kind: int) -> int:
    """Return where a value ends that nobody wants, a boolean being one of a list."""
    if _I16 <= kind <= _I64:
        while data[at] > 0x7F:
            at += 1
        return at + 1
    if kind == _BINARY:
        length = data[at]
        length, at = (length, at + 1) if length < 0x80 else _varint(data, at)
        return at + length
    if kind == _STRUCT:
        while (header := data[at]) != _STOP:
            at += 1
            if header < 16:  # the field's id follows
                at = _skip(data, at, _I16)
            inner = header & 15
            if _I16 <= inner <= _I64:
                while data[at] > 0x7F:
                    at += 1
                at += 1
            elif inner > _FALSE:
                at = _skip(data, at, inner)
        return at + 1
    if kind in (_LIST, _SET):
        size, element, at = _list_header(data, at)
        for _ in range(size):
            at = _skip(data, at, element)
        return at
    if kind == _DOUBLE:
        return at + 8
    if kind in (_TRUE, _FALSE, _BYTE):
        return at + 1
    if kind == _MAP:
        size, at = _varint(data, at)
        if size > len(data) - at:
            raise ThriftError(f"a map is too long at byte {at}")
        kinds, at = (data[at], at + 1) if size else (0, at)
        for _ in range(size):
            at = _skip(data, _skip(data, at, kinds >> 4), kinds & 15)
        return at
    raise ThriftError(f"no type {kind}, at byte {at}")


def _list_header(data: bytes, at: int) -> tuple[int, int, int]:
    """Return the number of elements, their type, and where the first begins."""
    header = data[at]
    size, at = (header >> 4, at + 1) if header < 0xF0 else _varint(data, at + 1)
    if size > len(data) - at:  # every element takes a byte at least: refuse before making a list
        raise ThriftError(f"a list is too long at byte {at}")
    return size, header & 15, at


def _signed(data: bytes, at: int) -> tuple[int, int]:
    number, at = _varint(data, at)
    return (number >> 1) ^ -(number & 1), at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number = data[at]
    at += 1
    if number < 0x80:
        return number, at
    number &= 0x7F
    for shift in range(7, 64, 7):
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
    raise ThriftError(f"a number is too long at byte {at}")
