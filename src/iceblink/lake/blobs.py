"""Puffin files: blobs, such as sketches of columns, and a footer that says what each is.

References
----------
.. [1] Iceberg Puffin spec, "File structure", "Footer Payload" and "Compression codecs".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from iceblink.errors import DataCorrupt

MAGIC = b"PFA1"
_TAIL_BYTES = 12  # size of the payload, flags, magic
_COMPRESSED = 1  # of the flags: the footer's payload is an LZ4 frame
_CODECS = {"zstd": "zstd", "lz4": "lz4"}


@dataclass(frozen=True)
class Blob:
    """One blob and what its footer says of it.

    Parameters
    ----------
    kind : str
        ``apache-datasketches-theta-v1`` and such.
    fields : tuple of int
        Ids of the columns it was made of.
    snapshot_id, sequence_number : int
        Of the snapshot that it was made of.
    content : bytes
        Uncompressed.
    properties : mapping of str to str
    """

    kind: str
    fields: tuple[int, ...]
    snapshot_id: int
    sequence_number: int
    content: bytes = field(repr=False)
    properties: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Puffin:
    """A whole file, and how much of its end is the footer [bytes]."""

    content: bytes = field(repr=False)
    footer_bytes: int

    @classmethod
    def of(cls, blobs: Sequence[Blob], created_by: str) -> Puffin:
        """Return the file of these blobs, none of them compressed."""
        body, listed = MAGIC, []
        for blob in blobs:
            listed.append(
                {
                    "type": blob.kind,
                    "fields": list(blob.fields),
                    "snapshot-id": blob.snapshot_id,
                    "sequence-number": blob.sequence_number,
                    "offset": len(body),
                    "length": len(blob.content),
                    "properties": dict(blob.properties),
                }
            )
            body += blob.content
        payload = json.dumps({"blobs": listed, "properties": {"created-by": created_by}}).encode()
        footer = MAGIC + payload + len(payload).to_bytes(4, "little") + bytes(4) + MAGIC
        return cls(body + footer, len(footer))

    def blobs(self, path: str) -> list[Blob]:
        """Return the blobs; `path` is for errors.

        Raises
        ------
        DataCorrupt
            The file is cut short, changed, or has a codec that the specification does not.
        """
        try:
            end, listed = self._footer()
            return [self._blob(one, end) for one in listed["blobs"]]
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise DataCorrupt(
                f"a statistics file cannot be read: {error}", path, "compute the statistics again"
            ) from error

    def _footer(self) -> tuple[int, Any]:
        """Return where the footer begins, and what it says."""
        size = int.from_bytes(self.content[-_TAIL_BYTES : -_TAIL_BYTES + 4], "little", signed=True)
        start = len(self.content) - _TAIL_BYTES - size
        ends = self.content[:4], self.content[-4:], self.content[start - 4 : start] if start >= 8 else b""
        if size < 0 or set(ends) != {MAGIC}:
            raise ValueError("it does not begin or end as a Puffin file does")
        payload = self.content[start:-_TAIL_BYTES]
        flags = self.content[-_TAIL_BYTES + 4]
        return start - len(MAGIC), json.loads(_decompressed(payload, "lz4" if flags & _COMPRESSED else None))

    def _blob(self, listed: Mapping[str, Any], end: int) -> Blob:
        start, size = listed["offset"], listed["length"]
        content = self.content[start : start + size]
        if not len(MAGIC) <= start <= start + size <= end:
            raise ValueError("a blob lies outside of the file")
        return Blob(
            listed["type"],
            tuple(listed["fields"]),
            listed["snapshot-id"],
            listed["sequence-number"],
            _decompressed(content, listed.get("compression-codec")),
            listed.get("properties") or {},
        )


def _decompressed(content: bytes, codec: str | None) -> bytes:
    if codec is None:
        return content
    if codec not in _CODECS:
        raise ValueError(f"no codec {codec!r}")
    with pa.CompressedInputStream(pa.BufferReader(content), _CODECS[codec]) as stream:
        found: bytes = stream.read()
    return found
