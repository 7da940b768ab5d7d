"""Single values as Iceberg stores them, and as Python knows them.

Iceberg counts days and microseconds where Python has dates and times.

References
----------
.. [1] Iceberg table spec, "Binary single-value serialization".
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Any
from uuid import UUID

from pyiceberg import types as iceberg

_EPOCH = datetime(1970, 1, 1)
_EPOCH_UTC = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = _EPOCH.toordinal()

Converter = Callable[[Any], object]


def to_python(kind: iceberg.IcebergType) -> Converter | None:
    """Return the function from a stored value of type `kind` to a Python one; None where they are the same.

    The function raises OverflowError where Python has no such value: years beyond 9999, nanoseconds.
    """
    return _TO_PYTHON.get(type(kind))


def _uuid(value: bytes | UUID) -> UUID:
    return value if isinstance(value, UUID) else UUID(bytes=bytes(value))


def _nanoseconds(value: int) -> object:
    raise OverflowError(value)  # a Python datetime would round them


_TO_PYTHON: dict[type[iceberg.IcebergType], Converter] = {
    iceberg.DateType: lambda days: date.fromordinal(_EPOCH_DAY + days),
    iceberg.TimeType: lambda micros: (_EPOCH + timedelta(microseconds=micros)).time(),
    iceberg.TimestampType: lambda micros: _EPOCH + timedelta(microseconds=micros),
    iceberg.TimestamptzType: lambda micros: _EPOCH_UTC + timedelta(microseconds=micros),
    iceberg.TimestampNanoType: _nanoseconds,
    iceberg.TimestamptzNanoType: _nanoseconds,
    iceberg.UUIDType: _uuid,
    iceberg.FixedType: bytes,
    iceberg.BinaryType: bytes,
}


class Inexpressible(Exception):
    """A value that has no exact counterpart in a column's type."""


def to_stored(value: object, kind: iceberg.IcebergType) -> Any:
    """Return a Python value as PyIceberg's literals want it for a column of type `kind`.

    Raises
    ------
    Inexpressible
    """
    match kind, value:
        case iceberg.BooleanType(), bool():
            return value
        case _, bool():
            raise Inexpressible(value)
        case ((iceberg.IntegerType() | iceberg.LongType()), int()):
            return value
        case ((iceberg.FloatType() | iceberg.DoubleType()), (int() | float())) if value == value:
            return float(value)
        case iceberg.StringType(), str():
            return value
        case ((iceberg.BinaryType() | iceberg.FixedType()), bytes()):
            return value
        case iceberg.UUIDType(), UUID():
            return value
        case iceberg.DateType(), date() if not isinstance(value, datetime):
            return value.toordinal() - _EPOCH_DAY
        case iceberg.TimeType(), time() if value.tzinfo is None:
            return ((value.hour * 60 + value.minute) * 60 + value.second) * 1_000_000 + value.microsecond
        case iceberg.TimestampType(), datetime() if value.tzinfo is None:
            return (value - _EPOCH) // timedelta(microseconds=1)
        case iceberg.TimestamptzType(), datetime() if value.tzinfo is not None:
            return (value - _EPOCH_UTC) // timedelta(microseconds=1)
        case iceberg.DecimalType(), int() | Decimal():
            return _decimal(value, kind)
        case _:
            raise Inexpressible(value)


def _decimal(value: int | Decimal, kind: iceberg.DecimalType) -> Decimal:
    try:
        scaled = Decimal(value).quantize(
            Decimal((0, (1,), -kind.scale)), context=Context(prec=38, traps=[Inexact, InvalidOperation])
        )
    except (Inexact, InvalidOperation):
        raise Inexpressible(value) from None
    if len(scaled.as_tuple().digits) > kind.precision:
        raise Inexpressible(value)
    return scaled
