"""Columns of a table found in one file, whatever the file calls them: by field id, at every depth.

A file without field ids was not written for Iceberg but added to it: the table's name mapping says what its columns are
called there.

References
----------
.. [1] Iceberg table spec, "Column Projection", "Schema Evolution", "Default Values".
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import time
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from iceblink.casts import is_list_like, lossless
from iceblink.errors import DataCorrupt
from iceblink.lake.schemas import DEFAULT, FIELD_ID, NAME_MAPPING, NAMES
from iceblink.lake.tensors import from_bytes


@dataclass(frozen=True, eq=False)
class Column:
    """How one field of the table is made from one file.

    Parameters
    ----------
    target : pa.Field
        As the table has it.
    source : pa.Field or None
        As the file has it; None when the file has no such field.
    place : int
        Position among those of its siblings that are read.
    leaves : tuple of int
        Leaf columns of the file to read, ascending.
    flat : bool
        Whether the file has one leaf value a row: no list, map or struct.
    children : tuple of Column
        Of the target's fields, when both sides are structs, both lists or both maps.
    same : bool
        Whether what is read is the target already.
    constant : pa.Array or None
        One value, for every row, when the file has no such field; None for null.
    """

    target: pa.Field
    source: pa.Field | None = None
    place: int = 0
    leaves: tuple[int, ...] = ()
    flat: bool = False
    children: tuple[Column, ...] = ()
    same: bool = False
    constant: pa.Array | None = None


@dataclass(frozen=True, eq=False)
class Projection:
    """How row groups of one file become batches of the table.

    Parameters
    ----------
    schema : pa.Schema
        What comes out.
    columns : tuple of Column
        One for each field of `schema`.
    """

    schema: pa.Schema
    columns: tuple[Column, ...]

    @classmethod
    def of(cls, schema: pa.Schema, file: pa.Schema, identity: Iterable[tuple[int, object]] = ()) -> Projection:
        """Find the fields of `schema` in a file.

        Parameters
        ----------
        schema : pa.Schema
            Wanted, with field ids.
        file : pa.Schema
            The file's own; without field ids, the names that `schema` has for such files decide (see `check_named`).
        identity : iterable of (int, object)
            Field id and value of identity-partitioned columns, which may be absent from the file.
        """
        by_id = any(field_id(field) is not None for field in file)
        return cls(schema, _siblings(list(schema), list(file), 0, by_id, dict(identity)))

    @cached_property
    def leaves(self) -> tuple[int, ...]:
        """Leaf columns of the file to read, ascending."""
        return tuple(sorted({leaf for column in self.columns for leaf in column.leaves}))

    @cached_property
    def same(self) -> bool:
        """Whether what is read needs no change at all."""
        return all(column.same and column.place == place for place, column in enumerate(self.columns))

    def apply(self, arrays: Sequence[pa.Array], rows: int) -> pa.RecordBatch:
        """Return a batch of exactly `schema`; columns that fit already are not copied.

        Parameters
        ----------
        arrays : sequence of pa.Array
            The columns that were read, in the file's order.
        rows : int

        Raises
        ------
        casts.Unfit
            A value or a type that does not fit the table's.
        """
        if not self.columns:  # a batch of no columns still has rows
            return pa.RecordBatch.from_struct_array(pa.array([{}] * rows, pa.struct([])))
        made = [
            filled(column, rows) if column.source is None else _converted(arrays[column.place], column)
            for column in self.columns
        ]
        return pa.RecordBatch.from_arrays(made, schema=self.schema)


def check_named(schema: pa.Schema, file: pa.Schema, owner: str, path: str) -> None:
    """Refuse a file without field ids of a table without a name mapping.

    What a column is called now says nothing of what it was called when the file was added.

    Parameters
    ----------
    schema : pa.Schema
        The table's.
    file : pa.Schema
    owner, path : str
        For the error.

    Raises
    ------
    DataCorrupt
    """
    if any(field_id(field) is not None for field in file) or any(NAMES in (field.metadata or {}) for field in schema):
        return
    raise DataCorrupt(
        "a file has no field ids, and the table has no name mapping to tell its columns by",
        f"{owner}, file {path}",
        f"set table property {NAME_MAPPING}, as PyIceberg's add_files does",
    )


def field_id(field: pa.Field) -> int | None:
    """Return the Iceberg field id that a field carries, if it does."""
    text = (field.metadata or {}).get(FIELD_ID)
    return None if text is None else int(text)


def inner_fields(dtype: pa.DataType) -> list[pa.Field]:
    """Return the fields inside a type as Parquet nests them; none for a leaf."""
    if isinstance(dtype, pa.BaseExtensionType):
        return inner_fields(dtype.storage_type)
    if pt.is_struct(dtype):
        return list(dtype)
    if pt.is_map(dtype):
        return [dtype.key_field, dtype.item_field]
    return [dtype.value_field] if is_list_like(dtype) else []


def _leaf_count(dtype: pa.DataType) -> int:
    inner = inner_fields(dtype)
    return sum(_leaf_count(field.type) for field in inner) if inner else 1


def _siblings(
    wanted: list[pa.Field], found: list[pa.Field], leaf: int, by_id: bool, identity: Mapping[int, object]
) -> tuple[Column, ...]:
    """Match fields of one struct, whose first leaf column is `leaf`."""
    key = field_id if by_id else _name
    positions = {key(field): position for position, field in enumerate(found) if key(field) is not None}
    keys = _ids if by_id else _names
    first = leaf
    starts = []
    for field in found:
        starts.append(first)
        first += _leaf_count(field.type)
    matched = [next((positions[one] for one in keys(field) if one in positions), None) for field in wanted]
    order = {position: place for place, position in enumerate(sorted(at for at in matched if at is not None))}
    return tuple(
        _absent(target, identity) if at is None else _matched(target, found[at], order[at], starts[at], by_id)
        for target, at in zip(wanted, matched, strict=True)
    )


def _name(field: pa.Field) -> str:
    return str(field.name)


def _ids(field: pa.Field) -> tuple[int | None, ...]:
    return (field_id(field),)


def _names(field: pa.Field) -> tuple[str, ...]:
    """Return what a field of the table may be called in files without field ids."""
    mapped = (field.metadata or {}).get(NAMES)
    return (field.name,) if mapped is None else tuple(json.loads(mapped))


def _matched(target: pa.Field, source: pa.Field, place: int, leaf: int, by_id: bool) -> Column:
    wanted, found = target.type, source.type
    children: tuple[Column, ...] = ()
    if pt.is_struct(wanted) and pt.is_struct(found):
        children = _siblings(list(wanted), list(found), leaf, by_id, {})
    elif (pt.is_map(wanted) and pt.is_map(found)) or (pt.is_list(wanted) and is_list_like(found)):
        at = leaf
        for position, (inner, stored) in enumerate(zip(inner_fields(wanted), inner_fields(found), strict=True)):
            children += (_matched(inner, stored, position, at, by_id),)
            at += _leaf_count(stored.type)
    if children:
        leaves = tuple(sorted({leaf for child in children for leaf in child.leaves}))
        in_place = all(child.same and child.place == position for position, child in enumerate(children))
        # a struct of none but added fields: any one leaf tells where the struct itself is null
        return Column(target, source, place, leaves or (leaf,), False, children, in_place and found.equals(wanted))
    flat = not inner_fields(found)
    leaves = (leaf,) if flat else tuple(range(leaf, leaf + _leaf_count(found)))
    return Column(target, source, place, leaves, flat, (), found.equals(wanted))


def _absent(target: pa.Field, identity: Mapping[int, object]) -> Column:
    value = identity.get(field_id(target) or 0)
    default = (target.metadata or {}).get(DEFAULT)
    if value is not None:
        return Column(target, constant=_identity(value, target.type))
    if default is not None:
        return Column(target, constant=_default(json.loads(default), target.type))
    return Column(target)


def _identity(value: object, dtype: pa.DataType) -> pa.Array:
    plain = value.bytes if isinstance(value, uuid.UUID) else value
    if isinstance(dtype, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(dtype, pa.array([plain], dtype.storage_type))
    return pa.array([plain], dtype)


def _default(value: object, dtype: pa.DataType) -> pa.Array:
    """Read a value in Iceberg's JSON single-value form (spec, appendix D)."""
    if pt.is_binary(dtype) or pt.is_fixed_size_binary(dtype):
        return pa.array([bytes.fromhex(str(value))], dtype)
    if pt.is_time(dtype):
        return pa.array([time.fromisoformat(str(value))], dtype)
    if isinstance(value, str):  # dates, timestamps, decimals, uuids are written as text
        text = pa.array([value])
        return lossless(text, dtype, "") if isinstance(dtype, pa.UuidType) else text.cast(dtype)
    return pa.array([value], dtype)


