"""What most statements do without, opened when first used: Arrow's datasets import pandas, and Ray is an extra."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iceblink.late import Late

__all__ = ["feeding", "ray_engine"]

if TYPE_CHECKING:
    import iceblink.run.feed as feeding
    import iceblink.run.ray.ray_engine as ray_engine
else:
    feeding = Late("iceblink.run.feed")
    ray_engine = Late("iceblink.run.ray.ray_engine")
