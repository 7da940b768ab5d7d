"""What goes by buffers is what PyArrow's own ways give."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest

from iceblink.buffers import arrow_of, data_of, list_of, numpy_of, texts_of, valid_of

NUMBERS = (pa.int8(), pa.uint16(), pa.int32(), pa.int64(), pa.uint64(), pa.float16(), pa.float32(), pa.float64())


@pytest.mark.parametrize("kind", NUMBERS, ids=str)
@pytest.mark.parametrize("values", [[], [1, 2, 3, 4, 5, 6, 7, 8, 9], [None, 1, 2, None, 4, 5, 6, 7, 8, None], [None]])
def test_numbers_come_out_as_pyarrow_gives_them(kind: pa.DataType, values: list[int | None]) -> None:
    whole = pa.array(values, pa.float64()).cast(kind)
    for array in (whole, whole[1:], whole[2:7], pa.chunked_array([whole, whole[1:]])):
        expected = array.to_numpy(zero_copy_only=False) if isinstance(array, pa.Array) else array.to_numpy()
        found = numpy_of(array)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("values", [[], [True, False] * 9, [True, None, False] * 5])
def test_flags_come_out_as_pyarrow_gives_them(values: list[bool | None]) -> None:
    whole = pa.array(values, pa.bool_())
    for array in (whole, whole[3:], whole[1:12]):
        np.testing.assert_array_equal(numpy_of(array), array.to_numpy(zero_copy_only=False))
        valid = array.is_valid().to_numpy(zero_copy_only=False)
        np.testing.assert_array_equal(valid_of(array), valid)
        plain = array.fill_null(False).to_numpy(zero_copy_only=False)
        np.testing.assert_array_equal(data_of(array)[valid], plain[valid])


def test_what_is_no_number_comes_as_pyarrow_gives_it() -> None:
    days = pa.array([1, None, 3], pa.int32()).cast(pa.date32())
    np.testing.assert_array_equal(numpy_of(days), days.to_numpy(zero_copy_only=False))


@pytest.mark.parametrize("dtype", ["i1", "u4", "i8", "u8", "f4", "f8"])
def test_numbers_go_in_as_pyarrow_takes_them(dtype: str) -> None:
    values = np.arange(12, dtype=dtype)
    for part in (values, values[::2], values[:0]):
        found = arrow_of(part)
        found.validate(full=True)
        assert found.equals(pa.array(part))
    assert math.isnan(arrow_of(np.array([math.nan])).to_pylist()[0])


def test_texts_and_lists_go_in() -> None:
    texts = texts_of(["", "ab", "ü", "日本"])
    texts.validate(full=True)
    assert texts.equals(pa.array(["", "ab", "ü", "日本"]))
    assert texts_of([]).equals(pa.array([], pa.string()))
    assert list_of(texts).to_pylist() == [["", "ab", "ü", "日本"]]
    assert list_of(arrow_of(np.zeros(0))).to_pylist() == [[]]


def test_validity_of_a_slice_is_its_own_whatever_lies_before_it() -> None:
    whole = pa.array([None if place % 3 == 0 else place for place in range(40)])
    for start in range(40):
        assert valid_of(whole[start : start + 9]).tolist() == whole[start : start + 9].is_valid().to_pylist()


@pytest.mark.parametrize("values", [np.zeros(3, np.bool_), np.zeros(3, ">f8"), np.array(["a"])])
def test_what_has_another_layout_is_refused(values: np.ndarray) -> None:
    with pytest.raises(TypeError, match="neither"):
        arrow_of(values)
