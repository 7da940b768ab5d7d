"""The schema that an operator's output is held to: declared, or that of the first output."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa

from iceblink.errors import BatchContractBroken, SchemaMismatch, WriteError
from iceblink.run.pipeline.pieces import places
from iceblink.scan.batch import Batch
from iceblink.types import conform


def found(schema: pa.Schema, label: str) -> pa.Schema:
    """Return the schema that a first output gives to all that follow.

    Raises
    ------
    BatchContractBroken
        A column has only nulls in it: its type is not known.
    """
    unknown = next((field.name for field in schema if pa.types.is_null(field.type)), None)
    if unknown is not None:
        raise BatchContractBroken(
            f"column {unknown!r} has only nulls in the first batch, so its type is not known",
            label,
            f"declare it: schema={{{unknown!r}: 'string', ...}}",
        )
    return schema.remove_metadata()


def held(output: pa.RecordBatch, schema: pa.Schema, where: str) -> pa.RecordBatch:
    """Bring an output to a schema without losing a value.

    Raises
    ------
    BatchContractBroken
        A column is missing, is too many, or has values that do not fit.
    """
    if output.schema.equals(schema, check_metadata=True) and _all_may_be_null(schema):
        return output
    try:
        return conform(output, schema, where)
    except (SchemaMismatch, WriteError) as error:
        raise BatchContractBroken(error.what, error.where, error.hint) from error


def _all_may_be_null(schema: pa.Schema) -> bool:
    """Whether no value has to be looked at; fields inside others are not asked."""
    return all(field.nullable and not pa.types.is_nested(field.type) for field in schema)


class Held:
    """One operator's schema, for all of its workers.

    Set once and never changed: only the scheduler's thread asks, for each output before it goes on.
    """

    def __init__(self, declared: pa.Schema | None, label: str) -> None:
        self.schema, self._label = declared, label

    def fits(self, schema: pa.Schema) -> bool:
        """Whether rows of `schema` need no change; the first schema seen becomes the one that is held."""
        if self.schema is None:
            self.schema = found(schema, self._label)
        return bool(schema.equals(self.schema))

    def conformed(self, batch: Batch) -> Batch:
        """Return rows in the schema. Raises BatchContractBroken."""
        assert self.schema is not None, "fits() was asked first"
        return replace(batch, data=held(batch.data, self.schema, f"{self._label}, {places([batch])}"))
