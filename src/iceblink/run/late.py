"""What most statements do without, opened when first used: Arrow's datasets import pandas, Ray is an extra, and
no query compacts a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iceblink.late import Late

__all__ = ["analysis", "compaction", "feeding", "health", "procedures", "ray_engine", "training"]

if TYPE_CHECKING:
    import iceblink.run.analysis as analysis
    import iceblink.run.compaction as compaction
    import iceblink.run.feed as feeding
    import iceblink.run.health as health
    import iceblink.run.procedures as procedures
    import iceblink.run.ray.ray_engine as ray_engine
    import iceblink.run.training as training
else:
    analysis = Late("iceblink.run.analysis")
    compaction = Late("iceblink.run.compaction")
    feeding = Late("iceblink.run.feed")
    health = Late("iceblink.run.health")
    procedures = Late("iceblink.run.procedures")
    ray_engine = Late("iceblink.run.ray.ray_engine")
    training = Late("iceblink.run.training")
