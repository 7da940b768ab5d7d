"""What one task of a stage reads: splits that it decodes itself, and blocks of rows that others made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from iceblink.run.distributed.packed import packed, unpacked
from iceblink.run.pipeline.backend import Block
from iceblink.scan.batch import Batch
from iceblink.scan.split import Split


@dataclass(frozen=True)
class Share:
    """The order for one task, as its worker gets it: the first part of its input; the blocks follow.

    Parameters
    ----------
    splits : mapping of str to tuple of Split
        By the name of the read.
    blocks : tuple of str
        The read that each following part belongs to.
    held : frozenset of str
        The reads whose rows are few enough to be in memory at once: then the kernel knows how many they are, and
        chooses the order of joins by that. Of rows that it is fed it would think there is one.
    """

    splits: Mapping[str, tuple[Split, ...]] = field(default_factory=dict)
    blocks: tuple[str, ...] = ()
    held: frozenset[str] = frozenset()

    def packed(self) -> Batch:
        """Return it as one row."""
        return packed(self)

    @classmethod
    def unpacked(cls, batch: Batch) -> Share:
        """Read what `packed` wrote."""
        found: Share = unpacked(batch)
        return found


def grouped(schema: pa.Schema, blocks: Sequence[Block]) -> Block:
    """Return the one block that stands for several."""
    rows, nbytes = sum(block.rows for block in blocks), sum(block.nbytes for block in blocks)
    return Block(None, rows, nbytes, schema, parts=tuple(blocks))
