"""SciPy and networkx, opened when first used: effects of moments need neither, and a fit no distribution.

Importing any part of SciPy takes about as long as a fit of 100,000 rows. The `distributions` are written with its
special functions, so that no summary waits for ``scipy.stats``, which takes four times as long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from iceblink.late import Late

__all__ = ["interpolate", "linalg", "nx", "optimize", "special"]

if TYPE_CHECKING:
    import networkx as nx
    from scipy import interpolate, linalg, optimize, special
else:
    nx = Late("networkx")
    interpolate = Late("scipy.interpolate")
    linalg = Late("scipy.linalg")
    optimize = Late("scipy.optimize")
    special = Late("scipy.special")
