"""What Ray Data's own words do, done by iceblink: ``ib.ray.read_iceberg`` in the place of ``ray.data.read_iceberg``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from iceblink.dataset import Dataset
from iceblink.errors import ConfigError
from iceblink.lake.catalog import Catalog
from iceblink.lake.row_filters import sql_of
from iceblink.run.local_engine import LocalEngine
from iceblink.run.session import Session

__all__ = ["read_iceberg"]


def read_iceberg(
    *,
    table_identifier: str,
    row_filter: Any = None,
    parallelism: int = -1,
    selected_fields: Sequence[str] = ("*",),
    snapshot_id: int | None = None,
    scan_kwargs: Mapping[str, Any] | None = None,
    catalog_kwargs: Mapping[str, Any] | None = None,
    override_num_blocks: int | None = None,
    **options: Any,
) -> Any:
    """Return a table as a ``ray.data.Dataset``, in the words of ``ray.data.read_iceberg``.

    Lazy in data: manifests and footers are read here. What differs is below: read tasks are row groups that decode to
    about one size instead of whole files, equality deletes and deletion vectors apply, pages are verified, and a task
    uses one thread.

    Parameters
    ----------
    table_identifier : str
        ``namespace.table``.
    row_filter : str or pyiceberg BooleanExpression, optional
        Rows to keep, by SQL's rules. ``.filter(expr=...)`` of the dataset prunes as well.
    selected_fields : sequence of str
    snapshot_id : int, optional
        Default: the current one.
    scan_kwargs : mapping, optional
        Of PyIceberg's ``Table.scan``: ``limit`` is refused, for it would be one for each task; ``case_sensitive`` and
        ``options`` change nothing.
    catalog_kwargs : mapping, optional
        What PyIceberg's ``load_catalog`` takes: ``name`` and properties.
    override_num_blocks, parallelism : int, optional
        Read tasks.
    **options
        Others of ``ray.data.read_datasource``: ``num_cpus``, ``memory``, ``concurrency``, ``ray_remote_args``...

    Raises
    ------
    ConfigError, TableNotFound, SnapshotNotFound, ColumnNotFound, PlanError
    """
    if (scan_kwargs or {}).get("limit") is not None:
        raise ConfigError("a limit of each read task is not one of the dataset", "read_iceberg", "use .limit(n)")
    if options.get("catalog") is not None:
        raise ConfigError("a catalog of Ray is not known here", "read_iceberg", "say it as catalog_kwargs=")
    session = Session(Catalog.of(**(catalog_kwargs or {})), LocalEngine())
    dataset = Dataset(session.table(table_identifier, snapshot=snapshot_id), session)
    if row_filter is not None:
        dataset = dataset.sql(f"SELECT * FROM this WHERE {sql_of(row_filter)}")
    if tuple(selected_fields) != ("*",):
        dataset = dataset.select(*selected_fields)
    tasks = override_num_blocks or (parallelism if parallelism > 0 else None)
    return dataset.to_ray(tasks, **{name: value for name, value in options.items() if name != "catalog"})
