"""Lake: a catalog of tables and an engine, opened by `connect`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import pyarrow as pa

from iceblink.altering import Altering
from iceblink.changing import Changing
from iceblink.dataset import Dataset
from iceblink.errors import ConfigError, PlanError, nearest
from iceblink.following import Following
from iceblink.importing import Importing, matching, partitioned
from iceblink.interop import to_arrow
from iceblink.lake.catalog import Catalog
from iceblink.lake.catalogs import Catalogs, opened
from iceblink.lake.format_version import check_types, version_asked
from iceblink.maintaining import Maintaining
from iceblink.neighbours.late import dask_frames, needs_dask, needs_ray, ray_data
from iceblink.plan.nodes import Memory, Plan, Query, Stream
from iceblink.plan.sql import file_query
from iceblink.run.late import ray_engine, training
from iceblink.run.local_engine import LocalEngine
from iceblink.run.once import Once
from iceblink.run.session import Session
from iceblink.run.statements import answer
from iceblink.types import to_schema
from iceblink.viewing import Viewing


def connect(
    path: str | Path | None = None,
    *,
    catalog: str | None = None,
    catalogs: Sequence[str] | Mapping[str, str | Path | Mapping[str, Any]] | None = None,
    engine: LocalEngine | Literal["local", "ray"] = "local",
    **properties: Any,
) -> Lake:
    """Open a lake.

    Parameters
    ----------
    path : str or Path, optional
        Folder of an embedded lake: SQLite catalog and Parquet files, created if absent. Default ``./lakehouse``. One
        that cannot be written is opened to be read.
    catalog : str, optional
        Name of a catalog in PyIceberg's own configuration.
    catalogs : sequence of str, or mapping of str to (str, Path or mapping), optional
        Further catalogs, whose tables are ``catalog.namespace.table``: names in PyIceberg's configuration, or names of
        your own and of each a folder or PyIceberg properties. Without any of the other ways, names that begin with no
        catalog are looked up in the first of them.
    engine : {"local", "ray"} or an engine
        Where work is done: in this process, or on Ray, on the cluster that ``RAY_ADDRESS`` names or one started here.
        ``ib.LocalEngine(...)`` and ``ib.RayEngine(...)`` have settings.
    **properties
        ``uri``, ``warehouse`` and other PyIceberg catalog properties: a catalog without configuration.

    Raises
    ------
    ConfigError
        More than one of the three ways, or an unknown engine.
    CatalogError
        The catalog cannot be opened.
    """
    if sum((path is not None, catalog is not None, bool(properties))) > 1:
        raise ConfigError("give one of a path, catalog= or catalog properties", "connect")
    further = {} if catalogs is None else opened(catalogs)
    if catalog is not None:
        found = Catalog.configured(catalog)
    elif properties:
        found = Catalog.of(**properties)
    elif path is not None or not further:
        found = Catalog.embedded(path or "lakehouse")
    else:
        found = next(iter(further.values()))
    if further:
        found = Catalogs(found, further)
    return Lake(Session(found, _engine(engine) if isinstance(engine, str) else engine))


def _engine(name: str) -> LocalEngine:
    if name == "ray":
        return ray_engine.RayEngine()
    if name != "local":
        raise ConfigError(f"no engine {name!r}", "connect", nearest(name, ("local", "ray"), "engines"))
    return LocalEngine()


class Lake(Altering, Changing, Following, Importing, Maintaining, Viewing):
    """Tables by name, SQL over them, and ways to make new ones; a context manager that frees the engine."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def namespaces(self) -> list[str]:
        """Return the namespaces."""
        return self.session.catalog.namespaces()

    def tables(self, namespace: str | None = None) -> list[str]:
        """Return the tables' full names, of one namespace or of all."""
        return self.session.catalog.tables(namespace)

    def create(
        self,
        name: str,
        schema: pa.Schema | Mapping[str, Any],
        *,
        partition_by: Sequence[str] = (),
        sort_by: Sequence[str] = (),
        properties: Mapping[str, str] | None = None,
    ) -> Dataset:
        """Create an empty table.

        Parameters
        ----------
        name : str
            ``namespace.table``; the namespace is made if absent.
        schema : Schema or mapping of name to type
            ``{"id": "long not null", "tags": "list<string>", "image": "tensor<float>[3,224,224]"}``.
        partition_by : sequence of str
            ``"region"``, ``"day(ts)"``, ``"bucket(16, id)"``, ``"truncate(4, code)"``, ``"year(ts)"``...
        sort_by : sequence of str
            ``"id"``, ``"-ts"``: rows are sorted inside files.
        properties : mapping of str to str
            Iceberg table properties.

        Raises
        ------
        TableExists, TypeMismatch, ColumnNotFound, ConfigError
        """
        wanted = to_schema(schema)
        if not isinstance(schema, pa.Schema):  # one of data may have what is stored in another form without a loss
            check_types(wanted, version_asked(properties or {}))
        self.session.catalog.create(name, wanted, partition_by, sort_by, properties or {})
        return self.table(name)

    def drop(self, name: str) -> None:
        """Drop a table and its files. Raises TableNotFound."""
        self.session.catalog.drop(name)

    def rename(self, old: str, new: str) -> Dataset:
        """Rename a table. Raises TableNotFound, TableExists."""
        self.session.catalog.rename(old, new)
        return self.table(new)

    def table(
        self,
        name: str,
        *,
        snapshot: int | None = None,
        as_of: Any = None,
        branch: str | None = None,
        tag: str | None = None,
        row_lineage: bool = False,
    ) -> Dataset:
        """Return a table, pinned to the version it has now or the one asked for.

        Parameters
        ----------
        name : str
            ``namespace.table``, or a metadata table such as ``namespace.table.snapshots``.
        snapshot : int, optional
            Snapshot id.
        as_of : datetime, ISO string or int [ms], optional
            The version current at that time.
        branch, tag : str, optional
        row_lineage : bool
            With two columns more, of a table of format version 3: ``_row_id``, which a row keeps for its life, and
            ``_last_updated_sequence_number``, of the commit that changed it last; both null in rows of before an
            upgrade until something is committed. SQL has them where it names them.

        Raises
        ------
        TableNotFound, SnapshotNotFound
        PlanError
            Its rows have no ids: an earlier format version, a view, or metadata.
        DuplicateColumn
            A column of the table has one of these two names.
        """
        version = {"snapshot": snapshot, "as_of": as_of, "branch": branch, "tag": tag}
        return self._dataset(self.session.table(name, **version, row_lineage=row_lineage))

    def optimize(
        self,
        name: str,
        *,
        for_: Literal["training"] = "training",
        embeddings: Mapping[str, int | tuple[int, ...]] | None = None,
        row_group_rows: int = 8192,
        codec: Literal["lz4", "zstd", "none"] = "lz4",
        seed: int = 0,
        shuffle: bool = True,
    ) -> Dataset:
        """Rewrite a table in one commit so that training reads it fast; its history stays.

        Eager, in bounded memory. Tensors are stored as bytes, Iceberg's ``fixed``, which cost a fraction of the CPU
        of lists to decode; rows are in a random order, so that neighbours make a fair batch. Datasets have tensors as
        before, other engines see bytes. Rows appended later are stored so too, in the order they come.

        Parameters
        ----------
        name : str
        for_ : {"training"}
        embeddings : mapping of str to int or tuple of int, optional
            Columns of lists that become tensors, and their shapes: ``{"emb": 384}``. A null stays null; what has
            another length, or nulls inside, is an error. Columns that are tensors already need not be named.
        row_group_rows : int
            Rows of a row group at most: what a reader decodes at once, a few thousand.
        codec : {"lz4", "zstd", "none"}
            Of the tensors; other columns keep the table's codec.
        seed : int
            Of the order, as in `Dataset.shuffle`.
        shuffle : bool
            Whether rows change places. A table with a sort order keeps it, and is not shuffled.

        Returns
        -------
        Dataset
            The table at the new snapshot, which has no parent: earlier ones are read by their ids.

        Raises
        ------
        TableNotFound, ColumnNotFound, TypeMismatch
        ConfigError
            A purpose, codec, shape or number that cannot be, or the table is sorted and is to be shuffled.
        SchemaMismatch, NullInRequired
            A list has another length than its column's shape; it has nulls inside.
        CommitConflict
            Others committed to the table meanwhile. Nothing was changed.
        """
        if for_ != "training":
            raise ConfigError(f"no layout for {for_!r}", "optimize", nearest(for_, ("training",), "layouts"))
        layout = training.TrainingLayout(dict(embeddings or {}), row_group_rows, codec, seed, shuffle)
        return self._dataset(training.laid_out(self.session, name, layout))

    def history(self, name: str) -> Dataset:
        """Return the snapshots of a table as rows, oldest first. Raises TableNotFound."""
        return self.from_arrow(self.session.catalog.load(name).history())

    def sql(self, text: str) -> Dataset:
        """Return a query over the tables of the lake; or run a statement, and return its outcome.

        Queries are lazy; names and types are checked here. They are DuckDB's SQL, with ``FOR VERSION AS OF`` (snapshot
        id, tag or branch), ``FOR TIMESTAMP AS OF`` and metadata tables (``ns.t.snapshots``).

        Statements run at once: ``CREATE``, ``DROP``, ``ALTER`` and ``TRUNCATE TABLE``, ``CREATE`` and ``DROP VIEW`` and
        ``SCHEMA``, ``INSERT INTO`` and ``OVERWRITE``, ``DELETE``, ``UPDATE``, ``MERGE``, ``USE``, ``DESCRIBE``,
        ``SHOW``, ``EXPLAIN`` and ``CALL``, in Spark's words; queries in them are DuckDB's. One that changes something
        gives a row: ``statement, name, rows_inserted, rows_updated, rows_deleted, files_added, files_removed,
        delete_files_added, snapshot_id``, with null counts if it changes no rows. ``CALL`` gives the rows of Spark's
        procedures.

        Raises
        ------
        SqlError
            With the position.
        TableNotFound, SnapshotNotFound, ColumnNotFound, AmbiguousColumn, DuplicateColumn
            And of a statement what the method raises that does the same.
        """
        return self._dataset(answer(self.session, text))

    def from_arrow(self, data: Any) -> Dataset:
        """Return a dataset of rows in memory or of a stream: Arrow, pandas, polars, a list of dicts.

        A stream can be read once. Raises TypeMismatch.
        """
        rows = to_arrow(data)
        if isinstance(rows, pa.Table):
            return self._dataset(Memory(rows.schema, rows))
        return self._dataset(Stream(rows.schema, Once(rows)))

    def from_ray(self, dataset: Any) -> Dataset:
        """Return the rows of a ``ray.data.Dataset``; lazy, and streamed through this process block by block.

        Ray runs it anew each time it is read. Every block is held to the schema that Ray says, so that what it mixes is
        an error that names the block; tensors of one shape stay tensors.

        Raises
        ------
        TypeMismatch
            A column has pickled Python objects, or tensors of several shapes.
        """
        needs_ray()
        return self._dataset(Stream(*ray_data.from_ray(dataset)))

    def from_dask(self, frame: Any) -> Dataset:
        """Return the rows of a ``dask.dataframe.DataFrame``; lazy, computed a few partitions at a time.

        Dask's own scheduler computes them, anew each time. Every partition is held to one schema; a named index is the
        first column.

        Raises
        ------
        TypeMismatch
        """
        needs_dask()
        return self._dataset(Stream(*dask_frames.from_dask(frame, self.session.engine.settings.threads)))

    def read_parquet(self, paths: str | Sequence[str], *, hive: bool | None = None) -> Dataset:
        """Return the rows of Parquet files, by path, folder or glob; columns are matched by name.

        Parameters
        ----------
        paths : str or sequence of str
            Of a folder all files ending in ``.parquet``, in the folders below it too.
        hive : bool, optional
            Whether folder names are columns: ``day=2026-01-31/x.parquet``, numbers and dates being told by their look.
            Default: if all folders below the one given, or from the first ``*`` on, are named so.

        Raises
        ------
        PlanError
            No file matches.
        """
        found = matching(paths, "read_parquet")
        hive = partitioned(paths, found) if hive is None else hive
        return self._files("read_parquet", found, union_by_name=True, hive_partitioning=hive)

    def read_csv(self, paths: str | Sequence[str], *, delimiter: str | None = None, null: str | None = None) -> Dataset:
        """Return the rows of CSV files, by path or glob; header and types are detected.

        Parameters
        ----------
        paths : str or sequence of str
        delimiter : str, optional
            Default: detected.
        null : str, optional
            What stands for null besides nothing: ``"NA"``.

        Raises
        ------
        PlanError
            No file matches, or lines have different numbers of fields.
        """
        options = {"delim": delimiter, "nullstr": null}
        rows = self._files("read_csv", paths, **{name: text for name, text in options.items() if text is not None})
        if delimiter is None and len(rows.columns) == 1 and re.search(r"[,;\t|]", rows.columns[0]):
            raise PlanError(
                f"the lines of {paths!r} do not have the same number of fields as its header {rows.columns[0]!r}",
                "read_csv",
                "mend the lines, or give delimiter= if the header is one column",
            )
        return rows

    def read_json(self, paths: str | Sequence[str]) -> Dataset:
        """Return the rows of JSON lines (or arrays), by path or glob; types are detected."""
        return self._files("read_json", paths)

    def _files(self, reader: str, paths: str | Sequence[str], **options: bool | str) -> Dataset:
        found = matching(paths, reader)
        return self._dataset(self.session.engine.query(file_query(reader, found, options), {}))

    def write(self, name: str, data: Any, mode: Any = "append", **options: Any) -> Dataset:
        """Write rows to a table of this lake in one commit; `data` as in `from_arrow`, options as in `Dataset.write`.

        A dataset of another lake is run by that one's engine.
        """
        dataset = data if isinstance(data, Dataset) else self.from_arrow(data)
        here = Session(self.session.catalog, dataset.session.engine)
        return self._dataset(Dataset(dataset.plan, here).write(name, mode, **options).plan)

    def _dataset(self, plan: Plan | Query) -> Dataset:
        return Dataset(plan, self.session)

    def close(self) -> None:
        """Free what the engine holds."""
        self.session.engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Lake({self.session.catalog!r}, {self.session.engine!r})"
