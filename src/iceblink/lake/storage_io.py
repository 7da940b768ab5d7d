"""PyIceberg's reading and writing of metadata, by the same files as everything else: `storage.Storage`."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Any, cast

from pyiceberg.catalog import Catalog, MetastoreCatalog
from pyiceberg.io import FileIO, InputFile, InputStream, OutputFile, OutputStream
from pyiceberg.table import Table
from pyiceberg.typedef import EMPTY_DICT, Properties

from iceblink.lake.late import iceberg_rest
from iceblink.lake.storage import Storage

IMPLEMENTATION = f"{__name__}.StorageIO"
"""What ``py-io-impl`` of a catalog's properties says, unless a user says otherwise."""


class StorageIO(FileIO):
    """Files by location; picklable."""

    def __init__(self, properties: Properties = EMPTY_DICT) -> None:
        super().__init__(properties)

    @cached_property
    def storage(self) -> Storage:
        """The file systems."""
        return Storage.of(self.properties)

    def new_input(self, location: str) -> StoredFile:
        """Return the file at `location`, to read."""
        return StoredFile(location, self.storage)

    def new_output(self, location: str) -> StoredFile:
        """Return the file at `location`, to write."""
        return StoredFile(location, self.storage)

    def delete(self, location: str | InputFile | OutputFile) -> None:
        """Remove a file; one that is gone already is no error."""
        self.storage.delete(location if isinstance(location, str) else location.location)


class StoredFile(InputFile, OutputFile):
    """One file."""

    def __init__(self, location: str, storage: Storage) -> None:
        super().__init__(location)
        self._storage = storage

    def __len__(self) -> int:
        return self._storage.size(self.location)

    def exists(self) -> bool:
        """Tell whether it is there."""
        return self._storage.exists(self.location)

    def open(self, seekable: bool = True) -> InputStream:
        """Open it to read."""
        local = self._storage.local_path(self.location)
        if local is None:  # metadata is small: all of it is one request
            return cast(InputStream, BytesIO(self._storage.read(self.location)))
        return cast(InputStream, Path(local).open("rb"))

    def create(self, overwrite: bool = False) -> OutputStream:
        """Open it to write, its folder made if absent; FileExistsError when it is there and not to be overwritten.

        Elsewhere than on this machine it is written whole when it is closed: metadata is small, and can be sent again.
        """
        local = self._storage.local_path(self.location)
        if local is None:
            if not overwrite and self.exists():
                raise FileExistsError(self.location)
            return cast(OutputStream, _Whole(self.location, self._storage))
        if not overwrite:
            Path(local).parent.mkdir(parents=True, exist_ok=True)
            Path(local).touch(exist_ok=False)
        return cast(OutputStream, self._storage.open_output(self.location))

    def to_input_file(self) -> StoredFile:
        """Return the file, to read."""
        return StoredFile(self.location, self._storage)


class _Whole(BytesIO):
    """What is written when it is closed, unless the block that wrote it failed."""

    def __init__(self, location: str, storage: Storage) -> None:
        super().__init__()
        self._location, self._storage = location, storage

    def close(self) -> None:
        if not self.closed:
            content = self.getvalue()
            super().close()
            self._storage.write(self._location, content)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            super().close()
        self.close()

    def __del__(self) -> None:
        """Let go of it: what nobody closed is not written."""
        super().close()


def with_own_files(catalog: Catalog) -> Catalog:
    """Let a catalog of PyIceberg's reach files by its own properties, and not by those of tables.

    Else whoever writes a table's metadata would choose whom its readers send their keys to. What a REST catalog answers
    beside the metadata, ``config`` and credentials, counts.
    """
    if isinstance(catalog, MetastoreCatalog):
        vars(catalog)["_load_file_io"] = _by_own(catalog._load_file_io)
    elif isinstance(catalog, iceberg_rest.RestCatalog):
        for name in ("_response_to_table", "_response_to_staged_table"):  # private, and all there is
            vars(catalog)[name] = _by_answer(getattr(catalog, name))
    return catalog


def _by_own(load: Callable[..., FileIO]) -> Callable[..., FileIO]:
    def loaded(properties: Properties = EMPTY_DICT, location: str | None = None) -> FileIO:
        return load(location=location)

    return loaded


def _by_answer(make: Callable[..., Table]) -> Callable[..., Table]:
    def made(identifier: tuple[str, ...], answer: Any) -> Table:
        plain = answer.metadata.model_copy(update={"properties": {}})
        table = make(identifier, answer.model_copy(update={"metadata": plain}))
        table.metadata = answer.metadata
        return table

    return made
