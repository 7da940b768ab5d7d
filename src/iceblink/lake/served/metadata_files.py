"""Metadata files of tables and views: JSON that is written once, read as it stands, and never changes."""

from __future__ import annotations

import gzip
import json
import posixpath
import re
from contextlib import suppress
from typing import Any
from uuid import uuid4

from pyiceberg.catalog import Catalog as IcebergCatalog
from pyiceberg.io import FileIO
from pyiceberg.table.metadata import TableMetadata, TableMetadataUtil

from iceblink.lake.remembered import Remembered
from iceblink.lake.served.refusal import Refusal

_NUMBERED = re.compile(r"(\d+)-.*\.metadata\.json")

_texts: Remembered[str, str] = Remembered(limit=64 * 2**20)
"""Files read last, by location [characters]."""


class MetadataFiles:
    """The files of one catalog, read and written with its own keys and by no word of a table's properties."""

    def __init__(self, catalog: IcebergCatalog) -> None:
        self._catalog = catalog

    def io(self, location: str) -> FileIO:
        """Return what reads and writes files there."""
        return self._catalog._load_file_io(location=location)

    def text(self, location: str) -> str:
        """Return a file as it stands.

        Raises
        ------
        Refusal
            500: it is missing or damaged. 503: the storage does not answer.
        """
        known = _texts.get(location)
        if known is not None:
            return known
        try:
            with self.io(location).new_input(location).open() as stream:
                content = stream.read()
            found = (gzip.decompress(content) if location.endswith(".gz.metadata.json") else content).decode()
        except FileNotFoundError:
            raise Refusal.broken(f"the metadata file {location} is missing") from None
        except (EOFError, UnicodeDecodeError, gzip.BadGzipFile):
            raise Refusal.broken(f"the metadata file {location} is damaged") from None
        except OSError:
            raise Refusal.unavailable(f"the metadata file {location} cannot be read now") from None
        _texts.put(location, found, len(found))
        return found

    def json(self, location: str) -> dict[str, Any]:
        """Return what a file has, all of it; raises as `text`."""
        try:
            found = json.loads(self.text(location))
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise Refusal.broken(f"the metadata file {location} is damaged")
        return found

    def table(self, location: str) -> TableMetadata:
        """Return the metadata of a table; raises as `text`."""
        try:
            return TableMetadataUtil.parse_raw(self.text(location))
        except Refusal:
            raise
        except Exception:  # bytes that are wrong raise whatever they happen to mean
            raise Refusal.broken(f"the metadata file {location} is damaged") from None

    def write(self, text: str, folder: str, before: str | None) -> str:
        """Write the next file into `folder`, numbered after the one `before`, and return where it is.

        Raises
        ------
        Refusal
            503: it could not be written; nothing is left of it.
        """
        found = _NUMBERED.fullmatch(posixpath.basename(before)) if before is not None else None
        number = int(found[1]) + 1 if found else 0
        location = f"{folder}/{number:05d}-{uuid4()}.metadata.json"
        try:
            with self.io(location).new_output(location).create() as stream:
                stream.write(text.encode())
        except OSError as error:
            self.remove(location)
            raise Refusal.unavailable("the metadata cannot be written now") from error
        _texts.put(location, text, len(text))
        return location

    def remove(self, location: str) -> None:
        """Remove a file that nobody lists; one that cannot be removed stays."""
        with suppress(OSError):
            self.io(location).delete(location)
