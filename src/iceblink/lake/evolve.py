"""A table's schema grown to hold new data: columns added, types widened, never a value lost."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
from pyiceberg.exceptions import ResolveError, ValidationError, ValidationException
from pyiceberg.schema import Schema
from pyiceberg.table import Table as IcebergTable
from pyiceberg.table import Transaction
from pyiceberg.table.metadata import TableMetadata

from iceblink.errors import SchemaMismatch
from iceblink.lake.schemas import byte_tensors, iceberg_schema, tensor_properties
from iceblink.lake.table import Table
from iceblink.lake.tensors import stored_fixed
from iceblink.types import storable


def evolved(table: Table, schema: pa.Schema) -> Table:
    """Return `table` as it would be with `schema` merged into its own; nothing is committed.

    A `TableWriter` on the result writes files with the field ids that the new columns will have, and
    ``Commit(result).evolve(schema)`` commits files and schema together.

    Parameters
    ----------
    table : Table
    schema : pa.Schema
        Columns are matched by name. Those the table lacks are added, int may become long, float double, decimals
        more precise, required optional. Columns missing here stay.

    Raises
    ------
    SchemaMismatch
        A change that would lose values or break readers.

    References
    ----------
    .. [1] Iceberg table spec, "Schema Evolution".
    """
    transaction = table.pyiceberg.transaction()
    stage_schema(transaction, schema, table.name)
    now = table.pyiceberg
    grown = IcebergTable(now.name(), transaction.table_metadata, now.metadata_location, now.io, now.catalog)
    return replace(table, pyiceberg=grown, iceberg_schema=grown.schema())


def stage_schema(transaction: Transaction, schema: pa.Schema, where: str) -> None:
    """Stage the merge of `schema` into a transaction's, the shapes of new tensors included.

    Raises
    ------
    SchemaMismatch
        A change that would lose values or break readers.
    """
    now = transaction.table_metadata
    known = {field.name for field in now.schema().fields}
    new = [name for name in schema.names if name not in known]
    fixed = stored_fixed(new, now.properties)
    wanted = storable(schema, fixed, now.format_version >= 3)
    try:
        with transaction.update_schema() as update:
            update.union_by_name(_with_bytes(iceberg_schema(wanted, fixed), now))
    except (ValueError, ResolveError, ValidationError, ValidationException) as error:
        raise SchemaMismatch(
            f"the schema cannot be changed so: {error}",
            where,
            "new columns must be nullable; a type can only widen: int to long, float to double, decimal precision up",
        ) from error
    shapes = tensor_properties(wanted, transaction.table_metadata.schema())
    new_shapes = {name: shape for name, shape in shapes.items() if name not in now.properties}
    if new_shapes:
        transaction.set_properties(new_shapes)


def _with_bytes(wanted: Schema, now: TableMetadata) -> Schema:
    """Return `wanted` with the tensors that the table stores as bytes: these never widen, and rows are held to them."""
    kept = byte_tensors(now.schema(), now.properties)
    types = {field.name: kept.get(field.name, field.field_type) for field in wanted.fields}
    return Schema(*(field.model_copy(update={"field_type": types[field.name]}) for field in wanted.fields))
