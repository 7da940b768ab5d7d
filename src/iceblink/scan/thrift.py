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
    reader = _Reader(data, offset)
    try:
        return reader.struct(want), reader.at
    except (IndexError, struct.error, RecursionError) as error:
        raise ThriftError(f"cut short or damaged near byte {reader.at}") from error


class _Reader:
    """A place in the bytes, and what can be read there. The loops are plain: footers are read by the thousand."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at

    def varint(self) -> int:
        data, at = self.data, self.at
        byte = data[at]
        at += 1
        if byte < 0x80:
            self.at = at
            return byte
        result, shift = byte & 0x7F, 7
        while True:
            byte = data[at]
            at += 1
            result |= (byte & 0x7F) << shift
            if byte < 0x80:
                self.at = at
                return result
            shift += 7
            if shift > 63:
                raise ThriftError(f"a number is too long at byte {at}")

    def signed(self) -> int:
        number = self.varint()
        return (number >> 1) ^ -(number & 1)

    def binary(self) -> bytes:
        length = self.varint()
        start = self.at
        self.at = start + length
        if self.at > len(self.data):
            raise ThriftError(f"a string is cut short at byte {start}")
        return self.data[start : self.at]

    def list_header(self) -> tuple[int, int]:
        byte = self.data[self.at]
        self.at += 1
        size = byte >> 4
        if size == 15:
            size = self.varint()
        if size > len(self.data) - self.at:  # every element takes a byte at least: refuse before making a list
            raise ThriftError(f"a list is too long at byte {self.at}")
        return size, byte & 15

    def struct(self, want: Mapping[int, Want]) -> dict[int, Any]:
        values: dict[int, Any] = {}
        data = self.data
        field_id = 0
        while True:
            byte = data[self.at]
            self.at += 1
            if byte == _STOP:
                return values
            kind, delta = byte & 15, byte >> 4
            field_id = field_id + delta if delta else self.signed()
            if field_id not in want:
                self.skip(kind)
            elif kind <= _FALSE and want[field_id] is None:
                values[field_id] = kind == _TRUE
            else:
                values[field_id] = self.value(kind, want[field_id])

    def value(self, kind: int, want: Want) -> Any:
        """Read a wanted value: a number or a string for a want of None, a struct for one of fields, or a list."""
        if kind in (_LIST, _SET):
            size, element = self.list_header()
            return [self.value(element, want) for _ in range(size)]
        if (kind == _STRUCT) != (want is not None):
            raise ThriftError(f"type {kind} where another belongs, at byte {self.at}")
        if want is not None:
            return self.struct(want)
        if _I16 <= kind <= _I64:
            return self.signed()
        if kind == _BINARY:
            return self.binary()
        if kind in (_TRUE, _FALSE, _BYTE):  # a boolean in a list takes a byte of its own
            self.at += 1
            byte = self.data[self.at - 1]
            return byte - ((byte & 0x80) << 1) if kind == _BYTE else byte == _TRUE
        if kind == _DOUBLE:
            (number,) = struct.unpack_from("<d", self.data, self.at)
            self.at += 8
            return number
        raise ThriftError(f"no type {kind}, at byte {self.at}")

    def skip(self, kind: int) -> None:
        """Step over a field's value; a boolean has none, it lies in the field's header."""
        if kind > _FALSE:
            self.skip_element(kind)

    def skip_element(self, kind: int) -> None:
        if _I16 <= kind <= _I64:
            data, at = self.data, self.at
            while data[at] >= 0x80:
                at += 1
            self.at = at + 1
        elif kind == _BINARY:
            length = self.varint()
            self.at += length
        elif kind == _STRUCT:
            self.skip_struct()
        elif kind in (_LIST, _SET):
            size, element = self.list_header()
            for _ in range(size):
                self.skip_element(element)
        elif kind == _DOUBLE:
            self.at += 8
        elif kind in (_TRUE, _FALSE, _BYTE):
            self.at += 1
        elif kind == _MAP:
            self.skip_map()
        else:
            raise ThriftError(f"no type {kind}, at byte {self.at}")

    def skip_struct(self) -> None:
        data = self.data
        while (byte := data[self.at]) != _STOP:
            self.at += 1
            if byte < 0x10:
                self.varint()
            self.skip(byte & 15)
        self.at += 1

    def skip_map(self) -> None:
        size = self.varint()
        if not size:
            return
        if size > len(self.data) - self.at:
            raise ThriftError(f"a map is too long at byte {self.at}")
        kinds = self.data[self.at]
        self.at += 1
        for _ in range(size):
            self.skip_element(kinds >> 4)
            self.skip_element(kinds & 15)
