"""A table as the bytes of a cache's entry: an Arrow IPC stream that is mapped and not read, sealed by a checksum.

Any Arrow library reads an entry as a stream; the seal lies behind its end. Every buffer begins at a multiple of 64
bytes, as the format recommends [1]_ and as some consumers of zero-copy arrays demand: pyarrow's writer aligns to 8 and
cannot be asked for more, so each message is laid out anew and its offsets are set in place [2]_.

References
----------
.. [1] Apache Arrow columnar format, "Buffer Alignment and Padding", "Encapsulated message format".
.. [2] Apache Arrow format, ``Message.fbs``; FlatBuffers internals, tables and vtables.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa

Piece = bytes | bytearray | memoryview
Seal = bytes

_ALIGNMENT = 64
_CONTINUES = b"\xff\xff\xff\xff"
_END = _CONTINUES + bytes(_ALIGNMENT - 4)  # of the stream, and nothing up to the seal
_MAGIC = b"icerows2"
SEAL_BYTES = len(_MAGIC) + 4
SUMMED_BYTES = 4096
"""Of so many bytes the sum is taken: a disk loses and mixes up sectors and pages."""

# places in Message.fbs: fields of Message, DictionaryBatch, RecordBatch
_HEADER, _BODY_BYTES, _BATCH_OF_DICTIONARY, _BUFFERS = 2, 3, 1, 2


def laid_out(table: pa.Table) -> list[Piece]:
    """Return the stream of a table in pieces, to be written one behind the other; memory: one copy of the rows."""
    return [piece for message in _messages(table) for piece in _aligned(message)] + [_END]


def seal(pieces: Iterable[Piece]) -> Seal:
    """Return what an entry ends with: the CRC-32 of the sums of the 64-bit words of each 4 KiB before it.

    Any damage to one word is found, as are pages that are lost or changed places; one in four thousand million of
    other damages is missed, and words that changed places within their 4 KiB. A CRC-32 of all bytes would find these,
    and take five times as long: an eighth of an epoch from the cache.
    """
    checksum = 0
    for block in _blocks(pieces):
        words = np.frombuffer(block, "<u8").reshape(-1, SUMMED_BYTES // 8)
        checksum = zlib.crc32(words.sum(axis=1), checksum)  # NumPy lets go of the interpreter lock
    return _MAGIC + checksum.to_bytes(4, "little")


def _blocks(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Cut what lies one behind the other anew: at multiples of the bytes that are summed; zeros fill the last."""
    rest = bytearray()
    for piece in (memoryview(given) for given in pieces):
        lacking = -len(rest) % SUMMED_BYTES
        rest += piece[:lacking]
        if len(rest) % SUMMED_BYTES:
            continue
        whole = lacking + (len(piece) - lacking) // SUMMED_BYTES * SUMMED_BYTES
        yield rest
        yield piece[lacking:whole]
        rest = bytearray(piece[whole:])
    yield rest + bytes(-len(rest) % SUMMED_BYTES)


def opened(entry: pa.Buffer, trusted: Seal | None = None) -> tuple[pa.Table, Seal] | None:
    """Return the rows of an entry without copying any, and its seal; None if it is damaged.

    Parameters
    ----------
    entry : pa.Buffer
        The whole file.
    trusted : bytes, optional
        The seal under which the bytes were verified before; they are not verified again if it is still the same.
    """
    if entry.size < SEAL_BYTES:
        return None
    stream, found = entry[: entry.size - SEAL_BYTES], entry[entry.size - SEAL_BYTES :].to_pybytes()
    if found != trusted and found != seal([memoryview(stream)]):
        return None
    try:
        return pa.ipc.open_stream(pa.BufferReader(stream)).read_all(), found
    except (pa.ArrowException, OSError):
        return None


def _messages(table: pa.Table) -> Iterator[pa.Message]:
    size = pa.MockOutputStream()  # a stream that grows would need up to three times the memory
    _write(table, size)
    stream = pa.allocate_buffer(size.size())
    _write(table, pa.FixedSizeBufferWriter(stream))
    yield from pa.ipc.MessageReader.open_stream(pa.BufferReader(stream))


def _write(table: pa.Table, sink: pa.NativeFile) -> None:
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


def _aligned(message: pa.Message) -> Iterator[Piece]:
    metadata = bytearray(message.metadata)
    body = memoryview(message.body) if message.body is not None else memoryview(b"")
    pieces: list[Piece] = []
    end = 0
    for place in _buffers(metadata, message.type):
        at, size = map(int, place)
        place[0] = end
        pieces += [body[at : at + size], bytes(-size % _ALIGNMENT)]
        end += size + -size % _ALIGNMENT
    if end:  # a message without a body may not have the field
        _int64(metadata, _field(metadata, _root(metadata), _BODY_BYTES))[0] = end
    padding = bytes(-(8 + len(metadata)) % _ALIGNMENT)
    yield _CONTINUES + (len(metadata) + len(padding)).to_bytes(4, "little") + metadata + padding
    yield from pieces


def _buffers(metadata: bytearray, kind: str) -> Sequence[np.ndarray]:
    """Return views of offset and length of each buffer of a message, which can be set."""
    if kind not in {"record batch", "dictionary"}:
        return []
    batch = _target(metadata, _field(metadata, _root(metadata), _HEADER))
    if kind == "dictionary":
        batch = _target(metadata, _field(metadata, batch, _BATCH_OF_DICTIONARY))
    if not (field := _field(metadata, batch, _BUFFERS)):
        return []
    places = _target(metadata, field)
    (count,) = struct.unpack_from("<I", metadata, places)
    return list(_int64(metadata, places + 4, 2 * count).reshape(count, 2))


def _root(metadata: bytearray) -> int:
    return _target(metadata, 0)


def _target(metadata: bytearray, at: int) -> int:
    (distance,) = struct.unpack_from("<I", metadata, at)
    return at + int(distance)


def _field(metadata: bytearray, table: int, number: int) -> int:
    """Return where a field of a table lies; 0 if it is not there."""
    (back,) = struct.unpack_from("<i", metadata, table)
    fields = table - back
    (size,) = struct.unpack_from("<H", metadata, fields)
    if 4 + 2 * number >= size:
        return 0
    (distance,) = struct.unpack_from("<H", metadata, fields + 4 + 2 * number)
    return table + int(distance) if distance else 0


def _int64(metadata: bytearray, at: int, count: int = 1) -> np.ndarray:
    return np.frombuffer(metadata, "<i8", count, at)
