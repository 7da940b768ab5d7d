"""Files that lie somewhere already: into a table as they are, or read as a dataset."""

from __future__ import annotations

import glob as globbing
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from iceblink.dataset import Dataset
from iceblink.errors import PlanError
from iceblink.late import Late
from iceblink.plan.nodes import Scan, Stream
from iceblink.run.adoption import adopted, folder_values
from iceblink.run.session import Session

if TYPE_CHECKING:
    import pyarrow.dataset as arrow_datasets
else:
    arrow_datasets = Late("pyarrow.dataset")


class Importing:
    """The ways of a lake to take in files of others."""

    session: Session

    def add_files(self, name: str, paths: str | Sequence[str]) -> Dataset:
        """Make Parquet files data files of a table where they lie: nothing is copied, only footers are read.

        Eager; one commit, or nothing. The table then counts on them: they must not be changed, moved or removed.
        Columns are those of the same name, which a name mapping keeps through later renames. Each file belongs to one
        partition, told by the statistics of its columns or, for a column that it lacks, by the names of its folders
        (``day=2026-01-31``).

        Parameters
        ----------
        name : str
        paths : str or sequence of str
            Files, folders (all ending in ``.parquet`` in them and below) and, on this machine, globs.

        Returns
        -------
        Dataset
            The table with them.

        Raises
        ------
        TableNotFound
        PlanError
            No file matches.
        SchemaMismatch, NullInRequired
            A column that the table does not have, or has with another type; a required one that is missing or null;
            rows of several partitions.
        WriteError
            A file is not there, is not Parquet, is encrypted, has no rows, or is in the table already.
        CommitConflict
            Others added one of them, or changed the table's columns or partitioning, meanwhile.
        """
        return Dataset(Scan.of(adopted(self.session.catalog.load(name), _located(paths))), self.session)

    def read_orc(self, paths: str | Sequence[str]) -> Dataset:
        """Return the rows of ORC files, by path or glob, as pyarrow reads them; lazy, in batches.

        Columns are those of the first file.

        Raises
        ------
        PlanError
            No file matches.
        """
        rows = arrow_datasets.dataset(matching(paths, "read_orc", ".orc"), format="orc")
        return Dataset(Stream(rows.schema, lambda: rows.scanner().to_reader()), self.session)


def matching(paths: str | Sequence[str], reader: str, ending: str = ".parquet") -> list[str]:
    """Return the files that paths, folders and globs on this machine name.

    Raises
    ------
    PlanError
        One of them names none.
    """
    return [path for pattern in _each(paths) for path in _matching(pattern, reader, ending)]


def partitioned(paths: str | Sequence[str], found: Sequence[str]) -> bool:
    """Whether all files lie in folders named ``column=value``, below those that were given or begin with a ``*``."""
    bases = [pattern if Path(pattern).is_dir() else pattern[: _first_star(pattern)] for pattern in _each(paths)]
    below = [path[max((len(base) for base in bases if path.startswith(base)), default=0) :] for path in found]
    return bool(bases) and all(folder_values(path) for path in below)


def _first_star(pattern: str) -> int:
    """Return where the part of a path begins that has the first wildcard; its end if there is none."""
    at = next((place for place, letter in enumerate(pattern) if letter in "*?["), None)
    return len(pattern) if at is None else pattern.rfind("/", 0, at) + 1


def _each(paths: str | Sequence[str]) -> list[str]:
    return [str(paths)] if isinstance(paths, str | Path) else [str(path) for path in paths]


def _matching(pattern: str, reader: str, ending: str) -> list[str]:
    folder = Path(pattern)
    if folder.is_dir():
        below = folder.rglob(f"*{ending}")
        found = sorted(
            str(path)
            for path in below
            if path.is_file() and not any(part.startswith((".", "_")) for part in path.relative_to(folder).parts)
        )
    else:
        found = [pattern] if folder.exists() else sorted(globbing.glob(pattern, recursive=True))
    if not found:
        raise PlanError(f"no file matches {pattern!r}", reader, f"the current folder is {Path.cwd()}")
    return found


def _located(paths: str | Sequence[str]) -> list[str]:
    """Return locations as a table has them: absolute paths on this machine, all else as it is."""
    found: list[str] = []
    for path in _each(paths):
        found += (
            [path] if "://" in path else [str(Path(one).absolute()) for one in _matching(path, "add_files", ".parquet")]
        )
    return found
