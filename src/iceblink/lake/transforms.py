"""Partition and sort words: ``"bucket(16, id)"`` and ``"-price"``, to Iceberg and back.

References
----------
.. [1] Iceberg table spec, "Partition Transforms" and "Sorting".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from pyiceberg.partitioning import PARTITION_FIELD_ID_START, PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER, NullOrder, SortDirection, SortField, SortOrder
from pyiceberg.transforms import (
    BucketTransform,
    DayTransform,
    HourTransform,
    IdentityTransform,
    MonthTransform,
    Transform,
    TruncateTransform,
    VoidTransform,
    YearTransform,
)
from pyiceberg.types import NestedField

from iceblink.errors import ColumnNotFound, ConfigError, TypeMismatch, nearest

AnyTransform = Transform[Any, Any]

_TIMES: dict[str, AnyTransform] = {
    "year": YearTransform(),
    "month": MonthTransform(),
    "day": DayTransform(),
    "hour": HourTransform(),
}
_SIZED: dict[str, Callable[[int], AnyTransform]] = {"bucket": BucketTransform, "truncate": TruncateTransform}
_CALL = re.compile(r"(\w+)\s*\((.*)\)", re.DOTALL)
_SORT = re.compile(
    r"(?P<minus>-)?\s*(?P<column>.*?)(?:\s+(?P<direction>asc|desc))?(?:\s+nulls\s+(?P<nulls>first|last))?",
    re.IGNORECASE | re.DOTALL,
)
_SHAPES = "write it like 'day(ts)', 'bucket(16, id)', 'truncate(4, name)', or just a column"


def parse_partition(words: Sequence[str], schema: Schema) -> PartitionSpec:
    """Read partition transforms.

    Parameters
    ----------
    words : sequence of str
        Each a column, or ``bucket(n, column)``, ``truncate(n, column)``, ``year(column)``, ``month``, ``day``,
        ``hour``; the arguments in either order, ``days`` for ``day``. A column in a struct is named with dots.
    schema : Schema
        Of the table to be.

    Raises
    ------
    ColumnNotFound, TypeMismatch
        No such column, or a transform that its type does not have.
    ConfigError
        Words that cannot be read, or two fields of one name.
    """
    fields: list[PartitionField] = []
    for text in words:
        transform, column = _transform(text, schema)
        where = f"partition_by {text!r}"
        source = _column(column, schema, where)
        if not transform.can_transform(source.field_type):
            fitting = [name for name, other in _examples().items() if other.can_transform(source.field_type)]
            hint = f"this column can have: {', '.join(fitting)}" if fitting else "partition by another column"
            raise TypeMismatch(f"{text!r} cannot apply to a column of {source.field_type}", where, hint)
        name = _field_name(column, transform)
        if any(field.name == name for field in fields):
            raise ConfigError(f"two partition fields are named {name!r}", where, "name each column and transform once")
        if name != column and name in schema.column_names:
            raise ConfigError(
                f"the partition field {name!r} would hide a column of that name", where, "rename the column"
            )
        fields.append(PartitionField(source.field_id, PARTITION_FIELD_ID_START + len(fields), transform, name))
    return PartitionSpec(*fields)


def show_partition(spec: PartitionSpec, schema: Schema) -> tuple[str, ...]:
    """Return the words that `parse_partition` reads; fields that were removed from an old spec are left out."""
    shown = []
    for field in spec.fields:
        if isinstance(field.transform, VoidTransform):
            continue
        column = schema.find_column_name(field.source_id) or field.name  # the column may be gone by now
        shown.append(_show(field.transform, column))
    return tuple(shown)


def parse_sort(words: Sequence[str], schema: Schema) -> SortOrder:
    """Read a sort order.

    Parameters
    ----------
    words : sequence of str
        ``"id"``, ``"-id"`` or ``"id desc"``, each with ``nulls first`` or ``nulls last`` after it if wished. Nulls
        come first when ascending and last when descending, as in Iceberg.

    Raises
    ------
    ColumnNotFound, TypeMismatch
        No such column, or one without an order.
    ConfigError
        A column twice, or a transform: files are sorted by columns.
    """
    fields: list[SortField] = []
    for text in words:
        where = f"sort_by {text!r}"
        found = _SORT.fullmatch(text.strip())
        assert found is not None  # every part of the pattern may be empty
        column = found["column"].strip()
        if found["minus"] and found["direction"]:
            raise ConfigError(f"{text!r} gives the direction twice", where, f"write '-{column}' or '{column} desc'")
        call = _CALL.fullmatch(column)
        if call and column not in schema.column_names:
            hint = f"buckets have no order that helps a reader: sort by {call[2].split(',')[-1].strip()!r} itself"
            raise ConfigError("files are sorted by columns, not by transforms of them", where, hint)
        source = _column(_unquoted(column), schema, where)
        if not source.field_type.is_primitive:
            raise TypeMismatch(f"a column of {source.field_type} has no order", where, "sort by another column")
        if any(field.source_id == source.field_id for field in fields):
            raise ConfigError(f"column {column!r} is named twice", where, "name each column once")
        descending = bool(found["minus"]) or (found["direction"] or "").lower() == "desc"
        nulls = (found["nulls"] or ("last" if descending else "first")).lower()
        fields.append(
            SortField(
                source.field_id,
                IdentityTransform(),
                SortDirection.DESC if descending else SortDirection.ASC,
                NullOrder.NULLS_FIRST if nulls == "first" else NullOrder.NULLS_LAST,
            )
        )
    return SortOrder(*fields) if fields else UNSORTED_SORT_ORDER


def show_sort(order: SortOrder, schema: Schema) -> tuple[str, ...]:
    """Return the words that `parse_sort` reads; a transform of another writer is shown as it is."""
    shown = []
    for field in order.fields:
        text = _show(field.transform, schema.find_column_name(field.source_id) or f"field {field.source_id}")
        descending = field.direction == SortDirection.DESC
        if descending:
            text += " desc"
        if field.null_order != (NullOrder.NULLS_LAST if descending else NullOrder.NULLS_FIRST):
            text += " nulls last" if field.null_order == NullOrder.NULLS_LAST else " nulls first"
        shown.append(text)
    return tuple(shown)


def _transform(text: str, schema: Schema) -> tuple[AnyTransform, str]:
    where = f"partition_by {text!r}"
    call = _CALL.fullmatch(text.strip())
    if call is None or text.strip() in schema.column_names:
        return IdentityTransform(), _unquoted(text)
    word, inside = call[1].lower(), call[2]
    if word.removesuffix("s") in _TIMES:
        return _TIMES[word.removesuffix("s")], _unquoted(inside)
    if word == "identity":
        return IdentityTransform(), _unquoted(inside)
    if word not in _SIZED:
        raise ConfigError(f"no transform {word!r}", where, nearest(word, {*_TIMES, *_SIZED, "identity"}, "transforms"))
    first, comma, second = inside.partition(",")
    if not comma:
        raise ConfigError(f"{word} needs a number and a column", where, f"write {word}(16, {inside.strip() or 'id'})")
    for number, column in ((first.strip(), second), (second.strip(), first)):
        if number.isdecimal() and int(number) > 0:
            return _SIZED[word](int(number)), _unquoted(column)
    raise ConfigError(f"{word} needs a number of at least 1", where, _SHAPES)


def _unquoted(text: str) -> str:
    text = text.strip()
    quoted = len(text) > 1 and text[0] == text[-1] == '"'
    return text[1:-1].replace('""', '"') if quoted else text


def _column(name: str, schema: Schema, where: str) -> NestedField:
    if name not in schema.column_names:
        raise ColumnNotFound.of(name, schema.column_names, where)
    return schema.find_field(name)


def _field_name(column: str, transform: AnyTransform) -> str:
    if isinstance(transform, IdentityTransform):
        return column
    word = "trunc" if isinstance(transform, TruncateTransform) else _word(transform)
    return f"{column}_{word}"


def _word(transform: AnyTransform) -> str:
    return str(transform).partition("[")[0]


def _show(transform: AnyTransform, column: str) -> str:
    if isinstance(transform, IdentityTransform):
        return column
    if isinstance(transform, BucketTransform):
        return f"bucket({transform.num_buckets}, {column})"
    if isinstance(transform, TruncateTransform):
        return f"truncate({transform.width}, {column})"
    return f"{_word(transform)}({column})"


def _examples() -> dict[str, AnyTransform]:
    return {"identity": IdentityTransform(), "bucket": BucketTransform(1), "truncate": TruncateTransform(1), **_TIMES}
