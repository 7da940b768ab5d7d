"""PyIceberg's reading and writing of metadata, for files on this machine: plain Python files."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pyarrow as pa
from pyiceberg.io import FileIO, InputFile, InputStream, OutputFile, OutputStream

from iceblink.lake.storage import Storage


class LocalFileIO(FileIO):
    """Files by bare path or ``file:`` URI."""

    def new_input(self, location: str) -> LocalFile:
        """Return the file at `location`, to read."""
        return LocalFile(location)

    def new_output(self, location: str) -> LocalFile:
        """Return the file at `location`, to write."""
        return LocalFile(location)

    def delete(self, location: str | InputFile | OutputFile) -> None:
        """Remove a file; FileNotFoundError when there is none."""
        LocalFile(location if isinstance(location, str) else location.location).path.unlink()


class LocalFile(InputFile, OutputFile):
    """One file of this machine."""

    @property
    def path(self) -> Path:
        """Where it is."""
        local = Storage().local_path(self.location)
        if local is None:
            raise ValueError(f"{self.location} is not on this machine")
        return Path(local)

    def __len__(self) -> int:
        return self.path.stat().st_size

    def exists(self) -> bool:
        """Tell whether it is there."""
        return self.path.exists()

    def open(self, seekable: bool = True) -> InputStream:
        """Open it to read."""
        return cast(InputStream, self.path.open("rb"))

    def create(self, overwrite: bool = False) -> OutputStream:
        """Open it to write, its folder made if absent; FileExistsError when it is there and not to be overwritten."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not overwrite:
            self.path.touch(exist_ok=False)
        # not Python's own: a Parquet writer whose disk is full would never end, as that keeps what it could not write
        return cast(OutputStream, pa.OSFile(str(self.path), "wb"))

    def to_input_file(self) -> LocalFile:
        """Return itself."""
        return self
