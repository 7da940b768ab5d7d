"""The parts of PyIceberg that bring much along, opened when first used: a local lake is read without them.

Its Arrow file systems import pandas, its SQL catalog SQLAlchemy; ours of HDFS, HTTP, S3 and Hive import their clients,
and views the models of the REST catalog.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from iceblink.late import Late

__all__ = [
    "hdfs_files",
    "hive_metastore",
    "http_files",
    "iceberg_arrow",
    "iceberg_rest",
    "iceberg_sql",
    "s3_objects",
    "sqlalchemy",
    "views",
]

if TYPE_CHECKING:
    import pyiceberg.catalog.rest as iceberg_rest
    import pyiceberg.catalog.sql as iceberg_sql
    import pyiceberg.io.pyarrow as iceberg_arrow
    import sqlalchemy

    from iceblink.lake import hdfs_files, hive_metastore, http_files, s3_objects, views
else:
    hdfs_files = Late("iceblink.lake.hdfs_files")
    hive_metastore = Late("iceblink.lake.hive_metastore")
    http_files = Late("iceblink.lake.http_files")
    iceberg_arrow = Late("pyiceberg.io.pyarrow")
    iceberg_rest = Late("pyiceberg.catalog.rest")
    iceberg_sql = Late("pyiceberg.catalog.sql")
    s3_objects = Late("iceblink.lake.s3_objects")
    sqlalchemy = Late("sqlalchemy")
    views = Late("iceblink.lake.views")
