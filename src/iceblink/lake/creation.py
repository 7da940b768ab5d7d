"""A table before it is made: what it is to be, and a folder of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import pyarrow as pa
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.sorting import SortOrder

from iceblink.errors import CatalogError
from iceblink.lake.defaults import asked_defaults
from iceblink.lake.format_version import check_defaults, check_version, version_asked
from iceblink.lake.schemas import iceberg_schema, tensor_properties
from iceblink.lake.storage import Storage
from iceblink.lake.tensors import stored_fixed
from iceblink.lake.transforms import parse_partition, parse_sort
from iceblink.types import storable, to_schema


@dataclass(frozen=True)
class Description:
    """A table to be made, in PyIceberg's words."""

    schema: Schema
    partition_spec: PartitionSpec
    sort_order: SortOrder
    properties: dict[str, str]
    defaults: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        name: str,
        schema: pa.Schema | Mapping[str, str | pa.DataType],
        partition_by: Sequence[str],
        sort_by: Sequence[str],
        properties: Mapping[str, str] | None,
    ) -> Self:
        """Check and translate what `Catalog.create` was asked for."""
        check_version(properties or {}, name)
        arrow = to_schema(schema)
        fixed = stored_fixed(arrow.names, properties or {})
        arrow = storable(arrow, fixed, version_asked(properties or {}) not in ("1", "2"))
        stored = iceberg_schema(arrow, fixed)
        spec, order = parse_partition(partition_by, stored), parse_sort(sort_by, stored)
        given = {key: str(value) for key, value in (properties or {}).items()}
        check_defaults(arrow, version_asked(given))
        return cls(stored, spec, order, given | tensor_properties(arrow, stored), asked_defaults(arrow, stored))

    def arguments(self) -> dict[str, Any]:
        """Return what PyIceberg's catalogs take; they change the properties they are given."""
        given = {**vars(self), "properties": dict(self.properties)}
        del given["defaults"]  # they forget these: see `Catalog.create`
        return given


@contextmanager
def claimed(lake: str, identifier: tuple[str, ...], lists: Callable[[str], bool]) -> Iterator[str]:
    """Make the folder of a new table in an embedded lake; if the block fails it is gone again, unless it is listed.

    No other table has it, even after a rename, so that dropping a table may remove it whole. A namespace has one folder
    however deep it is: no table is inside another.

    Parameters
    ----------
    lake : str
    identifier : tuple of str
    lists : callable
        Whether the catalog has something in a folder: a failure or Ctrl-C may come after that.

    Raises
    ------
    CatalogError
        The file system does not take the name.
    """
    folder = Path(lake, ".".join(identifier[:-1]), identifier[-1])
    try:
        folder.parent.mkdir(exist_ok=True)
        try:
            folder.mkdir()
        except FileExistsError:
            folder = folder.with_name(f"{folder.name}-{uuid4().hex[:8]}")
            folder.mkdir()
    except OSError as error:
        name = ".".join(identifier)
        raise CatalogError(f"no folder can be made for table {name!r}: {error.strerror}", str(folder)) from None
    try:
        yield str(folder)
    except BaseException:
        with suppress(Exception):  # what a catalog does not tell stays, and so does the first error
            if not lists(str(folder)):
                remove_folder(str(folder))
        raise


def remove_folder(location: str) -> None:
    """Delete a folder and all in it; one that is gone already is no error."""
    filesystem, inside = Storage().filesystem(location)
    with suppress(FileNotFoundError):
        filesystem.delete_dir(inside)
