"""Ray Data, Dask, Delta and the Hugging Face hub, opened when first used: all are extras, and slow to import."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iceblink.interop import optional
from iceblink.late import Late

__all__ = [
    "dask_frames", "delta_tables", "hugging_face", "needs_dask", "needs_delta", "needs_hugging_face", "needs_ray",
    "ray_data",
]  # fmt: skip

if TYPE_CHECKING:
    import iceblink.neighbours.dask_frames as dask_frames
    import iceblink.neighbours.delta_tables as delta_tables
    import iceblink.neighbours.hugging_face as hugging_face
    import iceblink.neighbours.ray_data as ray_data
else:
    dask_frames = Late("iceblink.neighbours.dask_frames")
    delta_tables = Late("iceblink.neighbours.delta_tables")
    hugging_face = Late("iceblink.neighbours.hugging_face")
    ray_data = Late("iceblink.neighbours.ray_data")


def needs_ray() -> None:
    """Raise ConfigError where Ray Data is not installed."""
    optional("ray.data", extra="ray-data")


def needs_dask() -> None:
    """Raise ConfigError where Dask's data frames are not installed."""
    optional("dask.dataframe", extra="dask")


def needs_delta() -> None:
    """Raise ConfigError where the reader of Delta's logs is not installed."""
    optional("deltalake", extra="delta")


def needs_hugging_face() -> None:
    """Raise ConfigError where the client of the hub is not installed."""
    optional("huggingface_hub", extra="hf")
