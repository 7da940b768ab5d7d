"""Parts of SciPy that take long to import, opened when first used: a fit needs no distribution, its summary does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iceblink.late import Late

__all__ = ["interpolate", "optimize", "stats"]

if TYPE_CHECKING:
    from scipy import interpolate, optimize, stats
else:
    interpolate = Late("scipy.interpolate")
    optimize = Late("scipy.optimize")
    stats = Late("scipy.stats")
