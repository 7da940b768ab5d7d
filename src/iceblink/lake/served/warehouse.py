"""Where tables may be: inside of the warehouse, and in an embedded lake in folders of their own."""

from __future__ import annotations

import os
import posixpath
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from iceblink.lake.served.refusal import Refusal
from iceblink.lake.storage import Storage

_PATHS = ("write.data.path", "write.metadata.path", "write.object-storage.path", "write.folder-storage.path")
"""Table properties that say where files go, of which the second one makes this server write there."""

_DIRECTING = (
    "py-io-impl",
    "io-impl",
    "write.py-location-provider.impl",
    "write.location-provider.impl",
    "uri",
    "token",
)
_DIRECTING_GROUPS = ("s3.", "gcs.", "adls.", "oss.", "hdfs.", "hf.", "client.", "rest.", "io.")
"""Properties that clients take from a table as if they were their own: with these one client would choose what code the
others import, and whom they send their keys to."""


@dataclass(frozen=True)
class Warehouse:
    """The place that all tables are in.

    Parameters
    ----------
    root : str
        A folder, by absolute path, or a URI.
    embedded : bool
        Whether a table has a folder of its own, two levels below the root, that goes when the table does.
    """

    root: str
    embedded: bool

    def checked(self, location: str) -> str:
        """Return a location inside, a local one as a bare path.

        Raises
        ------
        Refusal
            400: it is not inside.
        """
        place, root = self._plain(location).rstrip("/"), self._plain(self.root).rstrip("/")
        inside = place.removeprefix(f"{root}/").split("/")
        hostile = any(unicodedata.category(character) in ("Cc", "Cs") for character in place)
        if not place.startswith(f"{root}/") or hostile or {"", ".", ".."}.intersection(inside):
            raise Refusal.bad(f"{location!r} is not inside of the warehouse")
        if place.startswith("/") and not os.path.realpath(place).startswith(f"{os.path.realpath(root)}/"):
            raise Refusal.bad(f"{location!r} is not inside of the warehouse: a link leads out of it")
        return place

    def table_location(self, location: str) -> str:
        """Return a location that a table may have; raises as `checked`."""
        place = self.checked(location)
        if self.embedded and place.removeprefix(f"{self.root}/").count("/") != 1:
            raise Refusal.bad(f"{location!r} cannot be a table's: here they are two folders deep, one for each table")
        return place

    def check_unshared(self, location: str, taken: Iterable[str]) -> None:
        """Refuse a location in which another table has its metadata; only an embedded lake keeps to that."""
        if self.embedded and any(one.startswith(f"{location}/") for one in taken):
            raise Refusal.bad(f"another table is in {location!r}")

    def check_properties(self, properties: Mapping[str, str], location: str) -> None:
        """Refuse table properties that lead out of the warehouse, or out of the table's folder in an embedded lake.

        Raises
        ------
        Refusal
            400
        """
        for name, value in properties.items():
            if name in _DIRECTING or name.startswith(_DIRECTING_GROUPS):
                raise Refusal.bad(f"the property {name!r} is for clients to set for themselves, not for a table")
            if name not in _PATHS:
                continue
            place = self.checked(value)
            if self.embedded and name == "write.metadata.path" and place != f"{location}/metadata":
                raise Refusal.bad(f"{name} is {location}/metadata here, and cannot be another")
            if self.embedded and not place.startswith(f"{location}/"):
                raise Refusal.bad(f"{name} must be inside of the table's own folder, {location}")

    def folder_of(self, metadata_location: str) -> str:
        """Return the folder of a table in an embedded lake, known from where its metadata file is."""
        return posixpath.dirname(posixpath.dirname(metadata_location))

    @staticmethod
    def _plain(location: str) -> str:
        local = Storage().local_path(location)
        return location if local is None else local
