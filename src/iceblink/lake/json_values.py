"""Single values as JSON has them, between a server that plans scans and its clients.

References
----------
.. [1] Iceberg table spec, "JSON single-value serialization".
.. [2] Iceberg REST catalog, open-api/rest-catalog-open-api.yaml, ``PrimitiveTypeValue``.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from pyiceberg import conversions
from pyiceberg import types as iceberg

from iceblink.lake.values import Inexpressible

_EPOCH = datetime(1970, 1, 1)


def to_json(kind: iceberg.IcebergType, stored: Any) -> Any:
    """Return a stored value of type `kind` as JSON; numbers that JSON does not have are texts, as Java writes them.

    Raises
    ------
    Inexpressible
        There is no form for it: years beyond 9999, types without single values.
    """
    try:
        match kind:
            case iceberg.FloatType() | iceberg.DoubleType() if not math.isfinite(stored):
                return "NaN" if stored != stored else "Infinity" if stored > 0 else "-Infinity"
            case iceberg.BinaryType() | iceberg.FixedType():
                return bytes(stored).hex().upper()
            case iceberg.UUIDType():
                return str(stored if isinstance(stored, UUID) else UUID(bytes=bytes(stored)))
            case iceberg.DecimalType():
                return format(stored, "f")
            case iceberg.TimestampNanoType():
                return _nanoseconds(stored)
            case iceberg.TimestamptzNanoType():
                return f"{_nanoseconds(stored)}+00:00"
            case iceberg.PrimitiveType():
                return conversions.to_json(kind, stored)
    except (TypeError, ValueError, OverflowError, AttributeError, NotImplementedError):
        pass
    raise Inexpressible(stored)


def _nanoseconds(stored: int) -> str:
    micros, nanos = divmod(stored, 1000)
    return f"{(_EPOCH + timedelta(microseconds=micros)).isoformat(timespec='microseconds')}{nanos:03d}"


def from_json(kind: iceberg.IcebergType, value: Any) -> Any:
    """Return the Python value of type `kind` that JSON has, whoever wrote it.

    Raises
    ------
    Inexpressible
        It is none, or has no exact counterpart in Python: nanoseconds.
    """
    try:
        match kind, value:
            case iceberg.BooleanType(), bool():
                return value
            case _, bool() | None:
                raise Inexpressible(value)
            case ((iceberg.IntegerType() | iceberg.LongType()), int()):
                return value
            case ((iceberg.FloatType() | iceberg.DoubleType()), (int() | float() | str())):
                return float(value)
            case iceberg.StringType(), str():
                return value
            case iceberg.DecimalType(), (str() | int()) if Decimal(value).is_finite():
                return Decimal(value)
            case ((iceberg.UUIDType() | iceberg.BinaryType() | iceberg.FixedType()), str()):
                return conversions.from_json(kind, value)
            case (
                (iceberg.DateType() | iceberg.TimeType() | iceberg.TimestampType() | iceberg.TimestamptzType()),
                (str() | int()),
            ):
                return conversions.from_json(kind, value)
    except (TypeError, ValueError, ArithmeticError):
        pass
    raise Inexpressible(value)
