"""What tables and views have in common: entries of a list, metadata files in the warehouse, and changes to both."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from iceblink.errors import CatalogError, ConfigError
from iceblink.lake.catalog import Catalog
from iceblink.lake.creation import claimed, remove_folder
from iceblink.lake.listing import Changed, Key, Kind, Listing, Swap, Taken
from iceblink.lake.served.database import database_of
from iceblink.lake.served.metadata_files import MetadataFiles
from iceblink.lake.served.refusal import Refusal
from iceblink.lake.served.warehouse import Warehouse
from iceblink.lake.storage import Storage

TRIES = 50
"""How often a change is made anew because others were faster, before it is refused."""


@dataclass(frozen=True)
class Prepared:
    """The next metadata of one entry, not written yet.

    Parameters
    ----------
    key : Key
    before : str or None
        Where the metadata is that it was made from; None for a new entry.
    text : str or None
        The metadata, as JSON; None if nothing changes.
    folder : str
        Where its file goes.
    """

    key: Key
    before: str | None
    text: str | None
    folder: str


@dataclass(frozen=True)
class Store:
    """One catalog: what it lists, where its files are, and who reads and writes them."""

    listing: Listing
    files: MetadataFiles
    warehouse: Warehouse

    @classmethod
    def of(cls, catalog: Catalog) -> Self:
        """Return the store of an embedded lake, or of a SQL database.

        Raises
        ------
        ConfigError
            It is a catalog of another kind, or has no warehouse.
        """
        opened = catalog.pyiceberg
        database = database_of(opened)
        root = catalog.folder or opened.properties.get("warehouse")
        if not root:
            hint = "set warehouse= for it: tables of others are made there, and nowhere else"
            raise ConfigError("the catalog has no warehouse", "catalog serve", hint)
        warehouse = Warehouse(str(root), catalog.folder is not None)
        return cls(Listing(opened.name, database, Refusal), MetadataFiles(opened), warehouse)

    def create(self, prepared: Prepared, kind: Kind) -> str:
        """Write and list a new entry, and return where its metadata is; 409 if the name is taken."""
        location = self._written(prepared)
        with self._removing_unlisted([location]):
            try:
                self.listing.swap([Swap(prepared.key, None, location)], kind)
            except Taken:
                raise Refusal.entry_exists(str(prepared.key)) from None
        return location

    def register(self, key: Key, location: str, folder: str, kind: Kind, overwrite: bool = False) -> None:
        """List an entry whose metadata is there already.

        Parameters
        ----------
        key : Key
        location : str
            Of the metadata file.
        folder : str
            Of the entry, as its metadata has it.
        kind : {"TABLE", "VIEW"}
        overwrite : bool
            In the place of the one of that name.

        Raises
        ------
        Refusal
            400: the place is another's, or not that of the entry. 409: the name is taken.
        """
        if self.warehouse.embedded and self.warehouse.folder_of(location) != folder:
            raise Refusal.bad(f"the metadata is not in the folder of its {kind.lower()}")
        self.check_unshared(key, folder)
        before = self.listing.find(key, kind) if overwrite else None
        try:
            self.listing.swap([Swap(key, before, location)], kind)
        except Taken:
            raise Refusal.entry_exists(str(key)) from None
        except Changed:
            raise Refusal.conflict(f"others changed {str(key)!r} meanwhile") from None

    def change(self, prepare: Callable[[], Sequence[Prepared]], kind: Kind) -> list[str]:
        """Change several entries together, made anew from what is there for as long as others are faster.

        Parameters
        ----------
        prepare : callable
            Loads the entries, checks what is required of them, and returns what they become.
        kind : {"TABLE", "VIEW"}

        Returns
        -------
        list of str
            Where the metadata of each entry is now.

        Raises
        ------
        Refusal
            409: what was required does not hold, or others were always faster. 500: it may have been made.
        """
        for attempt in range(TRIES):
            prepared = prepare()
            locations = self._all_written(prepared)
            new = [place for place, one in zip(locations, prepared, strict=True) if place != one.before]
            try:
                with self._removing_unlisted(new):
                    swaps = [Swap(one.key, one.before, place) for one, place in zip(prepared, locations, strict=True)]
                    self.listing.swap(swaps, kind)
                return locations
            except Taken:
                taken = [one.key for one in prepared if one.before is None]
                if not any(self.listing.find(key, kind) for key in taken):  # it is of the other kind
                    raise Refusal.entry_exists(", ".join(map(str, taken))) from None
            except Changed:
                time.sleep(random.uniform(0, min(0.002 * 2**attempt, 0.2)))  # out of step with the others
        raise Refusal.conflict("others were always faster")

    def _all_written(self, prepared: Sequence[Prepared]) -> list[str]:
        written: list[str] = []
        with self._removing_unlisted(written):
            written.extend(self._written(one) for one in prepared)  # one by one: a failure finds those before it
        return written

    def _written(self, prepared: Prepared) -> str:
        if prepared.text is None:
            assert prepared.before is not None
            return prepared.before
        return self.files.write(prepared.text, prepared.folder, prepared.before)

    @contextmanager
    def _removing_unlisted(self, locations: Sequence[str]) -> Iterator[None]:
        """Remove these files if the block fails, unless the database may have listed them."""
        try:
            yield
        except BaseException as error:
            if isinstance(error, Exception) and not _is_unknown(error):  # Ctrl-C may come when they are listed
                for location in locations:
                    self.files.remove(location)
            raise

    @contextmanager
    def new_place(self, key: Key, wanted: str | None, inside: str | None = None) -> Iterator[str]:
        """Yield the location of a new entry; in an embedded lake a folder of its own, gone again if the block fails.

        Parameters
        ----------
        key : Key
        wanted : str, optional
            Where the client wants it.
        inside : str, optional
            Where the namespace has its tables, if it says so and the lake is not embedded.
        """
        if not self.warehouse.embedded:
            folder = inside or f"{self.warehouse.root.rstrip('/')}/{key.namespace}"
            yield self.warehouse.table_location(wanted or f"{folder.rstrip('/')}/{key.name}")
            return
        if wanted is None:
            unknown: Refusal | None = None
            try:
                levels = (*key.namespace.split("."), key.name)
                with claimed(self.warehouse.root, levels, self.listing.lists) as location:
                    try:
                        yield location
                    except Refusal as refusal:
                        if not _is_unknown(refusal):
                            raise
                        unknown = refusal  # the folder stays: the entry may be listed when the database is back
            except CatalogError as error:
                raise Refusal.bad(error.what) from None
            if unknown is not None:
                raise unknown
            return
        location = self.warehouse.table_location(wanted)
        self.check_unshared(key, location)
        yield location

    def prepare_folder(self, location: str) -> None:
        """Make the folder of metadata of a table that was only staged, on a local disk: not every client makes it."""
        local = Storage().local_path(location)
        if local is not None:
            Path(local, "metadata").mkdir(parents=True, exist_ok=True)

    def check_unshared(self, key: Key, location: str) -> None:
        """Refuse a location that another entry has, in an embedded lake."""
        if self.warehouse.embedded:
            others = [place for other, place in self.listing.locations() if other != key]
            self.warehouse.check_unshared(location, others)

    def remove_folder(self, metadata_location: str) -> None:
        """Remove the folder of an entry that is off the list, in an embedded lake: it was its own.

        One that this lake did not make, and that may be another's, too, stays.
        """
        if self.warehouse.embedded:
            with suppress(Refusal):
                remove_folder(self.warehouse.table_location(self.warehouse.folder_of(metadata_location)))


def _is_unknown(error: Exception) -> bool:
    """Whether an error leaves open if the database made a change."""
    return isinstance(error, Refusal) and error.kind == Refusal.unknown().kind
