"""Rows that a stage left in blocks, by partition, and how the next one's tasks share them out."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa

from iceblink.config import MIB
from iceblink.run.pipeline.backend import Backend, Block, Stored

PARTITION_BYTES = 128 * MIB
"""Rows that one task of a stage should read; beyond some GiB partitions grow, so that pieces stay large enough."""
PIECE_BYTES = 1 * MIB
"""What a task sends to one partition, at least, where there are few CPUs."""
SKEWED = 2.0
"""A partition so many times as large as it should be is shared out among several tasks; small ones are put together."""
LARGE_BYTES = 16 * MIB
"""Less than this is not worth dividing."""
PIECE_S = 1e-3
"""CPU time that a piece of an exchange takes of the driver [s]: half of what `bench.driver` finds on Ray, and more."""
PASS_BYTES_S = 150e6
"""Rows that a CPU reads and divides in a second [B/s]."""
ROUND_S = 0.5
"""What a round takes besides, generously [s]."""


@dataclass
class Kept:
    """The rows of one stage; whoever made it lets go of them.

    Parameters
    ----------
    schema : pa.Schema
    partitions : int
        How many there may be; those without rows have no blocks.
    blocks : dict of int to list of Block
    """

    schema: pa.Schema
    partitions: int = 1
    blocks: dict[int, list[Block]] = field(default_factory=dict)

    def add(self, part: int, block: Block) -> None:
        """Keep one more block."""
        self.blocks.setdefault(part, []).append(block)

    def all(self) -> tuple[Block, ...]:
        """Return every block, partition by partition."""
        return tuple(block for part in sorted(self.blocks) for block in self.blocks[part])

    def nbytes(self, part: int) -> int:
        """Return the size of a partition [bytes]."""
        return sum(block.nbytes for block in self.blocks.get(part, ()))

    @property
    def rows(self) -> int:
        """Rows of all partitions."""
        return sum(block.rows for block in self.all())

    @property
    def total_bytes(self) -> int:
        """Size of all partitions [bytes]."""
        return sum(block.nbytes for block in self.all())

    def numbered(self, schema: pa.Schema) -> Kept:
        """Return the same rows under another schema, each block with the number of its first row as its place."""
        numbered = Kept(schema)
        row = 0
        for block in self.all():
            numbered.add(0, replace(block, path="", first_row=row, exact=True))
            row += block.rows
        return numbered

    def handed_on(self) -> Generator[Stored, None, None]:
        """Yield the blocks, which are then somebody else's to let go of."""
        while self.blocks:
            part = min(self.blocks)
            while self.blocks[part]:
                yield Stored(self.blocks[part].pop(0))
            del self.blocks[part]

    def free(self, backend: Backend) -> None:
        """Let go of the rows."""
        for block in self.all():
            backend.free(block)
        self.blocks.clear()


def partitions_for(nbytes: float, cpus: float) -> int:
    """Return in how many partitions so many bytes should be exchanged.

    Pieces are the bytes divided by the square of their number: the size of a partition grows with the root of the
    whole beyond 16 GiB.
    """
    if nbytes < LARGE_BYTES:
        return 1
    size = max(PARTITION_BYTES, math.sqrt(nbytes * PIECE_BYTES))
    return min(1 << 15, max(math.ceil(nbytes / size), math.ceil(cpus)))


def group_size(tasks: int, partitions: int, nbytes: float, cpus: float) -> int:
    """Return how many neighbouring partitions the rows of an exchange go to together at first, to be divided later.

    It is 1, which is one round, unless the driver would take longer over the pieces that a second round spares than
    all workers take to read and divide the rows once more.
    """
    size = math.isqrt(partitions)
    again = max(math.ceil(nbytes / PARTITION_BYTES), math.ceil(cpus))  # tasks of the second round
    spared = tasks * (partitions - math.ceil(partitions / size)) - again * size
    return size if spared * PIECE_S > ROUND_S + nbytes / (PASS_BYTES_S * max(1.0, cpus)) else 1


Shared = dict[str, tuple[Block, ...]]
"""The blocks that one task reads, by the name of the read."""


def shares_of_blocks(name: str, blocks: Sequence[Block], cpus: float) -> Iterator[Shared]:
    """Yield shares of rows that any task may have: in order, of about one size."""
    total = sum(block.nbytes for block in blocks)
    most = total / max(1, math.ceil(total / PARTITION_BYTES), math.ceil(cpus) if total > LARGE_BYTES else 1)
    for group in _grouped(blocks, most):
        yield {name: tuple(group)}


def shares_of_partitions(
    reads: Mapping[str, Sequence[Kept]], divisible: Iterable[str], cpus: float, size: int = PARTITION_BYTES
) -> Iterator[Shared]:
    """Yield what tasks read of co-partitioned rows: small neighbours together, a skewed partition shared out.

    At least one share is yielded.
    """
    count = max(kept.partitions for several in reads.values() for kept in several)
    whole = sum(kept.total_bytes for several in reads.values() for kept in several)
    merged = min(size / 4, whole / max(1.0, cpus))
    nothing: Shared = dict.fromkeys(reads, ())
    waiting, filled, given = nothing, 0, False
    for part in range(count):
        here: Shared = {
            name: tuple(block for kept in several for block in kept.blocks.get(part, ()))
            for name, several in reads.items()
        }
        nbytes = _size(here)
        divided = list(_shared_out(here, divisible, size)) if nbytes > SKEWED * size else []
        if any(waiting.values()) and (divided or filled + nbytes > merged):
            yield waiting
            waiting, filled, given = nothing, 0, True
        if divided:
            yield from divided
            given = True
            continue
        waiting = {name: waiting[name] + here[name] for name in reads}
        filled += nbytes
    if any(waiting.values()) or not given:
        yield waiting


def _shared_out(here: Shared, divisible: Iterable[str], size: int) -> Iterator[Shared]:
    """Divide the rows of the largest read that may be; each part sees the others whole."""
    candidates = [name for name in divisible if len(here[name]) > 1]
    if not candidates:
        return
    chosen = max(candidates, key=lambda name: sum(block.nbytes for block in here[name]))
    for group in _grouped(here[chosen], size):
        yield {**here, chosen: tuple(group)}


def _grouped(blocks: Sequence[Block], most: float) -> Iterator[list[Block]]:
    """Yield consecutive blocks in groups of about `most` bytes."""
    group: list[Block] = []
    size = 0
    for block in blocks:
        if group and size + block.nbytes / 2 > most:
            yield group
            group, size = [], 0
        group.append(block)
        size += block.nbytes
    if group:
        yield group


def _size(shared: Shared) -> int:
    return sum(block.nbytes for blocks in shared.values() for block in blocks)
