"""Manifest lists and manifests, read whole or reported damaged; never half.

PyIceberg's Avro reader takes the end of a file cut short for the end of its records. Here every byte is accounted for,
and every manifest must hold as many entries as its list says.

These files never change, so what was read is remembered by this process, whoever reads. A file that is damaged or
removed after that is noticed by other processes, by a commit that rewrites it, and here after `forget`; until then
answers stay right.

References
----------
.. [1] Iceberg table spec, "Manifests" and "Manifest Lists". Avro 1.11 spec, "Object Container Files".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any

from pyiceberg.avro.decoder import new_decoder
from pyiceberg.avro.file import META_SCHEMA, AvroFileHeader
from pyiceberg.avro.reader import Reader
from pyiceberg.avro.resolver import construct_reader, resolve_reader
from pyiceberg.manifest import (
    MANIFEST_ENTRY_SCHEMAS,
    MANIFEST_LIST_FILE_SCHEMAS,
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    PartitionFieldSummary,
    _inherit_from_manifest,  # private, but what a manifest hands down to its entries is the spec's to say
)
from pyiceberg.typedef import Record
from pyiceberg.utils.lazydict import LazyDict
from pyiceberg.utils.schema_conversion import AvroSchemaConversion

from iceblink.errors import DataCorrupt
from iceblink.lake.remembered import Remembered
from iceblink.lake.retries import is_unreachable, unreachable
from iceblink.lake.storage import Storage

SYNC_BYTES = 16
FIRST_ROW_ID, FILE_FIRST_ROW_ID = 15, 16
"""Places, in an entry of a manifest list and in a data file, of what PyIceberg has no properties for."""
REMEMBERED_BYTES = 16 << 20
"""Manifests are remembered up to this size, uncompressed [bytes]; in memory they take about eight times as much."""


@dataclass(frozen=True)
class Origin:
    """Whose metadata is read, for the errors.

    Parameters
    ----------
    table : str
    snapshot_id : int
    parent_id : int or None
        The snapshot to fall back to.
    storage : Storage
    """

    table: str
    snapshot_id: int
    parent_id: int | None
    storage: Storage

    def damaged(self, path: str, what: str) -> DataCorrupt:
        """Return the error that `path` deserves."""
        way_out = f"; or read the version before it: snapshot {self.parent_id}" if self.parent_id is not None else ""
        where = f"table {self.table}, snapshot {self.snapshot_id}, file {path}"
        return DataCorrupt(what, where, f"restore the file from a backup{way_out}")


def read_manifest_list(path: str, origin: Origin) -> list[ManifestFile]:
    """Read a manifest list, or remember it.

    Raises
    ------
    DataCorrupt
        It is missing, cut short or unreadable.
    """
    key = (origin.storage, path)
    known = _lists.get(key)
    if known is None:
        known, nbytes = _records(path, "manifest list", origin, "list")
        _lists.put(key, known, nbytes)
    return list(known)


def read_manifest(manifest: ManifestFile, origin: Origin, live: bool = True) -> list[ManifestEntry]:
    """Read the entries of a manifest, or remember them, without those of removed files if `live`.

    They are shared by all who read, and not to be changed. Numbers and strings stay plain where PyIceberg would make
    enums of them. They have the fields of format version 3, so that deletion vectors can be found; data files say the
    row ids that they inherit.

    Raises
    ------
    DataCorrupt
        It is missing, cut short or unreadable.
    """
    first_row_id = _first_row_id(manifest)  # a manifest of before an upgrade has none, and is given some later
    key = (origin.storage, manifest.manifest_path, manifest.manifest_length, first_row_id)
    known = _manifests.get(key)
    if known is None:
        known, nbytes = _records(manifest.manifest_path, "manifest", origin, "entries", _Shared())
        _check_count(manifest, len(known), origin)
        if first_row_id is not None:
            _hand_down_row_ids(manifest, _live(known))
        _manifests.put(key, known, nbytes)
    return _live(known) if live else list(known)


def read_entries(manifest: ManifestFile, origin: Origin) -> list[ManifestEntry]:
    """Read the live entries of a manifest as PyIceberg itself has them, fit for a manifest that takes its place.

    Sequence numbers, snapshots and row ids that they inherit are said. They have the fields of format version 3 in
    memory.

    Raises
    ------
    DataCorrupt
        It is missing, cut short or unreadable.
    """
    entries, _ = _records(manifest.manifest_path, "manifest", origin, "commit")
    _check_count(manifest, len(entries), origin)
    live = [_inherit_from_manifest(one, manifest) for one in _live(entries)]
    _hand_down_row_ids(manifest, live)
    return live


def _live(entries: Iterable[ManifestEntry]) -> list[ManifestEntry]:
    gone = ManifestEntryStatus.DELETED.value  # what PyIceberg's enum is equal to, and the number that we keep
    return [entry for entry in entries if entry.status != gone]


def _first_row_id(manifest: ManifestFile) -> int | None:
    """Return the first row id of a manifest of data files; None before format version 3, where no row has one."""
    first: int | None = manifest[FIRST_ROW_ID] if len(manifest) > FIRST_ROW_ID else None
    return first


def _hand_down_row_ids(manifest: ManifestFile, live: Iterable[ManifestEntry]) -> None:
    """Say the first row id of each live data file that has none of its own: what follows those before it."""
    following = _first_row_id(manifest)
    for entry in live:
        file = entry.data_file
        if following is not None and file[FILE_FIRST_ROW_ID] is None:
            file[FILE_FIRST_ROW_ID] = following
            following += file.record_count


def read_data_files(manifest: ManifestFile, origin: Origin) -> Iterator[DataFile]:
    """Read the live data files of a manifest as PyIceberg itself has them, fit for a commit."""
    return (entry.data_file for entry in read_entries(manifest, origin))


def forget() -> None:
    """Let go of all that is remembered: what is read next is read from storage."""
    _lists.clear()
    _manifests.clear()


_lists: Remembered[tuple[Storage, str], list[ManifestFile]] = Remembered(REMEMBERED_BYTES // 8)
_manifests: Remembered[tuple[Storage, str, int, int | None], list[ManifestEntry]] = Remembered(REMEMBERED_BYTES)


class _Statistics(LazyDict[Any, Any]):
    """A map of statistics, decoded when asked; another thread never sees it half built, as it could PyIceberg's."""

    __slots__ = ()

    def __init__(self, turns: Sequence[Any]) -> None:
        super().__init__(turns)  # keys and values by turns

    def _build_dict(self) -> dict[Any, Any]:
        self._dict = built = dict(zip(self._contents[::2], self._contents[1::2], strict=True))
        return built


