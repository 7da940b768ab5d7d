"""Parquet files where they lie become data files of a table: looked at one by one, then committed together."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from urllib.parse import unquote
from uuid import uuid4

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.types as pt

from iceblink.errors import DataCorrupt, NullInRequired, SchemaMismatch, TypeMismatch, WriteError
from iceblink.lake.adopted import REWRITE, Foreign, identity_columns, name_mapping, stored_schema
from iceblink.lake.commit import Commit
from iceblink.lake.files import NewFile
from iceblink.lake.format_version import check_writable
from iceblink.lake.storage import Storage
from iceblink.lake.table import Table
from iceblink.mapped import Each, here
from iceblink.scan.footer import Footer, read_footer
from iceblink.scan.project import Column, Projection, field_id, inner_fields
from iceblink.types import show_type, storable

READERS, FOOTER_S = 16, 1e-3
"""Footers read at once, and what one takes [s]."""
_FOLDER = re.compile(r"([^=/]+)=([^/]*)")
_NULL = "__HIVE_DEFAULT_PARTITION__"


def adopted(table: Table, paths: Sequence[str]) -> Table:
    """Add Parquet files to a table in one commit, without rewriting them; see `Lake.add_files`."""
    check_writable(table)
    found = list(dict.fromkeys(path for given in paths for path in _listed(table.storage, given)))
    known = {_plain(table.storage, entry.path) for entry in table.files()}
    twice = next((path for path in found if _plain(table.storage, path) in known), None)
    if twice is not None:
        raise WriteError("a file is in the table already", f"{table.name}, file {twice}", "nothing was added")
    look = partial(_looked_at, table, uuid4().hex)
    files: list[NewFile] = list(here(Each("files to add", lambda: look, lambda _: FOOTER_S, READERS), found))
    return Commit(table).properties(name_mapping(table)).adopt(files).run()


def folder_values(path: str) -> dict[str, str | None]:
    """Return what the folders of a path say: ``a=1/b=x%20y/f.parquet`` is a ``1`` and b ``x y``, as Hive has it."""
    pairs = _FOLDER.findall(path.rpartition("/")[0])
    return {unquote(name): None if text == _NULL else unquote(text) for name, text in pairs}


def _listed(storage: Storage, given: str) -> Iterator[str]:
    """Yield a file, or the Parquet files in a folder and those below it."""
    filesystem, inside = storage.filesystem(given)
    info = filesystem.get_file_info(inside.rstrip("/"))
    if info.type != pafs.FileType.Directory:
        yield given
        return
    below = filesystem.get_file_info(pafs.FileSelector(info.path, recursive=True))
    root = given.rstrip("/")
    for one in sorted(below, key=lambda one: one.path):
        hidden = any(part.startswith((".", "_")) for part in one.path[len(info.path) + 1 :].split("/"))
        if one.is_file and one.path.endswith((".parquet", ".parq")) and not hidden:
            yield root + one.path[len(info.path) :]


def _plain(storage: Storage, path: str) -> str:
    return storage.local_path(path) or path


def _looked_at(table: Table, token: str, path: str) -> NewFile:
    """Read the footer of a file, and describe it if it fits."""
    try:
        size = table.storage.size(path)
        footer = read_footer(table.storage, path, size)
    except FileNotFoundError:
        raise WriteError("there is no such file", path, "nothing was added") from None
    except DataCorrupt as error:
        what = error.what.replace("a file of the table", "a file")
        raise WriteError(f"{what}: it cannot be added", path, "nothing was added") from error
    if footer.encrypted:
        raise WriteError("a file has encrypted columns: it cannot be added", path, "nothing was added")
    if not footer.metadata.num_rows:
        raise WriteError("a file has no rows", path, "leave it out; nothing was added")
    folders = {
        name: text
        for name, text in folder_values(path).items()
        if name in table.schema.names and name not in footer.schema.names
    }
    leaves = _leaves(table, footer, folders)
    file = Foreign(path, size, footer.metadata, leaves, folders)
    try:
        return file.described(table, token)
    except (ValueError, TypeError, OverflowError, pa.ArrowException) as error:
        if isinstance(error, SchemaMismatch):
            raise
        raise SchemaMismatch(f"a file's statistics do not fit the table: {error}", path, REWRITE) from error


def _leaves(table: Table, footer: Footer, folders: Mapping[str, str | None]) -> dict[int, int]:
    """Return the field id of each leaf column of a file.

    Raises
    ------
    SchemaMismatch
        The file has a column that the table has not, or has as something else; it lacks a required one.
    NullInRequired
    """
    schema = stored_schema(table)
    named = pa.schema([table.schema.field(at).with_type(field.type) for at, field in enumerate(schema)])
    columns = Projection.of(named, footer.schema).columns
    found = {column.source.name: column for column in columns if column.source is not None}
    for field in footer.schema:
        column = found.get(field.name)
        if column is None:
            raise SchemaMismatch(f"a file has a column {field.name!r} more than the table", footer.path, REWRITE)
        if field_id(field) is not None and column.target.name != field.name:
            what = f"a file calls column {column.target.name!r} by another name, {field.name!r}"
            raise SchemaMismatch(f"{what}: its field ids are those of another table", footer.path, REWRITE)
        if not _fits(field.type, column.target.type):
            what = f"column {field.name!r} is {show_type(field.type)}, the table has {show_type(column.target.type)}"
            raise SchemaMismatch(what, footer.path, REWRITE)
    identity = identity_columns(table)
    for column in columns:
        name = column.target.name
        if column.source is None and name in folders and name not in identity:
            what = f"column {name!r} is in the names of folders only, and the table is not partitioned by it"
            raise SchemaMismatch(what, footer.path, REWRITE)
        if not column.target.nullable:
            _check_required(column, footer, folders)
    return dict(pair for column in columns for pair in _of_column(column))


def _of_column(column: Column) -> Iterator[tuple[int, int]]:
    """Yield leaf and field id of what is inside of a column of the file."""
    if column.children:
        for child in column.children:
            yield from _of_column(child)
    elif column.source is not None:
        number = field_id(column.target)
        assert number is not None, "fields of a table have ids"
        yield from ((leaf, number) for leaf in column.leaves)


def _check_required(column: Column, footer: Footer, folders: Mapping[str, str | None]) -> None:
    name = column.target.name
    if column.source is None:
        if folders.get(name) is None:
            raise SchemaMismatch(f"a file lacks column {name!r}, which the table requires", footer.path, REWRITE)
        return
    groups = [footer.metadata.row_group(group) for group in range(footer.metadata.num_row_groups)]
    counts = [group.column(column.leaves[0]).statistics for group in groups] if column.flat else []
    if any(one is not None and one.has_null_count and one.null_count for one in counts):
        raise NullInRequired(f"a file has nulls in column {name!r}, which the table requires", footer.path, REWRITE)


def _fits(got: pa.DataType, want: pa.DataType) -> bool:
    """Whether values of one type are read as another without looking at each."""
    if _has_nanoseconds(got):
        return False
    try:
        plain = storable(pa.schema({"c": got})).field("c").type
    except TypeMismatch:
        return False
    if pt.is_decimal(plain) and pt.is_decimal(want):
        return bool(plain.scale == want.scale and plain.precision <= want.precision)
    return (plain, want) in ((pa.int32(), pa.int64()), (pa.float32(), pa.float64())) or _same(plain, want)


def _same(got: pa.DataType, want: pa.DataType) -> bool:
    ours, theirs = inner_fields(got), inner_fields(want)
    if not ours or not theirs:
        return bool(got == want)
    named = not pt.is_struct(got) or [field.name for field in ours] == [field.name for field in theirs]
    pairs = zip(ours, theirs, strict=False)
    alike = got.id == want.id and len(ours) == len(theirs) and named
    return alike and all(_same(one.type, other.type) for one, other in pairs)


def _has_nanoseconds(dtype: pa.DataType) -> bool:
    inner = inner_fields(dtype)
    if inner:
        return any(_has_nanoseconds(field.type) for field in inner)
    return bool((pt.is_timestamp(dtype) or pt.is_time64(dtype)) and dtype.unit == "ns")
