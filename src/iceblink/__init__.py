"""One typed, lazy dataset over an Iceberg lakehouse.

>>> import iceblink as ib
>>> from iceblink import _
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from iceblink import media as media
    from iceblink import ray as ray
    from iceblink.dataset import Dataset as Dataset
    from iceblink.errors import IceblinkError as IceblinkError
    from iceblink.lakehouse import Lake as Lake
    from iceblink.lakehouse import connect as connect
    from iceblink.load.cache.disk import Cache as Cache
    from iceblink.load.sequences import Bucket as Bucket
    from iceblink.load.sequences import Pack as Pack
    from iceblink.mixed import mix as mix
    from iceblink.plan.clauses import when_matched as when_matched
    from iceblink.plan.clauses import when_not_matched as when_not_matched
    from iceblink.plan.clauses import when_not_matched_by_source as when_not_matched_by_source
    from iceblink.plan.function import pure_python as pure_python
    from iceblink.plan.row import row as _
    from iceblink.run.local_engine import LocalEngine as LocalEngine
    from iceblink.run.ray.ray_engine import RayEngine as RayEngine
    from iceblink.watch.watching import watching as watching

__version__ = "0.1.0.dev0"

# Heavy parts (PyIceberg, Ibis, DuckDB: over a second together) are imported when a name is first used.
_HOMES = {
    "connect": ("iceblink.lakehouse", "connect"),
    "Lake": ("iceblink.lakehouse", "Lake"),
    "Dataset": ("iceblink.dataset", "Dataset"),
    "LocalEngine": ("iceblink.run.local_engine", "LocalEngine"),
    "RayEngine": ("iceblink.run.ray.ray_engine", "RayEngine"),
    "Cache": ("iceblink.load.cache.disk", "Cache"),
    "Pack": ("iceblink.load.sequences", "Pack"),
    "Bucket": ("iceblink.load.sequences", "Bucket"),
    "mix": ("iceblink.mixed", "mix"),
    "IceblinkError": ("iceblink.errors", "IceblinkError"),
    "_": ("iceblink.plan.row", "row"),
    "pure_python": ("iceblink.plan.function", "pure_python"),
    "when_matched": ("iceblink.plan.clauses", "when_matched"),
    "when_not_matched": ("iceblink.plan.clauses", "when_not_matched"),
    "when_not_matched_by_source": ("iceblink.plan.clauses", "when_not_matched_by_source"),
    "media": ("iceblink.media", ""),
    "ray": ("iceblink.ray", ""),
    "watching": ("iceblink.watch.watching", "watching"),
}

__all__ = [
    "connect",
    "Lake",
    "Dataset",
    "LocalEngine",
    "RayEngine",
    "Cache",
    "Pack",
    "Bucket",
    "mix",
    "IceblinkError",
    "_",
    "pure_python",
    "when_matched",
    "when_not_matched",
    "when_not_matched_by_source",
    "media",
    "ray",
    "watching",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'iceblink' has no attribute {name!r}")
    home, attribute = _HOMES[name]
    module = importlib.import_module(home)
    return getattr(module, attribute) if attribute else module


def __dir__() -> list[str]:
    return sorted(__all__)