class _Shared:
    """Makes the entries of a manifest safe to read in threads, and of few objects.

    Python's cyclic collector looks at each object again and again: it took a third of the time to read 10,000 files.
    """

    def __init__(self) -> None:
        self._partitions: dict[tuple[Any, ...], Record] = {}

    def __call__(self, entry: ManifestEntry) -> ManifestEntry:
        data = entry.data_file._data
        for place, value in enumerate(data):
            if type(value) is LazyDict:  # `isinstance` would ask an abstract class, ten times as slowly
                blocks = value._contents
                data[place] = _Statistics(blocks[0] if len(blocks) == 1 else tuple(chain.from_iterable(blocks)))
            elif type(value) is Record:
                data[place] = self._partitions.setdefault(tuple(value._data), value)
        return entry


def _as_read(record: Any) -> Any:
    return record


def _check_count(manifest: ManifestFile, found: int, origin: Origin) -> None:
    counts = (manifest.added_files_count, manifest.existing_files_count, manifest.deleted_files_count)
    if None not in counts and sum(count or 0 for count in counts) != found:
        what = f"a manifest lists {found:,} files where {sum(count or 0 for count in counts):,} were written"
        raise origin.damaged(manifest.manifest_path, what)


_ENTRY = {-1: ManifestEntry, 2: DataFile}
_ENUMS = {0: ManifestEntryStatus, 101: FileFormat, 134: DataFileContent}
_SHAPES: dict[str, tuple[Any, Any, Any]] = {
    "list": (
        MANIFEST_LIST_FILE_SCHEMAS[3],
        {-1: ManifestFile, 508: PartitionFieldSummary},
        {517: ManifestContent},
    ),
    "entries": (MANIFEST_ENTRY_SCHEMAS[3], _ENTRY, {}),
    "commit": (MANIFEST_ENTRY_SCHEMAS[3], _ENTRY, _ENUMS),
}
"""What records are read as: schema, classes by field id, enums by field id."""

_header_reader = construct_reader(META_SCHEMA, {-1: AvroFileHeader})


@lru_cache(maxsize=64)
def _record_reader(written: str, shape: str) -> Reader:
    """Return a reader of records of the Avro schema `written`: finding one costs more than reading a small file."""
    schema, types, enums = _SHAPES[shape]
    return resolve_reader(AvroSchemaConversion().avro_to_iceberg(json.loads(written)), schema, types, enums)


def _records(
    path: str, kind: str, origin: Origin, shape: str, made: Callable[[Any], Any] = _as_read
) -> tuple[list[Any], int]:
    """Return what is made of all records of a file, and its size uncompressed [bytes]."""
    try:
        content = origin.storage.read(path)
    except FileNotFoundError:
        raise origin.damaged(path, f"a {kind} is missing") from None
    except OSError as error:
        if is_unreachable(error):
            raise unreachable(error, f"table {origin.table}", path) from None
        raise origin.damaged(path, f"a {kind} cannot be read: {error}") from None
    try:
        file = new_decoder(content)
        header = _header_reader.read(file)
        codec = header.compression_codec()
        reader = _record_reader(header.meta["avro.schema"], shape)
        records, nbytes = [], 0
        while file.tell() < len(content):
            count, block = file.read_int(), file.read_bytes()
            if file.read(SYNC_BYTES) != header.sync:
                raise ValueError("a block does not end where it should")
            plain = codec.decompress(block) if codec else block
            nbytes += len(plain)
            decoder = new_decoder(plain)
            records += [made(reader.read(decoder)) for _ in range(count)]
            if decoder.tell() != len(plain):
                raise ValueError("records do not fill their block")
        if file.tell() != len(content):  # PyIceberg's decoder reads on past the end, whatever lies there
            raise ValueError("it is cut short")
        return records, nbytes
    except Exception as error:  # bytes that are wrong raise whatever they happen to mean
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise origin.damaged(path, f"a {kind} is damaged: {reason}") from error