def filled(column: Column, rows: int) -> pa.Array:
    """Return `rows` times the constant of a column that the file does not have."""
    dtype = column.target.type
    if column.constant is None:
        return pa.nulls(rows, dtype)
    if isinstance(dtype, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(dtype, pa.repeat(column.constant.storage[0], rows))
    return pa.repeat(column.constant[0], rows)


def _converted(array: pa.Array, column: Column) -> pa.Array:
    dtype = column.target.type
    if column.same:
        return array
    if not column.children:
        if isinstance(dtype, pa.FixedShapeTensorType) and pt.is_fixed_size_binary(array.type):
            return from_bytes(array, dtype)
        return lossless(array, dtype, column.target.name)
    mask = array.is_null() if array.null_count else None  # pyarrow wants no mask when there is nothing to mask
    if pt.is_struct(dtype):
        parts = [
            filled(child, len(array)) if child.source is None else _converted(array.field(child.place), child)
            for child in column.children
        ]
        return pa.StructArray.from_arrays(parts, fields=list(dtype), mask=mask)
    if pt.is_map(dtype):
        first = array.offsets[0].as_py()
        length = array.offsets[len(array)].as_py() - first
        key, item = column.children
        keys = _converted(array.keys.slice(first, length), key)
        items = _converted(array.items.slice(first, length), item)
        offsets = pc.subtract(array.offsets, pa.scalar(first, pa.int32()))
        return pa.MapArray.from_arrays(offsets, keys, items, type=dtype, mask=mask)
    plain = array if pt.is_list(array.type) else array.cast(pa.list_(array.type.value_field))
    lengths = pc.fill_null(pc.list_value_length(plain), 0)
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(lengths).cast(pa.int32())])
    return pa.ListArray.from_arrays(offsets, _converted(plain.flatten(), column.children[0]), type=dtype, mask=mask)
