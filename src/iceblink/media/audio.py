"""Audio: bytes of WAV, FLAC, Ogg or MP3 become samples of one rate."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from io import BytesIO
from typing import Any

import numpy as np
import pyarrow as pa

from iceblink.errors import ConfigError
from iceblink.interop import optional
from iceblink.media.column import each, found, is_encoded, parts, with_column, with_values


@dataclass(frozen=True)
class Decode:
    """Bytes to samples: 32-bit floats in [-1, 1], one channel (the mean of several), at one rate.

    Null stays null.

    Parameters
    ----------
    column : str
        Where the bytes are: binary, or structs with a field ``bytes``, as data sets of the Hugging Face hub have.
    rate : int
        Samples a second; audio of another rate is resampled [Hz].
    seconds : float, optional
        Cut or filled with silence to this length: the column is then a ``tensor<float>[seconds * rate]``, which models
        take as it is. Default: all of it, a ``list<float>`` [s].
    to : str
        Name of the new column.
    keep : bool
        Whether the bytes stay.

    Raises
    ------
    ConfigError
        A rate or length that cannot be; soundfile or soxr is not installed.
    ColumnNotFound, DuplicateColumn, TypeMismatch
        Where `map_batches` is written: the column is not there or not binary, or `to` is taken.
    ValueError
        When it runs: bytes that are no audio. ``on_error=`` leaves such rows out.
    """

    column: str
    _: KW_ONLY
    rate: int
    seconds: float | None = None
    to: str = "audio"
    keep: bool = False

    def __post_init__(self) -> None:
        optional("soundfile", "media")
        optional("soxr", "media")
        if self.rate < 1:
            raise ConfigError(f"rate is {self.rate}", "audio.Decode", "samples a second, 16000 for example")
        if self.seconds is not None and self.seconds * self.rate < 1:
            raise ConfigError(f"seconds is {self.seconds}", "audio.Decode", "long enough for one sample, or None")

    @property
    def type(self) -> pa.DataType:
        """Type of the new column."""
        if self.seconds is None:
            return pa.list_(pa.field("element", pa.float32()))
        return pa.fixed_shape_tensor(pa.float32(), (round(self.seconds * self.rate),))

    def output_schema(self, schema: pa.Schema) -> pa.Schema:
        """Return what comes of a dataset of `schema`."""
        field = found(schema, self.column, is_encoded, "binary", "audio.Decode")
        made = pa.field(self.to, self.type, field.nullable)
        return with_column(schema, self.column, made, self.keep, "audio.Decode")

    def __call__(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """Yield the rows with their samples."""
        schema = self.output_schema(batch.schema)
        sounds = each(batch, self.column, self._samples)
        for part, samples in parts(batch, sounds, lambda sound: 0 if sound is None else sound.nbytes):
            yield with_values(part, schema, **{self.to: self._array(samples)})

    def _samples(self, data: pa.Buffer) -> Any:
        soundfile, soxr = optional("soundfile", "media"), optional("soxr", "media")
        with soundfile.SoundFile(BytesIO(data)) as file:
            frames = -1 if self.seconds is None else math.ceil(self.seconds * file.samplerate)
            sound = file.read(frames, dtype="float32", always_2d=True).mean(axis=1)
            if file.samplerate != self.rate:
                sound = soxr.resample(sound, file.samplerate, self.rate)
        if self.seconds is None:
            return sound
        clip = np.zeros(self.type.shape, np.float32)
        clip[: len(sound)] = sound[: len(clip)]
        return clip

    def _array(self, samples: list[Any]) -> pa.Array:
        if self.seconds is None:
            return pa.array(samples, self.type)
        return pa.ExtensionArray.from_storage(self.type, pa.array(samples, self.type.storage_type))
