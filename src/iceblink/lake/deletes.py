"""Which deletes apply to which data file.

References
----------
.. [1] Iceberg table spec, "Scan Planning" and "Delete Formats".
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass, field

from pyiceberg.manifest import DataFile, DataFileContent

from iceblink.lake.entries import DeleteFile

_PATH_FIELD = 2147483546
"""Field id of ``file_path`` in position delete files."""
REFERENCED, _OFFSET, _LENGTH = 17, 18, 19
"""Places, in a data file of format version 3, of what PyIceberg has no properties for."""

PartitionKey = tuple[int, tuple[Hashable, ...]]
"""Spec id and partition values."""


@dataclass(frozen=True)
class _Placed:
    """A delete file, the sequence number it was committed with, and between which paths its targets lie."""

    file: DeleteFile
    sequence: int
    first: bytes | None = None
    last: bytes | None = None

    def may_name(self, path: bytes) -> bool:
        return (self.first is None or self.first <= path) and (self.last is None or path <= self.last)


@dataclass
class DeleteIndex:
    """All deletes of a snapshot, found by data file: fill it with `add`, then ask `applying_to`."""

    _vectors: dict[str, _Placed] = field(default_factory=dict)
    _by_path: dict[str, list[_Placed]] = field(default_factory=lambda: defaultdict(list))
    _by_partition: dict[PartitionKey, list[_Placed]] = field(default_factory=lambda: defaultdict(list))
    _equality: dict[PartitionKey, list[_Placed]] = field(default_factory=lambda: defaultdict(list))
    _everywhere: list[_Placed] = field(default_factory=list)

    def add(self, delete: DataFile, sequence: int, key: PartitionKey, partitioned: bool) -> None:
        """Take in one delete file.

        Parameters
        ----------
        delete : DataFile
            As `manifest_files.read_manifest` reads it.
        sequence : int
            Its data sequence number.
        key : PartitionKey
        partitioned : bool
            False when its spec has no fields: equality deletes are global then.
        """
        if delete.content == DataFileContent.EQUALITY_DELETES.value:
            ids = tuple(delete.equality_ids or ())
            placed = _Placed(DeleteFile("equality", delete.file_path, delete.file_size_in_bytes, ids), sequence)
            (self._equality[key] if partitioned else self._everywhere).append(placed)
            return
        first, last = (delete.lower_bounds or {}).get(_PATH_FIELD), (delete.upper_bounds or {}).get(_PATH_FIELD)
        target = delete[REFERENCED] or (first.decode() if first is not None and first == last else None)
        if delete[_OFFSET] is not None and target is not None:
            file = DeleteFile(
                "vector",
                delete.file_path,
                delete.file_size_in_bytes,
                offset=delete[_OFFSET],
                length=delete[_LENGTH],
            )
            self._vectors[target] = _Placed(file, sequence)
            return
        placed = _Placed(DeleteFile("position", delete.file_path, delete.file_size_in_bytes), sequence, first, last)
        (self._by_path[target] if target is not None else self._by_partition[key]).append(placed)

    def applying_to(self, path: str, sequence: int, key: PartitionKey) -> tuple[DeleteFile, ...]:
        """Return the deletes that apply to a data file of that path, data sequence number and partition."""
        vector = self._vectors.get(path)
        if vector is not None and sequence <= vector.sequence:
            found = [vector]  # a vector holds all positions: position delete files beside it are out of date
        else:
            raw = path.encode()
            positions = self._by_path.get(path, []) + self._by_partition.get(key, [])
            found = [one for one in positions if sequence <= one.sequence and one.may_name(raw)]
        equality = self._equality.get(key, []) + self._everywhere
        found += [one for one in equality if sequence < one.sequence]
        return tuple(one.file for one in found)
