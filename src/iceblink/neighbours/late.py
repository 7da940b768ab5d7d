"""Ray Data and Dask, opened when first used: both are extras, and slow to import."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iceblink.interop import optional
from iceblink.late import Late

__all__ = ["dask_frames", "needs_dask", "needs_ray", "ray_data"]

if TYPE_CHECKING:
    import iceblink.neighbours.dask_frames as dask_frames
    import iceblink.neighbours.ray_data as ray_data
else:
    dask_frames = Late("iceblink.neighbours.dask_frames")
    ray_data = Late("iceblink.neighbours.ray_data")


def needs_ray() -> None:
    """Raise ConfigError where Ray Data is not installed."""
    optional("ray.data", extra="ray-data")


def needs_dask() -> None:
    """Raise ConfigError where Dask's data frames are not installed."""
    optional("dask.dataframe", extra="dask")
