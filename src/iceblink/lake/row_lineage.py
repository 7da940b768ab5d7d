"""Row lineage: which row a row is, however often it has been written anew, and which commit changed it last.

A data file gives each of its rows an id by the row's position, and its own sequence number. Where rows are written to
another file, that file stores what they had in two columns; of a row that has a null there, the file decides again.

References
----------
.. [1] Iceberg table spec, "Row Lineage", "Reserved Field IDs".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import pyarrow as pa
from pyiceberg.schema import Schema
from pyiceberg.types import LongType, NestedField

from iceblink.errors import DuplicateColumn, PlanError
from iceblink.lake.schemas import FIELD_ID
from iceblink.lake.table import Table, unpickled

ROW_ID, UPDATED = "_row_id", "_last_updated_sequence_number"
NAMES = (ROW_ID, UPDATED)
KEPT_ROW_ID, KEPT_UPDATED = "iceblink row id", "iceblink last updated"
"""What statements that move rows call the two: no user does so."""
ROW_ID_FIELD, UPDATED_FIELD = 2147483540, 2147483539
_FIELDS = (ROW_ID_FIELD, UPDATED_FIELD)


@dataclass(frozen=True, eq=False)
class Traced(Table):
    """A table whose rows tell their lineage in two columns more, which come last; immutable, picklable.

    Parameters
    ----------
    catalog, name, pyiceberg, iceberg_schema, snapshot_id, branch
        As of `Table`.
    names : tuple of (str, str)
        Of the columns with a row's id, and with the sequence number of the commit that changed it last. Both are null
        in rows of before an upgrade, until the first commit behind that.
    """

    names: tuple[str, str] = NAMES

    @classmethod
    def of(cls, table: Table, names: tuple[str, str] = NAMES) -> Self:
        """Return `table` with the two columns.

        Raises
        ------
        PlanError
            It is of an earlier format version.
        DuplicateColumn
            A column of the table has one of these names.
        """
        if not has_lineage(table):
            what = f"the table has format version {table.format_version}, and its rows have no ids"
            raise PlanError(what, table.name, "upgrade it: ALTER TABLE ... SET TBLPROPERTIES ('format-version' = '3')")
        schema = table.iceberg_schema
        for field in schema.fields:
            if field.name.lower() in names:  # SQL takes upper and lower case for the same
                what = f"the table has a column {field.name!r} of its own"
                raise DuplicateColumn(what, table.name, "rename it to ask for row lineage")
        added = (
            NestedField(number, name, LongType(), required=False) for number, name in zip(_FIELDS, names, strict=True)
        )
        schema = Schema(*schema.fields, *added, schema_id=schema.schema_id)
        return cls(table.catalog, table.name, table.pyiceberg, schema, table.snapshot_id, table.branch, names)

    def __reduce__(self) -> tuple[Callable[..., Table], tuple[Any, ...]]:
        return _unpickled, (super().__reduce__()[1], self.names)

    @property
    def version(self) -> str:
        """What tells it from the table itself, in short."""
        return f"{super().version}-{self.names[0]}"


def _unpickled(table: tuple[Any, ...], names: tuple[str, str]) -> Traced:
    return Traced.of(unpickled(*table), names)


def moving(table: Table) -> Table:
    """Return a table as those see it who write its rows anew: with lineage, where rows have any.

    What is written with the schema of this has the two columns under their own names; see `stored`.
    """
    return Traced.of(table, (KEPT_ROW_ID, KEPT_UPDATED)) if has_lineage(table) else table


def has_lineage(table: Table) -> bool:
    """Whether the rows of a table have ids."""
    return table.pyiceberg.metadata.format_version >= 3


def is_lineage(field: pa.Field) -> bool:
    """Whether a column of a table is one of the two: what its files store is not yet what it is."""
    return lineage_field(field) is not None


def lineage_field(field: pa.Field) -> int | None:
    """Return the field id of such a column; None for any other."""
    said = (field.metadata or {}).get(FIELD_ID)
    number = None if said is None else int(said)
    return number if number in _FIELDS else None


def stored(schema: Schema) -> Schema:
    """Return a schema as data files have it: the two columns are called as the specification does, if none else is."""
    taken = {field.name for field in schema.fields}
    proper = dict(zip(_FIELDS, NAMES, strict=True))
    fields = [
        field.model_copy(update={"name": proper[field.field_id]})
        if field.field_id in proper and proper[field.field_id] not in taken
        else field
        for field in schema.fields
    ]
    return schema if fields == list(schema.fields) else Schema(*fields, schema_id=schema.schema_id)
