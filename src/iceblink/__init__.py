"""One typed, lazy dataset over an Iceberg lakehouse.

>>> import iceblink as ib
>>> from iceblink import _
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from iceblink.late import late_names

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

if not TYPE_CHECKING:  # PyIceberg, Ibis and DuckDB take most of a second together: what needs them is imported late
    __getattr__, __dir__ = late_names(
        __name__,
        {
            "lakehouse": "connect, Lake",
            "dataset": "Dataset",
            "run.local_engine": "LocalEngine",
            "run.ray.ray_engine": "RayEngine",
            "load.cache.disk": "Cache",
            "load.sequences": "Bucket, Pack",
            "mixed": "mix",
            "errors": "IceblinkError",
            "plan.row": "row as _",
            "plan.function": "pure_python",
            "plan.clauses": "when_matched, when_not_matched, when_not_matched_by_source",
            "media": "",
            "ray": "",
            "watch.watching": "watching",
        },
    )

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
