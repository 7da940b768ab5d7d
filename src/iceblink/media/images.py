"""Images: bytes of any common format become tensors of one shape, and tensors become bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from io import BytesIO
from math import prod
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.types as pt

from iceblink.errors import ConfigError, TypeMismatch
from iceblink.interop import optional
from iceblink.media.column import each, found, is_encoded, parts, with_column, with_values
from iceblink.types import show_type

Mode = Literal["RGB", "L", "RGBA"]
Format = Literal["PNG", "JPEG", "WEBP"]
CHANNELS = {"L": (), "RGB": (3,), "RGBA": (4,)}


@dataclass(frozen=True)
class Decode:
    """Bytes to pixels: a ``tensor<uint8>[height, width, 3]`` for each image, upright and resized.

    JPEG, PNG, WebP, GIF (its first frame) and what else Pillow reads. Null stays null. Decoding runs outside Python's
    lock, so that threads are enough. A large JPEG is decoded at a half, a quarter or an eighth of its size when that
    suffices.

    Parameters
    ----------
    column : str
        Where the bytes are: binary, or structs with a field ``bytes``, as data sets of the Hugging Face hub have.
    size : (int, int)
        Height and width [pixels].
    mode : {"RGB", "L", "RGBA"}
        ``L`` is grey, and its shape is ``[height, width]``.
    crop : bool
        Whether to cut out the middle in the right proportions; else the image is stretched.
    to : str
        Name of the new column.
    keep : bool
        Whether the bytes stay.

    Raises
    ------
    ConfigError
        A size or mode that cannot be; Pillow is not installed.
    ColumnNotFound, DuplicateColumn, TypeMismatch
        Where `map_batches` is written: the column is not there or not binary, or `to` is taken.
    ValueError
        When it runs: bytes that are no image, an image cut short, or one of more than 8 bits a channel. ``on_error=``
        leaves such rows out.
    """

    column: str
    _: KW_ONLY
    size: tuple[int, int]
    mode: Mode = "RGB"
    crop: bool = False
    to: str = "image"
    keep: bool = False

    def __post_init__(self) -> None:
        optional("PIL.Image", "media")
        if len(self.size) != 2 or min(self.size) < 1:
            raise ConfigError(f"size is {self.size}", "images.Decode", "(height, width) in pixels")
        _one_of("mode", self.mode, get_args(Mode), "images.Decode")

    @property
    def type(self) -> pa.DataType:
        """Type of the new column."""
        return pa.fixed_shape_tensor(pa.uint8(), (*self.size, *CHANNELS[self.mode]))

    def output_schema(self, schema: pa.Schema) -> pa.Schema:
        """Return what comes of a dataset of `schema`."""
        field = found(schema, self.column, is_encoded, "binary", "images.Decode")
        made = pa.field(self.to, self.type, field.nullable)
        return with_column(schema, self.column, made, self.keep, "images.Decode")

    def __call__(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """Yield the rows with their images."""
        schema = self.output_schema(batch.schema)
        images = each(batch, self.column, self._pixels)
        for part, pixels in parts(batch, images, lambda image: 0 if image is None else image.nbytes):
            yield with_values(part, schema, **{self.to: _tensors(pixels, self.type)})

    def _pixels(self, data: pa.Buffer) -> Any:
        image_module, operations = optional("PIL.Image", "media"), optional("PIL.ImageOps", "media")
        height, width = self.size
        try:
            image = image_module.open(BytesIO(data))
        except optional("PIL", "media").UnidentifiedImageError:
            raise ValueError("the bytes are no image of a known format") from None
        with image:
            if image.mode[0] in "IF":
                raise ValueError(f"the image has more than 8 bits a channel (mode {image.mode}), scale it first")
            image.draft(None, (max(self.size), max(self.size)))  # before it is turned upright: either side may be it
            operations.exif_transpose(image, in_place=True)
            plain = image.convert(self.mode)
        bilinear = image_module.Resampling.BILINEAR
        if self.crop:
            return np.asarray(operations.fit(plain, (width, height), bilinear))
        return np.asarray(plain.resize((width, height), bilinear, reducing_gap=2.0))


@dataclass(frozen=True)
class Encode:
    """Pixels to bytes: a tensor ``[height, width]``, ``[height, width, 3]`` or ``[..., 4]`` for each image.

    The numbers may be integers of any width, as Iceberg has none of 8 bits, and must be in 0 to 255.

    Parameters
    ----------
    column : str
        Where the tensors are.
    format : {"PNG", "JPEG", "WEBP"}
        PNG loses nothing; JPEG has no alpha channel.
    quality : int, optional
        Of JPEG and WebP, 1 to 100; Pillow's own by default.
    to : str
        Name of the new column.
    keep : bool
        Whether the tensors stay.

    Raises
    ------
    ConfigError
        A format or quality that cannot be; Pillow is not installed.
    ColumnNotFound, DuplicateColumn, TypeMismatch
        Where `map_batches` is written: the column is not there or holds no images, or `to` is taken.
    ValueError
        When it runs: a number that is not in 0 to 255.
    """

    column: str
    _: KW_ONLY
    format: Format = "PNG"
    quality: int | None = None
    to: str = "bytes"
    keep: bool = False

    def __post_init__(self) -> None:
        optional("PIL.Image", "media")
        _one_of("format", self.format, get_args(Format), "images.Encode")
        if self.quality is not None and (self.format == "PNG" or not 1 <= self.quality <= 100):
            raise ConfigError(f"quality is {self.quality}", "images.Encode", "1 to 100, of JPEG and WEBP")

    def output_schema(self, schema: pa.Schema) -> pa.Schema:
        """Return what comes of a dataset of `schema`."""
        field = found(schema, self.column, _are_images, "a tensor of integers [height, width, 3]", "images.Encode")
        if self.format == "JPEG" and tuple(field.type.shape[2:]) == CHANNELS["RGBA"]:
            what = f"column {self.column!r} is {show_type(field.type)}, and JPEG has no alpha channel"
            raise TypeMismatch(what, "images.Encode", "format='PNG' or 'WEBP'")
        made = pa.field(self.to, pa.binary(), field.nullable)
        return with_column(schema, self.column, made, self.keep, "images.Encode")

    def __call__(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """Yield the rows with their bytes."""
        schema = self.output_schema(batch.schema)
        for part, encoded in parts(batch, self._encoded(batch.column(self.column)), lambda data: len(data or b"")):
            yield with_values(part, schema, **{self.to: pa.array(encoded, pa.binary())})

    def _encoded(self, tensors: pa.Array) -> Iterator[bytes | None]:
        image_module = optional("PIL.Image", "media")
        known = tensors.is_valid().to_pylist()
        flat = tensors.storage.flatten().to_numpy(zero_copy_only=False)  # of the rows that are not null
        images = iter(flat.reshape(sum(known), *tensors.type.shape))
        options = {} if self.quality is None else {"quality": self.quality}
        for row, there in enumerate(known):
            if not there:
                yield None
                continue
            pixels = next(images)
            if pixels.dtype != np.uint8 and not (pixels.min() >= 0 and pixels.max() <= 255):
                raise ValueError(f"column {self.column!r}, row {row:,} of this batch: a number is not in 0 to 255")
            data = BytesIO()
            image_module.fromarray(pixels.astype(np.uint8)).save(data, self.format, **options)
            yield data.getvalue()


def _are_images(dtype: pa.DataType) -> bool:
    return (
        isinstance(dtype, pa.FixedShapeTensorType)
        and pt.is_integer(dtype.value_type)
        and dtype.permutation in (None, [*range(len(dtype.shape))])  # nothing is swapped
        and len(dtype.shape) in (2, 3)
        and tuple(dtype.shape[2:]) in CHANNELS.values()
    )


def _tensors(pixels: list[Any], dtype: pa.FixedShapeTensorType) -> pa.Array:
    blank = np.zeros(dtype.shape, np.uint8)
    flat = np.concatenate([(blank if image is None else image).reshape(-1) for image in pixels] or [blank[:0].ravel()])
    missing = pa.array([image is None for image in pixels], pa.bool_())
    storage = pa.FixedSizeListArray.from_arrays(pa.array(flat), prod(dtype.shape), mask=missing)
    return pa.ExtensionArray.from_storage(dtype, storage)


def _one_of(name: str, value: object, choices: tuple[str, ...], where: str) -> None:
    if value not in choices:
        raise ConfigError(f"no {name} {value!r}", where, f"one of {', '.join(choices)}")
