"""Files that lie somewhere already: into a table as they are, or read as a dataset."""

from __future__ import annotations

import glob as globbing
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from iceblink.dataset import Dataset
from iceblink.errors import CommitUnknown, PlanError
from iceblink.late import Late
from iceblink.neighbours.late import delta_tables, hugging_face, needs_delta, needs_hugging_face
from iceblink.plan.nodes import Scan, Stream
from iceblink.plan.sql import file_query
from iceblink.run.adoption import adopted, folder_values
from iceblink.run.session import Session

DeltaVersion = int | str | datetime

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

    def add_delta(self, name: str, path: str, *, version: DeltaVersion | None = None) -> Dataset:
        """Make the files of a Delta table data files of a table here, where they lie; needs the extra ``delta``.

        Eager; one commit, or nothing, and no row is read. A table that is not there is made by that commit, with the
        Delta table's columns, partitioned by the same. The Delta table stays as it is, and must keep these files:
        vacuum it no more. What is written to it later is not seen.

        Parameters
        ----------
        name, path : str
        version : int, datetime or ISO text, optional
            Of the Delta table: a number, or what was current at that time. Default: the newest.

        Returns
        -------
        Dataset
            The table with them.

        Raises
        ------
        PlanError
            There is no Delta table, or no such version; it has deletion vectors or column mapping, which files alone
            do not tell: copy its rows. It has no rows.
        SchemaMismatch, NullInRequired, WriteError, CommitConflict
            As of `add_files`.
        ConfigError
            The extra is not installed.
        """
        needs_delta()
        delta = delta_tables.Delta.at(str(path), version, "add_delta")
        paths, catalog = delta.files("add_delta"), self.session.catalog
        if catalog.exists(name):
            return Dataset(Scan.of(adopted(catalog.load(name), paths)), self.session)
        staged = catalog.stage(name, delta.schema, delta.partition_by)
        try:
            return Dataset(Scan.of(adopted(staged, paths)), self.session)
        except CommitUnknown:
            raise
        except BaseException:
            catalog.unstage(staged)
            raise

    def read_delta(self, path: str, *, version: DeltaVersion | None = None) -> Dataset:
        """Return the rows of a Delta table; needs the extra ``delta``.

        Lazy: the log is read now, the rows as a stream each time they are asked for, by Delta's own reader, in no
        particular order. The version stays the one that is found now. Deletion vectors, column mapping and partition
        values count.

        Parameters
        ----------
        path : str
            A folder, or a URL such as ``s3://bucket/table``; credentials are found in the environment.
        version : int, datetime or ISO text, optional
            A number, or what was current at that time. Default: the newest.

        Raises
        ------
        PlanError
            There is no Delta table, or no such version, or it has features that its reader has not.
        ConfigError
            The extra is not installed.
        DataCorrupt
            When rows are asked for: a file is missing or damaged.
        """
        needs_delta()
        delta = delta_tables.Delta.at(str(path), version, "read_delta")
        return Dataset(Stream(delta.schema, delta.rows), self.session)

    def read_hugging_face(
        self, name: str, *, config: str | None = None, split: str | None = None, revision: str | None = None
    ) -> Dataset:
        """Return the rows of a data set of the Hugging Face hub; needs the extra ``hf``.

        Eager in what it brings: the Parquet files of one split, several at once, to the hub's cache on this machine
        (``HF_HOME``). Files that are there are fetched no more: called again after an end, it goes on. Lazy in its
        rows, as `read_parquet`. Images and sounds are structs of ``bytes`` and ``path``, which `media` decodes.

        Parameters
        ----------
        name : str
            ``owner/name``.
        config : str, optional
            Default: the only one, or ``default``.
        split : str, optional
            ``train``, ``test`` and such. Default: the only one.
        revision : str, optional
            A branch, tag or commit of the data set, whose own files must be Parquet. Default: the branch that the hub
            converts it to, else ``main``.

        Raises
        ------
        PlanError
            There is no such data set, config, split or revision, or you may not read it; several and none was named;
            no file is Parquet.
        StorageError
            The hub does not answer. A token (``HF_TOKEN``, or of ``hf auth login``) is in no message.
        ConfigError
            The extra is not installed.
        """
        needs_hugging_face()
        found = hugging_face.downloaded(name, config, split, revision)
        options = {"union_by_name": True, "hive_partitioning": False}
        return Dataset(self.session.engine.query(file_query("read_parquet", found, options), {}), self.session)

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
