"""Audio decoded: one channel, one rate, all of it or a fixed length."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from iceblink.errors import ConfigError, TypeMismatch
from iceblink.lakehouse import connect
from iceblink.media import audio


def recorded(samples: Any, rate: int = 8000, kind: str = "WAV", subtype: str | None = "FLOAT") -> bytes:
    data = BytesIO()
    soundfile.write(data, samples, rate, subtype, format=kind)
    return data.getvalue()


def batch_of(values: Sequence[bytes | None]) -> pa.RecordBatch:
    return pa.record_batch({"id": list(range(len(values))), "bytes": pa.array(values, pa.binary())})


def decoded(decode: audio.Decode, values: Sequence[bytes | None]) -> pa.Array:
    (batch,) = decode(batch_of(values))
    assert batch.schema == decode.output_schema(batch_of(values).schema)
    return batch[decode.to]


@given(hnp.arrays(np.float32, st.integers(1, 300), elements=st.floats(-1, 1, width=32)))
def test_samples_of_one_rate_come_back_as_they_were(samples: Any) -> None:
    (sound,) = decoded(audio.Decode("bytes", rate=8000), [recorded(samples)])
    assert sound.as_py() == samples.tolist()


@given(st.integers(1, 300))
def test_a_fixed_length_cuts_or_fills_with_silence(frames: int) -> None:
    column = decoded(audio.Decode("bytes", rate=8000, seconds=0.0125), [recorded(np.full(frames, 0.5)), None])
    assert column.type == pa.fixed_shape_tensor(pa.float32(), (100,))
    sound, nothing = column.storage.to_pylist()
    assert sound == [0.5] * min(frames, 100) + [0.0] * max(0, 100 - frames)
    assert nothing is None


def test_channels_are_mixed_and_another_rate_is_resampled() -> None:
    seconds = np.arange(44_100) / 44_100
    wave = np.sin(2 * np.pi * 440 * seconds)
    data = recorded(np.stack([wave, np.zeros_like(wave)], axis=1), 44_100, "FLAC", None)
    sound = np.array(decoded(audio.Decode("bytes", rate=16_000), [data])[0].as_py())
    expected = np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000) / 2
    assert len(sound) == 16_000
    assert np.abs(sound - expected)[200:-200].max() < 0.01  # a filter rings at both ends


def test_null_stays_null_and_an_empty_batch_is_empty() -> None:
    assert decoded(audio.Decode("bytes", rate=8000), [None]).to_pylist() == [None]
    assert len(decoded(audio.Decode("bytes", rate=8000, seconds=1), [])) == 0


@pytest.mark.parametrize("data", [b"", b"RIFFnot audio at all"])
def test_what_is_no_audio_names_its_row_and_can_be_skipped(data: bytes) -> None:
    values = [recorded(np.zeros(5)), data]
    with pytest.raises(ValueError, match="column 'bytes', row 1 of this batch"):
        list(audio.Decode("bytes", rate=8000)(batch_of(values)))


def test_a_dataset_skips_what_is_no_audio(tmp_path: Any) -> None:
    data = batch_of([recorded(np.zeros(5)), b"noise", None])
    rows = connect(str(tmp_path)).from_arrow(pa.Table.from_batches([data]))
    sounds = rows.map_batches(audio.Decode("bytes", rate=8000), on_error="skip")
    assert sounds.to_pylist() == [{"id": 0, "audio": [0.0] * 5}, {"id": 2, "audio": None}]
    with pytest.raises(TypeMismatch, match="not binary"):
        rows.map_batches(audio.Decode("id", rate=8000))


@pytest.mark.parametrize("wrong", [{"rate": 0}, {"rate": 8000, "seconds": 0.00001}])
def test_a_rate_or_length_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        audio.Decode("bytes", **wrong)
