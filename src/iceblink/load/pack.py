"""Documents as sequences of one length: which tokens go where, and units whose rows are such sequences.

What a unit is packed to depends on that unit alone, and the number of its sequences on the lengths of its documents. So
sequences have an order, and loaders a state, as rows of any other units do.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.types as pt
from numpy.typing import NDArray

from iceblink.errors import BatchContractBroken, ConfigError
from iceblink.load.batches import values_and_offsets
from iceblink.load.bucket import lengths_of
from iceblink.load.cache.tier import CacheTier, entry_key
from iceblink.load.columns import is_number
from iceblink.load.permute import shuffled
from iceblink.load.sequences import Pack
from iceblink.load.units import Stretch, Units
from iceblink.scan.ordered import in_order
from iceblink.splitmix import start_of

DOCUMENT, POSITION = "document", "position"


@dataclass(frozen=True)
class Pieces:
    """Documents, or parts of them, in the order of their places in sequences that lie one behind the other.

    Parameters
    ----------
    begins : ndarray of int64, shape (pieces,)
        First token, among those of all documents.
    lengths : ndarray of int64, shape (pieces,)
    slots : ndarray of int64, shape (pieces,)
        Place of the first token, among those of all sequences.
    """

    begins: NDArray[np.int64]
    lengths: NDArray[np.int64]
    slots: NDArray[np.int64]

    def sequences(self, length: int) -> int:
        """Return how many sequences of a length these make."""
        return int(self.slots[-1]) // length + 1 if len(self.slots) else 0


def pieces_of(lengths: NDArray[np.int64], pack: Pack, order: NDArray[np.int64]) -> Pieces:
    """Pack documents.

    Parameters
    ----------
    lengths : ndarray of int64, shape (documents,)
        Tokens of each.
    pack : Pack
    order : ndarray of int64, shape (documents,)
        In which they are packed.
    """
    begins = (np.cumsum(lengths) - lengths)[order]
    return (_whole if pack.whole else _cut)(begins, lengths[order], pack.length)


def _cut(begins: NDArray[np.int64], lengths: NDArray[np.int64], length: int) -> Pieces:
    ends, total = np.cumsum(lengths), int(lengths.sum())
    slots = np.union1d(ends - lengths, np.arange(0, total, length))
    slots = slots[slots < total]  # an empty document at the end has none
    document = np.searchsorted(ends, slots, side="right")
    inside = slots - (ends - lengths)[document]
    return Pieces(begins[document] + inside, np.diff(slots, append=total), slots)


def _whole(begins: NDArray[np.int64], lengths: NDArray[np.int64], length: int) -> Pieces:
    counts = -(-lengths // length)
    document = np.repeat(np.arange(len(lengths)), counts)
    inside = _numbers(counts) * length
    sizes = np.minimum(lengths[document] - inside, length)
    slots = _best_fit(sizes, length)
    by_slot = np.argsort(slots)
    return Pieces((begins[document] + inside)[by_slot], sizes[by_slot], slots[by_slot])


def _best_fit(sizes: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Return the places of pieces, the longest first: each in the fullest sequence that has room for it."""
    slots = np.empty(len(sizes), np.int64)
    rooms: list[int] = []  # that sequences have, each once, the smallest first
    ends: defaultdict[int, list[int]] = defaultdict(list)  # of the sequences that have so much room
    sequences = 0
    for piece in np.argsort(-sizes, kind="stable"):
        size = int(sizes[piece])
        place = bisect_left(rooms, size)
        if place < len(rooms):
            room = rooms[place]
            slot = ends[room].pop()
            if not ends[room]:
                del rooms[place]
        else:
            room, slot = length, sequences * length
            sequences += 1
        slots[piece], room = slot, room - size
        if room:
            if not ends[room]:
                rooms.insert(bisect_left(rooms, room), room)
            ends[room].append(slot + size)
    return slots


