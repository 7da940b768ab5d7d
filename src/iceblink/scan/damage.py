"""Errors of damaged files: they name the table, the snapshot, the file and the row group, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from iceblink.casts import Unfit, UnknownFields
from iceblink.errors import DataCorrupt
from iceblink.lake.retries import is_unreachable, unreachable
from iceblink.scan.thrift import ThriftError
from iceblink.types import show_type

RESTORE = "restore the file from a backup, or read or roll back to an earlier snapshot that does not need it"


def damaged(what: str, owner: str, path: str, group: int | None = None) -> DataCorrupt:
    """Return the error for a file that is missing, cut short or changed.

    Parameters
    ----------
    what : str
        What is wrong with it.
    owner : str
        Table and snapshot, in words; may be empty.
    path : str
    group : int, optional
        Row group.
    """
    place = [owner, f"file {path}", "" if group is None else f"row group {group}"]
    return DataCorrupt(what, ", ".join(part for part in place if part), RESTORE)


@contextmanager
def reading(owner: str, path: str, group: int | None = None) -> Iterator[None]:
    """Turn whatever reading a file raises into `DataCorrupt`.

    Raises
    ------
    DataCorrupt
        The file is missing, cannot be read, does not decode, or does not fit the table.
    StorageError
        The store does not answer, or refuses.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise damaged("a file of the table is missing", owner, path, group) from error
    except Unfit as misfit:
        expected, got = show_type(misfit.expected), show_type(misfit.got)
        what = f"column {misfit.path!r} is {got} where the table has {expected}"
        raise damaged(what, owner, path, group) from misfit
    except UnknownFields as misfit:
        what = f"struct {misfit.path!r} has other fields than the table's"
        raise damaged(what, owner, path, group) from misfit
    except OSError as error:
        if is_unreachable(error):
            raise unreachable(error, owner, path) from error
        raise damaged(f"a file of the table cannot be read: {_said(error)}", owner, path, group) from error
    except (pa.ArrowException, ThriftError, UnicodeDecodeError) as error:
        raise damaged(f"a file of the table cannot be read: {_said(error)}", owner, path, group) from error


def _said(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
