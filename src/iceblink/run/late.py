"""What most statements do without, opened when first used: Arrow's datasets import pandas, Ray is an extra, and views
bring the models of the REST catalog."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iceblink.late import Late

__all__ = ["feeding", "ray_engine", "views"]

if TYPE_CHECKING:
    import iceblink.lake.views as views
    import iceblink.run.feed as feeding
    import iceblink.run.ray.ray_engine as ray_engine
else:
    views = Late("iceblink.lake.views")
    feeding = Late("iceblink.run.feed")
    ray_engine = Late("iceblink.run.ray.ray_engine")
