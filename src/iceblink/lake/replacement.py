"""A table made anew in its place: other columns, partitioning and sort order in one commit, the history kept.

References
----------
.. [1] Iceberg table spec, "Schema Evolution", "Partition Evolution" and "Sorting".
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from typing import cast

import pyarrow as pa
from pyiceberg.partitioning import PARTITION_FIELD_ID_START, PartitionField, PartitionSpec
from pyiceberg.schema import Schema, assign_fresh_schema_ids
from pyiceberg.table import Table as IcebergTable
from pyiceberg.table import Transaction
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.sorting import SortOrder
from pyiceberg.table.update import (
    AddPartitionSpecUpdate,
    AddSchemaUpdate,
    AddSortOrderUpdate,
    AssertCurrentSchemaId,
    AssertDefaultSortOrderId,
    AssertDefaultSpecId,
    AssertLastAssignedFieldId,
    AssertLastAssignedPartitionId,
    SetCurrentSchemaUpdate,
    SetDefaultSortOrderUpdate,
    SetDefaultSpecUpdate,
    TableRequirement,
    TableUpdate,
)
from pyiceberg.transforms import VoidTransform
from pyiceberg.types import FixedType, IcebergType, NestedField

from iceblink.errors import ConfigError
from iceblink.lake.defaults import asked_default
from iceblink.lake.format_version import PROPERTY, check_defaults, check_unchanged
from iceblink.lake.schemas import WRITE_DEFAULT, arrow_schema, iceberg_schema, tensor_properties
from iceblink.lake.table import Table
from iceblink.lake.tensors import stored_fixed
from iceblink.lake.transforms import parse_partition, parse_sort
from iceblink.types import storable


@dataclass(frozen=True)
class Replacement:
    """What a table is to become, in the words of `Catalog.create`.

    Parameters
    ----------
    schema : pa.Schema
        All its columns. One that has the name and type of a column of now, stored in the same form, keeps its field
        id; any other gets a new one, which nothing in the table's history has.
    partition_by, sort_by : tuple of str
    properties : mapping of str to str
        Are set; other properties stay.
    """

    schema: pa.Schema
    partition_by: tuple[str, ...] = ()
    sort_by: tuple[str, ...] = ()
    properties: Mapping[str, str] = field(default_factory=dict)


def replaced(table: Table, to: Replacement) -> Table:
    """Return `table` as it would be; nothing is committed.

    A `TableWriter` on the result writes files for it, and ``Commit(result).replace(to, files)`` puts them, and them
    alone, into the table together with its new shape.

    Raises
    ------
    ColumnNotFound, TypeMismatch, DuplicateColumn, ConfigError
        The schema or the words cannot be, or the table is a branch: all branches share one schema.
    """
    if table.branch != "main":
        raise ConfigError(
            "a branch cannot be replaced: it shares its schema with the table", table.name, "overwrite the branch"
        )
    check_unchanged(table, to.properties)
    transaction = table.pyiceberg.transaction()
    stage_replacement(transaction, to)
    now = table.pyiceberg
    made = IcebergTable(now.name(), transaction.table_metadata, now.metadata_location, now.io, now.catalog)
    return replace(table, pyiceberg=made, iceberg_schema=made.schema())


def stage_replacement(transaction: Transaction, to: Replacement) -> None:
    """Stage the new shape of the table; its rows are another matter."""
    now = transaction.table_metadata
    fixed = stored_fixed(to.schema.names, {**now.properties, **to.properties})
    wanted = storable(to.schema, fixed, now.format_version >= 3)
    check_defaults(wanted, str(now.format_version))
    schema = _schema(now, wanted, fixed)
    updates: list[TableUpdate] = []
    if schema.schema_id not in {known.schema_id for known in now.schemas}:
        updates.append(AddSchemaUpdate(schema=schema))
    updates.append(SetCurrentSchemaUpdate.model_validate({"schema-id": schema.schema_id}))
    partitioned, of_spec = spec_updates(now, parse_partition(to.partition_by, schema))
    sorted_, of_order = order_updates(now, parse_sort(to.sort_by, schema))
    transaction._apply(
        (*updates, *partitioned, *sorted_),
        (
            AssertCurrentSchemaId.model_validate({"current-schema-id": now.current_schema_id}),
            AssertLastAssignedFieldId.model_validate({"last-assigned-field-id": now.last_column_id}),
            *of_spec,
            *of_order,
        ),
    )
    given = {key: str(value) for key, value in to.properties.items() if key != PROPERTY}  # not for the table to keep
    properties = given | tensor_properties(wanted, schema)
    if properties:
        transaction.set_properties(properties)


Updates = tuple[tuple[TableUpdate, ...], tuple[TableRequirement, ...]]
"""What changes metadata, and what must hold for that."""


def spec_updates(now: TableMetadata, wanted: PartitionSpec) -> Updates:
    """Return what makes new files partitioned by `wanted`, as `transforms.parse_partition` gives it."""
    spec = _spec(now, wanted)
    known = spec.spec_id in {known.spec_id for known in now.partition_specs}
    updates: tuple[TableUpdate, ...] = () if known else (AddPartitionSpecUpdate(spec=spec),)
    return (*updates, SetDefaultSpecUpdate.model_validate({"spec-id": spec.spec_id})), (
        AssertDefaultSpecId.model_validate({"default-spec-id": now.default_spec_id}),
        AssertLastAssignedPartitionId.model_validate({"last-assigned-partition-id": now.last_partition_id}),
    )


def order_updates(now: TableMetadata, wanted: SortOrder) -> Updates:
    """Return what makes new files sorted by `wanted`, as `transforms.parse_sort` gives it."""
    order = _order(now, wanted)
    known = order.order_id in {known.order_id for known in now.sort_orders}
    updates: tuple[TableUpdate, ...] = () if known else (AddSortOrderUpdate.model_validate({"sort-order": order}),)
    return (*updates, SetDefaultSortOrderUpdate.model_validate({"sort-order-id": order.order_id})), (
        AssertDefaultSortOrderId.model_validate({"default-sort-order-id": now.default_sort_order_id}),
    )


def _schema(now: TableMetadata, wanted: pa.Schema, fixed: Collection[str]) -> Schema:
    """Return `wanted` with field ids, as the schema that the table has already if it has."""
    theirs = {known.name: known.type for known in arrow_schema(now.schema(), now.properties)}
    old = {known.name: known for known in now.schema().fields}
    ids = count(now.last_column_id + 1)
    fields = []
    for shown, new in zip(wanted, iceberg_schema(wanted, fixed).fields, strict=True):
        # the type as users see it: the shape of a tensor, too
        same = shown.name in old and shown.type == theirs[shown.name]
        if same and isinstance(new.field_type, FixedType) == isinstance(old[shown.name].field_type, FixedType):
            kept = old[shown.name]  # with the default of rows before it, which may not change
            written = kept.write_default if WRITE_DEFAULT in (shown.metadata or {}) else None
            said = {"name": new.name, "required": new.required, "doc": new.doc, "write_default": written}
            column = kept.model_copy(update=said)
        else:
            field_id = next(ids)
            column = NestedField(field_id, new.name, _with_ids(new.field_type, ids), new.required, new.doc)
        asked = asked_default(shown, new.field_type)
        fields.append(column if asked is None else column.model_copy(update={"write_default": asked}))
    made = Schema(*fields, schema_id=max(known.schema_id for known in now.schemas) + 1)
    return next((known for known in now.schemas if known == made), made)


def _with_ids(kind: IcebergType, ids: Iterator[int]) -> IcebergType:
    # PyIceberg gives a type where it is given one, but says that it gives a schema
    return cast(IcebergType, assign_fresh_schema_ids(kind, lambda: next(ids)))


def _spec(now: TableMetadata, wanted: PartitionSpec) -> PartitionSpec:
    """Return `wanted` with field ids: one source and transform have one id in all the table's specs.

    In format version 1 a field has its id by its place, so that one that goes leaves a void in it.
    """
    ids = {(one.source_id, str(one.transform)): one.field_id for spec in now.partition_specs for one in spec.fields}
    unused = count((now.last_partition_id or PARTITION_FIELD_ID_START - 1) + 1)
    new = {(one.source_id, str(one.transform)): one for one in wanted.fields}
    fields = []
    for old in now.spec().fields if now.format_version == 1 else ():
        stays = new.pop((old.source_id, str(old.transform)), None)
        if stays is None:
            named = old.name if old.name not in {one.name for one in wanted.fields} else f"{old.name}_{old.field_id}"
            fields.append(PartitionField(old.source_id, old.field_id, VoidTransform(), named))
        else:
            fields.append(PartitionField(stays.source_id, old.field_id, stays.transform, stays.name))
    for one in new.values():
        known = None if now.format_version == 1 else ids.get((one.source_id, str(one.transform)))
        fields.append(PartitionField(one.source_id, next(unused) if known is None else known, one.transform, one.name))
    same = next((spec for spec in now.partition_specs if spec.fields == tuple(fields)), None)
    return same or PartitionSpec(*fields, spec_id=max(spec.spec_id for spec in now.partition_specs) + 1)


def _order(now: TableMetadata, wanted: SortOrder) -> SortOrder:
    """Return `wanted` with an id; 0 is that of no order."""
    same = next((order for order in now.sort_orders if order.fields == wanted.fields), None)
    if same is not None or wanted.is_unsorted:
        return same or wanted
    return SortOrder(*wanted.fields, order_id=max(order.order_id for order in now.sort_orders) + 1)
