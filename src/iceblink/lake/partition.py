"""Rows into partitions: every Iceberg transform, by whole columns, order kept."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cached_property
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.partitioning import PartitionField, PartitionKey, PartitionSpec, partition_record_value
from pyiceberg.schema import Schema
from pyiceberg.typedef import Record

Partition = tuple[Any, ...]
"""One value per partition field, as Iceberg stores them: days for a date, bytes for a uuid, null as None."""


def comparable(values: Iterable[Any]) -> Partition:
    """Return partition values that equal those of the same partition, however they were come by.

    NaN is one partition, but no two floats are; a uuid is written as bytes and read as a uuid.
    """
    return tuple(math.nan if value != value else value.bytes if isinstance(value, UUID) else value for value in values)


class Partitioner:
    """Splits batches by a partition spec.

    Parameters
    ----------
    schema : pyiceberg Schema
        Schema of the batches.
    spec : pyiceberg PartitionSpec
    """

    def __init__(self, schema: Schema, spec: PartitionSpec) -> None:
        self.schema, self.spec = schema, spec

    def split(self, batch: pa.RecordBatch) -> list[tuple[Partition, pa.RecordBatch]]:
        """Return the rows of each partition, in the order in which partitions first appear.

        Rows keep their order inside a partition. Where there is one partition, the batch itself is returned;
        otherwise every part is a copy, so that none holds on to the memory of the whole.
        """
        if self.spec.is_unpartitioned() or not batch.num_rows:
            return [((), batch)] if batch.num_rows else []
        values = [self._values(batch, field) for field in self.spec.fields]
        ranks, count = _ranks(values)
        if count == 1:
            return [(self._partition(values, 0), batch)]
        order = pc.array_sort_indices(ranks)  # stable, so rows keep their order
        parts, start = [], 0
        for length in pc.value_counts(ranks).field("counts").to_pylist():  # ranks are numbered by first appearance
            rows = order.slice(start, length)
            parts.append((self._partition(values, rows[0].as_py()), batch.take(rows)))
            start += length
        return parts

    def folder(self, partition: Partition) -> PartitionKey | None:
        """Return what PyIceberg's location provider names the folder by; None when there are no partitions."""
        if self.spec.is_unpartitioned():
            return None
        return _Folder(field_values=[], partition_spec=self.spec, schema=self.schema, stored=partition)

    def _values(self, batch: pa.RecordBatch, field: PartitionField) -> pa.Array:
        source = self.schema.find_field(field.source_id)
        array = _column(batch, self.schema, field.source_id)
        if isinstance(array, pa.ExtensionArray):
            array = array.storage  # a uuid is hashed and compared as its 16 bytes
        return field.transform.pyarrow_transform(source.field_type)(array)

    def _partition(self, values: list[pa.Array], row: int) -> Partition:
        fields = zip(self.spec.fields, values, strict=True)
        return comparable(self._stored(field, array[row].as_py()) for field, array in fields)

    def _stored(self, field: PartitionField, value: Any) -> Any:
        if isinstance(value, int):  # already stored, and PyIceberg would take the bucket of a time for the time
            return value
        return partition_record_value(field, value, self.schema)


class _Folder(PartitionKey):
    """PyIceberg's partition key, given stored values: its own refuses two fields of one source column."""

    def __init__(self, stored: Partition, **given: Any) -> None:
        super().__init__(**given)
        self.__dict__["stored"] = stored

    @cached_property
    def partition(self) -> Record:
        return Record(*self.__dict__["stored"])


def _column(batch: pa.RecordBatch, schema: Schema, field_id: int) -> pa.Array:
    """Return a column, or a field inside structs, with the nulls of the structs around it."""
    path = [field_id]
    parents = schema._lazy_id_to_parent  # private, but names may contain dots and only ids are sure
    while path[-1] in parents:
        path.append(parents[path[-1]])
    array = batch.column(schema.find_field(path.pop()).name)
    while path:
        array = pc.struct_field(array, schema.find_field(path.pop()).name)
    return array


def _ranks(columns: list[pa.Array]) -> tuple[pa.Array, int]:
    """Number the distinct rows of `columns` from 0 in the order of their first appearance."""
    ranks, count = None, 1
    for column in columns:
        encoded = column.dictionary_encode(null_encoding="encode")
        if ranks is None:
            ranks, count = encoded.indices, len(encoded.dictionary)
            continue
        mixed = pc.add(
            pc.multiply(ranks.cast(pa.int64()), len(encoded.dictionary)), encoded.indices.cast(pa.int64())
        ).dictionary_encode()
        ranks, count = mixed.indices, len(mixed.dictionary)
    return ranks, count
