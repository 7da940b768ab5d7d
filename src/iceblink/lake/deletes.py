"""Which deletes apply to which data file.

References
----------
.. [1] Iceberg table spec, "Scan Planning" and "Delete Formats".
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from pyiceberg.manifest import DataFile, DataFileContent

from iceblink.lake.entries import DeleteFile
from iceblink.lake.pruning import Values, comparable

_PATH_FIELD = 2147483546
"""Field id of ``file_path`` in position delete files."""
REFERENCED, OFFSET, LENGTH = 17, 18, 19
"""Places, in a data file of format version 3, of what PyIceberg has no properties for."""

PartitionKey = tuple[int, Values]
"""Spec id and partition values."""


@dataclass(frozen=True)
class PlacedDelete:
    """A delete file, and which data files it is for; picklable.

    Parameters
    ----------
    file : DeleteFile
    sequence : int
        The data sequence number it was committed with.
    target : str or None
        The one data file that it names.
    key : PartitionKey or None
        The partition it is for; None when it is for all.
    first, last : bytes or None
        Between which paths its targets lie.
    """

    file: DeleteFile
    sequence: int
    target: str | None = None
    key: PartitionKey | None = None
    first: bytes | None = None
    last: bytes | None = None

    @classmethod
    def of(cls, delete: DataFile, sequence: int, key: PartitionKey, partitioned: bool) -> Self:
        """Return what an entry of a manifest says.

        Parameters
        ----------
        delete : DataFile
            As `manifest_files.read_manifest` reads it.
        sequence : int
        key : PartitionKey
        partitioned : bool
            False when its spec has no fields: equality deletes are global then.
        """
        path, size = delete.file_path, delete.file_size_in_bytes
        if delete.content == DataFileContent.EQUALITY_DELETES.value:
            ids = tuple(delete.equality_ids or ())
            return cls(DeleteFile("equality", path, size, ids), sequence, key=key if partitioned else None)
        first, last = _path_bounds(delete)
        target = target_of(delete)
        if delete[OFFSET] is not None and target is not None:
            file = DeleteFile("vector", path, size, offset=delete[OFFSET], length=delete[LENGTH])
            return cls(file, sequence, target)
        return cls(DeleteFile("position", path, size), sequence, target, key, first, last)

    def may_name(self, path: bytes) -> bool:
        """Tell whether a data file of that path may be a target."""
        return (self.first is None or self.first <= path) and (self.last is None or path <= self.last)


def target_of(delete: DataFile) -> str | None:
    """Return the one data file that a delete file names, if it says so; `delete` as `manifest_files` reads it."""
    first, last = _path_bounds(delete)
    return delete[REFERENCED] or (first.decode() if first is not None and first == last else None)


def _path_bounds(delete: DataFile) -> tuple[bytes | None, bytes | None]:
    return (delete.lower_bounds or {}).get(_PATH_FIELD), (delete.upper_bounds or {}).get(_PATH_FIELD)


class DeleteIndex:
    """All deletes of a snapshot, found by data file.

    Parameters
    ----------
    deletes : iterable of PlacedDelete
    """

    def __init__(self, deletes: Iterable[PlacedDelete]) -> None:
        self._vectors: dict[str, PlacedDelete] = {}
        self._by_path: dict[str, list[PlacedDelete]] = defaultdict(list)
        self._by_partition: dict[PartitionKey, list[PlacedDelete]] = defaultdict(list)
        self._equality: dict[PartitionKey | None, list[PlacedDelete]] = defaultdict(list)
        for delete in deletes:
            key = delete.key and (delete.key[0], comparable(delete.key[1]))  # one that came from elsewhere is a copy
            if delete.file.kind == "equality":
                self._equality[key].append(delete)
            elif delete.file.kind == "vector" and delete.target is not None:
                self._vectors[delete.target] = delete
            elif delete.target is not None:
                self._by_path[delete.target].append(delete)
            elif key is not None:
                self._by_partition[key].append(delete)

    def applying_to(self, path: str, sequence: int, key: PartitionKey) -> tuple[DeleteFile, ...]:
        """Return the deletes that apply to a data file of that path, data sequence number and partition."""
        vector = self._vectors.get(path)
        if vector is not None and sequence <= vector.sequence:
            found = [vector]  # a vector holds all positions: position delete files beside it are out of date
        else:
            raw = path.encode()
            positions = self._by_path.get(path, []) + self._by_partition.get(key, [])
            found = [one for one in positions if sequence <= one.sequence and one.may_name(raw)]
        equality = self._equality.get(key, []) + self._equality.get(None, [])
        found += [one for one in equality if sequence < one.sequence]
        return tuple(one.file for one in found)
