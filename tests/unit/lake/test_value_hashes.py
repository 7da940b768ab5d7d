"""Hashes of values are those of the bytes that Iceberg stores them as, whatever the type."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any
from uuid import UUID

import mmh3
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg import types as iceberg
from pyiceberg.conversions import to_bytes

from iceblink.lake.value_hashes import SEED, hashable, hashes

INT, LONG = st.integers(-(2**31), 2**31 - 1), st.integers(-(2**63), 2**63 - 1)
FLOAT = st.floats(width=32, allow_nan=False)


def decimals(digits: int, scale: int) -> st.SearchStrategy[Decimal]:
    return st.integers(1 - 10**digits, 10**digits - 1).map(lambda unscaled: Decimal(unscaled).scaleb(-scale))


KINDS: list[tuple[pa.DataType, Any, Any]] = [
    (pa.bool_(), iceberg.BooleanType(), st.booleans()),
    (pa.int32(), iceberg.IntegerType(), INT),
    (pa.int64(), iceberg.LongType(), LONG),
    (pa.float32(), iceberg.FloatType(), FLOAT),
    (pa.float64(), iceberg.DoubleType(), st.floats(allow_nan=False)),
    (pa.date32(), iceberg.DateType(), st.dates()),
    (pa.time64("us"), iceberg.TimeType(), st.times()),
    (pa.timestamp("us"), iceberg.TimestampType(), st.datetimes()),
    (pa.timestamp("us", "UTC"), iceberg.TimestamptzType(), st.datetimes(timezones=st.just(dt.UTC))),
    (pa.string(), iceberg.StringType(), st.text()),
    (pa.large_string(), iceberg.StringType(), st.text()),
    (pa.binary(), iceberg.BinaryType(), st.binary()),
    (pa.binary(3), iceberg.FixedType(3), st.binary(min_size=3, max_size=3)),
    (pa.uuid(), iceberg.UUIDType(), st.uuids()),
    *((pa.decimal128(*of), iceberg.DecimalType(*of), decimals(*of)) for of in ((9, 2), (18, 0), (19, 3), (28, 10))),
]


def expected(kind: Any, values: list[Any]) -> set[int]:
    """Hash as the specification has it, one value after the other."""
    stored = (to_bytes(kind, value.bytes if isinstance(value, UUID) else value) for value in values)
    return {mmh3.hash64(one, SEED, x64arch=True, signed=False)[0] >> 1 for one in stored if one}


@pytest.mark.parametrize(("dtype", "kind", "values"), KINDS, ids=[str(kind) for kind, _, _ in KINDS])
def test_values_hash_as_their_bytes_do(dtype: pa.DataType, kind: Any, values: Any) -> None:
    @settings(max_examples=15)
    @given(st.lists(st.none() | values, max_size=8), st.integers(0, 3))
    def hashed(found: list[Any], skipped: int) -> None:
        given_to = [value.bytes if isinstance(value, UUID) else value for value in found]
        array = pa.array(given_to, dtype.storage_type if isinstance(dtype, pa.UuidType) else dtype)
        if isinstance(dtype, pa.UuidType):
            array = pa.ExtensionArray.from_storage(dtype, array)
        there = [value for value in found[skipped:] if value is not None]
        assert set(hashes(array.slice(skipped)).tolist()) == expected(kind, there)

    assert hashable(dtype)
    hashed()


@pytest.mark.parametrize("power", [*range(6, 66, 8), 63, 64, 71, 126])
@pytest.mark.parametrize("off", [-1, 0, 1])
@pytest.mark.parametrize("sign", [-1, 1])
def test_decimals_at_the_edge_of_a_byte_have_as_few_bytes_as_hold_them(power: int, off: int, sign: int) -> None:
    value = Decimal(sign * (2**power + off))
    found = hashes(pa.array([value], pa.decimal128(38)))
    assert set(found.tolist()) == expected(iceberg.DecimalType(38, 0), [value])


@pytest.mark.parametrize(
    "dtype", [pa.list_(pa.int32()), pa.struct([("a", pa.int32())]), pa.map_(pa.int32(), pa.int32())]
)
def test_nested_values_have_no_hash(dtype: pa.DataType) -> None:
    assert not hashable(dtype)
    assert not hashable(pa.fixed_shape_tensor(pa.float32(), (2,)))