def _numbers(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the numbers from 0 up to each count."""
    return np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)


@dataclass(frozen=True, eq=False)
class PackedUnits:
    """Units of sequences, each packed of the documents of one of other units.

    Parameters
    ----------
    units : Units
    pack : Pack
    shuffle : bool
        Whether documents are packed in another order than they have.
    rows : ndarray of int64, shape (units,)
        Sequences of each.
    tokens : int
        Of all documents.
    schema : pa.Schema
    """

    units: Units
    pack: Pack
    shuffle: bool
    rows: NDArray[np.int64]
    tokens: int
    schema: pa.Schema

    @property
    def decoded_bytes(self) -> int:
        """Estimated Arrow size [bytes]."""
        bits = sum(int(field.type.value_type.bit_width) for field in self.schema)
        return int(self.rows.sum()) * self.pack.length * bits // 8

    @property
    def identity(self) -> dict[str, str]:
        """What sequences depend on."""
        return {**self.units.identity, "packing": self._words}

    @property
    def _words(self) -> str:
        return f"{self.pack}{', shuffled' if self.shuffle else ''}"

    @property
    def note(self) -> str:
        """What packing comes to, in words."""
        slots = int(self.rows.sum()) * self.pack.length
        share = 100 * (1 - self.tokens / slots) if slots else 0.0
        return f"{self.tokens:,} tokens packed in sequences of {self.pack.length:,}: {share:.2f} % are padding"

    def read(self, unit: int) -> pa.Table:
        """Pack the documents of a unit.

        Raises
        ------
        BatchContractBroken
            A null is inside of a list, or columns have lists of different lengths.
        """
        table, pack = self.units.read(unit), self.pack
        lists = {name: table.column(name).combine_chunks() for name in pack.names}
        lengths = self._lengths(lists[pack.names[0]])
        pieces = pieces_of(lengths, pack, self._order(len(lengths)))
        inside = _numbers(pieces.lengths)
        places = np.repeat(pieces.slots, pieces.lengths) + inside
        tokens = np.repeat(pieces.begins, pieces.lengths) + inside
        sequence = pieces.slots // pack.length
        document = np.arange(len(sequence)) - np.searchsorted(sequence, sequence) + 1
        slots = pieces.sequences(pack.length) * pack.length

        def laid(values: NDArray[np.generic], fill: int = 0) -> pa.Array:
            sequences = np.full(slots, fill, values.dtype)
            sequences[places] = values
            return pa.FixedSizeListArray.from_arrays(pa.array(sequences), pack.length)

        found = {
            DOCUMENT: laid(np.repeat(document, pieces.lengths).astype(np.int32)),
            POSITION: laid(inside.astype(np.int32)),
        }
        for name, column in lists.items():
            values, _ = values_and_offsets(column, name)
            if not np.array_equal(self._lengths(column), lengths):
                raise BatchContractBroken(
                    f"lists of {name!r} are not as long as those of {pack.names[0]!r}", self.place(unit)
                )
            found[name] = laid(values[tokens], pack.fill)
        return pa.table([found[name] for name in self.schema.names], schema=self.schema)

    def _order(self, documents: int) -> NDArray[np.int64]:
        return shuffled(documents, start_of("iceblink pack")) if self.shuffle else np.arange(documents)

    @staticmethod
    def _lengths(lists: pa.Array) -> NDArray[np.int64]:
        return lengths_of(lists).astype(np.int64)

    def counted(self, unit: int) -> tuple[int, int]:
        """Return how many sequences and tokens a unit has."""
        table = self.units.read(unit)
        lengths = self._lengths(table.column(self.pack.names[0]).combine_chunks())
        pieces = pieces_of(lengths, self.pack, self._order(len(lengths)))
        return pieces.sequences(self.pack.length), int(lengths.sum())

    def key(self, unit: int) -> str:
        """Return a digest of the documents and how they are packed."""
        return entry_key(self.units.key(unit), self._words)

    def place(self, unit: int) -> str:
        """Return where the documents lie."""
        return self.units.place(unit)

    def stretches(self, unit: int) -> tuple[Stretch, ...]:
        """Return where the documents are read."""
        return self.units.stretches(unit)

    def untouched(self, _unit: int) -> bool:
        """Whether sequences are rows of a file, which they are not."""
        return False


def packed_units(
    units: Units, pack: Pack, shuffle: bool, threads: int, cache: CacheTier | None, where: str
) -> PackedUnits:
    """Plan units of sequences: the lengths of documents are read, unless `cache` knows what they come to.

    Raises
    ------
    ConfigError
        The columns cannot be packed.
    """
    if pack.length < 1 or not pack.names:
        raise ConfigError(f"length={pack.length}, columns={pack.columns!r}", f"{where}: Pack", "at least one of each")
    fields = []
    for name in pack.names:
        dtype = units.schema.field(name).type
        if not (pt.is_list(dtype) or pt.is_large_list(dtype)) or not is_number(dtype.value_type):
            raise ConfigError(f"column {name!r} is {dtype}", f"{where}: Pack", "documents are lists of numbers")
        try:
            pa.scalar(pack.fill, dtype.value_type)
        except (pa.ArrowInvalid, OverflowError):
            raise ConfigError(f"fill={pack.fill} in column {name!r} of {dtype}", f"{where}: Pack") from None
        fields.append(pa.field(name, pa.list_(dtype.value_type, pack.length), nullable=False))
    for name in (DOCUMENT, POSITION):
        if name in pack.names:
            raise ConfigError(f"Pack makes a column {name!r}, and there is one", where, "rename it")
        fields.append(pa.field(name, pa.list_(pa.int32(), pack.length), nullable=False))
    schema = pa.schema(fields)
    uncounted = PackedUnits(units, pack, shuffle, units.rows, 0, schema)

    def count(unit: int) -> Iterator[tuple[int, int]]:
        yield uncounted.counted(unit)

    def counts() -> pa.Table:
        tasks = (partial(count, unit) for unit in range(len(units.rows)))
        with closing(in_order(tasks, threads, lambda _: 0, 1)) as found:
            pairs = np.array(list(found), np.int64).reshape(-1, 2)
        return pa.table({"sequences": pairs[:, 0], "tokens": pairs[:, 1]})

    words = uncounted.identity
    table = counts() if cache is None else cache.fetch(entry_key("sequences of units", *words, *words.values()), counts)
    tokens = int(table["tokens"].to_numpy().sum())
    return PackedUnits(units, pack, shuffle, table["sequences"].to_numpy(), tokens, schema)
