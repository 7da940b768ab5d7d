"""What a key decides, it decides alone, evenly, and whatever type holds it."""

from __future__ import annotations

import datetime
import decimal
import uuid

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from iceblink.causal.hashing import below, hashed, poisson, uniform
from iceblink.errors import TypeMismatch

FIXED = [934_723, 143_932, 103_711]
KEYS = {
    "numbers": pa.array([*range(5_000), None]),
    "texts": pa.array([*("ä" * (n % 23) + str(n) for n in range(5_000)), None]),
    "bytes": pa.array([*(str(n).encode() for n in range(5_000)), None]),
    "dates": pa.array([*(datetime.date(2020, 1, 1) + datetime.timedelta(n) for n in range(5_000)), None]),
    "times": pa.array([*(datetime.datetime(2020, 1, 1) + datetime.timedelta(seconds=n) for n in range(5_000)), None]),
    "decimals": pa.array([*(decimal.Decimal(n) / 4 for n in range(5_000)), None], pa.decimal128(20, 2)),
    "uuids": pa.array([*(uuid.UUID(int=n).bytes for n in range(5_000)), None], pa.binary(16)).cast(pa.uuid()),
}


@pytest.mark.parametrize("key", KEYS.values(), ids=list(KEYS))
def test_a_key_decides_wherever_its_row_stands(key: pa.Array) -> None:
    whole = hashed([key], 7, "fold")
    assert len(np.unique(whole)) == len(key)
    mixed = np.random.default_rng(0).permutation(len(key))
    np.testing.assert_array_equal(hashed([key.take(pa.array(mixed))], 7, "fold"), whole[mixed])
    np.testing.assert_array_equal(hashed([key[1_234:]], 7, "fold"), whole[1_234:])
    assert not (hashed([key], 8, "fold") == whole).any()
    assert not (hashed([key], 7, "bootstrap") == whole).any()
    if not isinstance(key.type, pa.UuidType):
        np.testing.assert_array_equal(hashed([key.dictionary_encode()], 7, "fold"), whole)


@pytest.mark.parametrize("key", KEYS.values(), ids=list(KEYS))
def test_draws_have_their_distribution(key: pa.Array) -> None:
    found = hashed([key], 1)
    assert stats.chisquare(np.bincount(below(found, 7), minlength=7)).pvalue > 1e-6
    assert stats.kstest(uniform(found), "uniform").pvalue > 1e-6
    counts = np.bincount(np.minimum(poisson(found), 4), minlength=5)
    chances = [*stats.poisson.pmf(range(4), 1), stats.poisson.sf(3, 1)]
    assert stats.chisquare(counts, np.array(chances) * len(key)).pvalue > 1e-6


@pytest.mark.parametrize(("kind", "values"), [(pa.int8(), 128), (pa.uint8(), 256)])
def test_a_full_dictionary_has_a_null_of_its_own(kind: pa.DataType, values: int) -> None:
    numbers = pa.array(range(values), pa.int64())
    key = pa.DictionaryArray.from_arrays(pa.array([0, None, values - 1], kind), numbers)
    np.testing.assert_array_equal(hashed([key], 7), hashed([pa.array([0, None, values - 1])], 7))


def test_keys_of_several_columns_are_not_their_joined_text() -> None:
    left, right = pa.array(["a", "ab", ""]), pa.array(["bc", "c", "abc"])
    assert len(np.unique(hashed([left, right], 0))) == 3


def test_hashes_never_change() -> None:
    found = hashed([pa.array([1, None, -5]), pa.array(["a", "longer than eight", None])], 42, "fold")
    assert [int(one) for one in below(found, 1_000_000)] == FIXED


def test_floats_are_no_keys() -> None:
    with pytest.raises(TypeMismatch):
        hashed([pa.array([1.5])], 0)
