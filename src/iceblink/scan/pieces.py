"""Data files become pieces: whole ones that nobody has looked into, or the row groups that may hold a wanted row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pyarrow as pa

from iceblink.lake.entries import FileEntry
from iceblink.lake.storage import Storage
from iceblink.predicate import Predicate
from iceblink.scan.damage import damaged
from iceblink.scan.estimate import RatioKey, Size, size_of
from iceblink.scan.footer import FOOTERS, Footer
from iceblink.scan.project import Projection, check_named
from iceblink.scan.prune import kept_groups
from iceblink.scan.split import WHOLE_FILE, Piece


def whole_file(entry: FileEntry) -> Piece:
    """Return a data file as one piece, of a size that is not known yet."""
    identity = tuple(entry.identity.items())
    size, rows, deletes, only = entry.file_bytes, entry.rows, entry.deletes, entry.only
    return Piece(entry.path, size, 0, WHOLE_FILE, 0, rows, 0, entry.spec_id, identity, deletes, only, entry.lineage)


def check_rows(file: Piece, footer: Footer, owner: str) -> None:
    """Check that a whole file has the rows that the table's metadata says.

    Raises
    ------
    DataCorrupt
    """
    if footer.metadata.num_rows != file.rows:
        what = f"a file has {footer.metadata.num_rows:,} rows, the table's metadata says {file.rows:,}"
        raise damaged(what, owner, file.path)


@dataclass(frozen=True, slots=True)
class Groups:
    """The row groups of one data file that may hold a wanted row.

    Parameters
    ----------
    writer : str
        What the file says it was written by.
    total : int
        All row groups of the file.
    pieces : tuple of Piece
        One for each, of no size yet.
    sizes : tuple of Size
    """

    writer: str
    total: int
    pieces: tuple[Piece, ...]
    sizes: tuple[Size, ...]

    @property
    def guessed(self) -> set[RatioKey]:
        """The ratios that the sizes depend on."""
        return {key for size in self.sizes for key, _ in size.guessed}

    def sized(self) -> Iterator[Piece]:
        """Yield the pieces with their sizes, as far as this process has learned them."""
        for piece, size in zip(self.pieces, self.sizes, strict=True):
            yield replace(piece, decoded_bytes=size.total())


@dataclass(frozen=True)
class GroupFinder:
    """Reads the footer of a data file and says which of its row groups are wanted, and what they weigh; picklable.

    Parameters
    ----------
    table : str
        UUID of the table.
    table_schema, schema : pa.Schema
        The table's, and the part of it that is read; with field ids.
    predicate : Predicate
    storage : Storage
    owner : str
        Table and snapshot, in words, for errors.
    """

    table: str
    table_schema: pa.Schema
    schema: pa.Schema
    predicate: Predicate
    storage: Storage
    owner: str

    def __call__(self, file: Piece) -> Groups:
        """Return what is wanted of one whole file.

        Raises
        ------
        DataCorrupt
            The file is missing, cut short or changed.
        """
        footer = FOOTERS.get(self.storage, file.path, file.file_bytes, self.owner)
        check_rows(file, footer, self.owner)
        check_named(self.table_schema, footer.schema, self.owner, file.path)
        kept = kept_groups(self.predicate, footer, self.table_schema, file.identity, self.storage, self.owner)
        projection = Projection.of(self.schema, footer.schema, file.identity)
        rows = footer.first_rows
        return Groups(
            footer.metadata.created_by or "",
            footer.metadata.num_row_groups,
            tuple(
                replace(file, first_group=group, groups=1, first_row=rows[group], rows=rows[group + 1] - rows[group])
                for group in kept
            ),
            tuple(size_of(projection, footer, group, self.table) for group in kept),
        )
