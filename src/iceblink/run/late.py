"""What most statements do without, opened when first used: Arrow's datasets import pandas where it is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iceblink.late import Late

__all__ = ["feeding"]

if TYPE_CHECKING:
    import iceblink.run.feed as feeding
else:
    feeding = Late("iceblink.run.feed")
