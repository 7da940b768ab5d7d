"""Images decoded, resized and encoded: shapes, nulls, damage, and the way through a dataset and a table."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from iceblink.errors import ColumnNotFound, ConfigError, DuplicateColumn, FunctionError, TypeMismatch
from iceblink.lakehouse import Lake, connect
from iceblink.media import audio, files, images
from iceblink.media.column import PART_BYTES


def encoded(pixels: Any, kind: str = "PNG", **options: Any) -> bytes:
    data = BytesIO()
    Image.fromarray(pixels).save(data, kind, **options)
    return data.getvalue()


def picture(height: int = 6, width: int = 4, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def batch_of(values: list[Any], dtype: pa.DataType | None = None) -> pa.RecordBatch:
    return pa.record_batch({"id": list(range(len(values))), "bytes": pa.array(values, dtype or pa.binary())})


def one(batches: Iterable[pa.RecordBatch]) -> pa.RecordBatch:
    (batch,) = batches
    return batch


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return connect(str(tmp_path / "lake"))


@given(
    st.sampled_from([(), (3,), (4,)]).flatmap(
        lambda channels: st.lists(st.none() | hnp.arrays(np.uint8, (5, 7, *channels)), max_size=4).map(
            lambda pictures: (channels, pictures)
        )
    )
)
def test_what_is_encoded_without_loss_is_decoded_to_the_same_pixels(drawn: tuple[tuple[int, ...], list[Any]]) -> None:
    channels, pictures = drawn
    dtype = pa.fixed_shape_tensor(pa.uint8(), (5, 7, *channels))
    flat = pa.array([None if p is None else p.reshape(-1) for p in pictures], dtype.storage_type)
    batch = pa.record_batch({"image": pa.ExtensionArray.from_storage(dtype, flat)})
    mode: Any = {(): "L", (3,): "RGB", (4,): "RGBA"}[channels]
    decode = images.Decode("bytes", size=(5, 7), mode=mode)
    assert one(decode(one(images.Encode("image")(batch)))).equals(batch)


def test_an_image_is_resized_to_height_and_width() -> None:
    pixels = one(images.Decode("bytes", size=(2, 8))(batch_of([encoded(picture(64, 32))])))["image"]
    assert pixels.type == pa.fixed_shape_tensor(pa.uint8(), (2, 8, 3))
    assert pixels.to_numpy_ndarray().shape == (1, 2, 8, 3)


def test_cropping_keeps_the_proportions_and_cuts_the_sides_off() -> None:
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 200  # the middle third, which is a square
    cut = one(images.Decode("bytes", size=(10, 10), crop=True)(batch_of([encoded(wide)])))["image"]
    assert (cut.to_numpy_ndarray() == 200).all()


def test_an_image_that_says_it_lies_on_its_side_is_turned_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    lying = np.zeros((8, 8, 3), np.uint8)
    lying[:4] = 255  # bright above: on the right when turned
    data = encoded(lying, "JPEG", exif=exif, quality=95)
    upright = one(images.Decode("bytes", size=(8, 8))(batch_of([data])))["image"].to_numpy_ndarray()[0]
    assert upright[:, 5:].min() > 200
    assert upright[:, :3].max() < 50


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_common_formats_are_read(kind: str) -> None:
    grey = np.full((20, 20, 3), 128, np.uint8)
    pixels = one(images.Decode("bytes", size=(4, 4))(batch_of([encoded(grey, kind)])))["image"].to_numpy_ndarray()
    assert abs(pixels.astype(int) - 128).max() <= 2


@pytest.mark.parametrize("dtype", [pa.binary(), pa.large_binary(), pa.binary_view()])
def test_null_stays_null_in_any_layout_of_bytes(dtype: pa.DataType) -> None:
    column = one(images.Decode("bytes", size=(6, 4))(batch_of([None, encoded(picture()), None], dtype)))["image"]
    assert column.is_valid().to_pylist() == [False, True, False]
    assert (column.storage.flatten().to_numpy() == picture().reshape(-1)).all()


def test_an_empty_batch_gives_an_empty_batch_of_the_promised_schema() -> None:
    decode, empty = images.Decode("bytes", size=(6, 4)), batch_of([])
    assert one(decode(empty)).schema == decode.output_schema(empty.schema)
    encode, none = images.Encode("image"), one(decode(empty))
    assert one(encode(none)).schema == encode.output_schema(none.schema)


def test_a_long_batch_goes_on_in_parts() -> None:
    side = 1024
    data = encoded(np.zeros((2, 2, 3), np.uint8))
    rows = PART_BYTES // (side * side * 3) + 3
    made = list(images.Decode("bytes", size=(side, side))(batch_of([data] * rows)))
    assert len(made) == 2
    assert [n for batch in made for n in batch["id"].to_pylist()] == list(range(rows))


def test_kept_bytes_stay_and_a_block_may_replace_its_own_column() -> None:
    schema = batch_of([]).schema
    assert images.Decode("bytes", size=(1, 1), keep=True).output_schema(schema).names == ["id", "bytes", "image"]
    assert images.Decode("bytes", size=(1, 1), to="bytes").output_schema(schema).names == ["id", "bytes"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"not an image", "no image of a known format"),
        (b"", "no image of a known format"),
        (encoded(picture(50, 50))[:600], "truncated"),
        (encoded(np.zeros((4, 4), np.uint16)), "more than 8 bits"),
    ],
)
def test_what_cannot_be_read_names_its_row_and_the_reason(data: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=rf"column 'bytes', row 1 of this batch: .*{reason}"):
        list(images.Decode("bytes", size=(6, 4))(batch_of([encoded(picture()), data])))


def test_a_mistake_is_found_where_it_is_written(lake: Lake) -> None:
    rows = lake.from_arrow(pa.table({"id": [1], "bytes": [b""], "image": ["taken"]}))
    with pytest.raises(ColumnNotFound, match="did you mean 'bytes'"):
        rows.map_batches(images.Decode("byte", size=(6, 4)))
    with pytest.raises(TypeMismatch, match="column 'id' is long, not binary"):
        rows.map_batches(images.Decode("id", size=(6, 4)))
    with pytest.raises(DuplicateColumn, match="'image'"):
        rows.map_batches(images.Decode("bytes", size=(6, 4)))
    with pytest.raises(TypeMismatch, match="tensor"):
        rows.map_batches(images.Encode("id"))
    with pytest.raises(ConfigError, match="size"):
        images.Decode("bytes", size=(0, 4))
    with pytest.raises(ConfigError, match="mode"):
        images.Decode("bytes", size=(1, 4), mode="CMYK")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="quality"):
        images.Encode("image", quality=5)


@pytest.mark.parametrize(
    ("package", "make"),
    [
        ("PIL.Image", lambda: images.Encode("image")),
        ("soxr", lambda: audio.Decode("bytes", rate=8000)),
        ("urllib3", lambda: files.Download("place")),
    ],
)
def test_a_package_that_is_not_installed_is_named_with_its_extra(
    package: str, make: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=package) as caught:
        make()
    assert "iceblink[media]" in caught.value.hint


def test_jpeg_refuses_an_alpha_channel_before_anything_runs() -> None:
    schema = pa.schema({"image": pa.fixed_shape_tensor(pa.uint8(), (2, 2, 4))})
    assert images.Encode("image", format="WEBP").output_schema(schema).names == ["bytes"]
    with pytest.raises(TypeMismatch, match="alpha"):
        images.Encode("image", format="JPEG").output_schema(schema)


@pytest.mark.parametrize("processes", [False, True])
def test_damaged_images_are_isolated_and_the_others_come_through(lake: Lake, processes: bool) -> None:
    data = [encoded(picture(seed=n)) for n in range(20)]
    data[7] = data[7][:60]
    rows = lake.from_arrow(pa.table({"id": list(range(20)), "bytes": data}))
    decode = images.Decode("bytes", size=(6, 4))
    pixels = rows.map_batches(decode, batch_size=8, workers=2, processes=processes, on_error="skip").to_arrow()
    assert pixels["id"].to_pylist() == [n for n in range(20) if n != 7]
    expected = np.stack([picture(seed=n) for n in range(20) if n != 7])
    assert (pixels["image"].combine_chunks().to_numpy_ndarray() == expected).all()
    with pytest.raises(FunctionError, match=r"row 7 of this batch"):
        rows.map_batches(decode, batch_size=8, processes=processes).count()


def test_images_go_through_a_table_and_back(lake: Lake) -> None:
    lake.write(
        "t.raw", {"id": [0, 1, 2], "bytes": [encoded(picture(seed=0)), None, encoded(picture(seed=2))]}, "create"
    )
    lake.table("t.raw").map_batches(images.Decode("bytes", size=(6, 4))).write("t.pixels", "create")
    pixels = lake.table("t.pixels")
    assert pixels.schema.field("image").type == pa.fixed_shape_tensor(pa.int32(), (6, 4, 3))  # Iceberg's smallest
    back = pixels.map_batches(images.Encode("image")).map_batches(images.Decode("bytes", size=(6, 4))).to_pylist()
    assert [row["image"] is None for row in back] == [False, True, False]
    assert (np.asarray(back[2]["image"]).reshape(6, 4, 3) == picture(seed=2)).all()


def test_a_number_that_is_no_pixel_is_refused() -> None:
    dtype = pa.fixed_shape_tensor(pa.int32(), (1, 2))
    tensors = pa.ExtensionArray.from_storage(dtype, pa.array([[0, 255], [0, 256]], dtype.storage_type))
    with pytest.raises(ValueError, match="row 1 of this batch"):
        list(images.Encode("image")(pa.record_batch({"image": tensors})))
