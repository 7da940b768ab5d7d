"""The schema that a function's return annotation promises: a TypedDict or a dataclass of plain types."""

from __future__ import annotations

import dataclasses
import datetime as dt
import types
import typing
import uuid
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from iceblink.errors import TypeMismatch

_PLAIN: dict[Any, pa.DataType] = {
    bool: pa.bool_(),
    int: pa.int64(),
    float: pa.float64(),
    str: pa.string(),
    bytes: pa.binary(),
    dt.date: pa.date32(),
    dt.datetime: pa.timestamp("us"),
    dt.time: pa.time64("us"),
    uuid.UUID: pa.uuid(),
}


def schema_of(function: Callable[..., Any]) -> pa.Schema | None:
    """Return the schema of a function annotated to return a TypedDict or dataclass; None where it is not.

    ``T | None`` is nullable, anything else is required; ``list[T]`` is a list.

    Raises
    ------
    TypeMismatch
        A field whose type has no column type.
    """
    try:
        promised = typing.get_type_hints(function).get("return")
    except (NameError, TypeError):  # hints that cannot be resolved, or an object that has none
        return None
    if isinstance(promised, type) and (typing.is_typeddict(promised) or dataclasses.is_dataclass(promised)):
        hints = typing.get_type_hints(promised)
        return pa.schema([_field(name, hint, promised.__name__) for name, hint in hints.items()])
    return None


def _field(name: str, hint: Any, where: str) -> pa.Field:
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    solid = [option for option in options if option is not type(None)]
    if len(solid) != 1:
        raise TypeMismatch(f"field {name!r} has type {hint}", where, "one type, or one type | None")
    if typing.get_origin(solid[0]) is list:
        inner = _field("element", typing.get_args(solid[0])[0], where)
        return pa.field(name, pa.list_(inner), nullable=len(options) > 1)
    if solid[0] not in _PLAIN:
        raise TypeMismatch(
            f"field {name!r} has type {solid[0]!r}, which is no column type", where, "declare schema={...} instead"
        )
    return pa.field(name, _PLAIN[solid[0]], nullable=len(options) > 1)
