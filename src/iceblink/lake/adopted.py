"""Parquet files that somebody else wrote, described as data files of a table: statistics, and their partition.

References
----------
.. [1] Iceberg table spec, "Column Projection", "Name Mapping Serialization" and "Partition Transforms".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pt
from pyiceberg.partitioning import PartitionField
from pyiceberg.transforms import IdentityTransform

from iceblink.errors import SchemaMismatch
from iceblink.lake.files import NewFile
from iceblink.lake.late import iceberg_arrow
from iceblink.lake.partition import Partition, Partitioner
from iceblink.lake.schemas import NAME_MAPPING, arrow_schema
from iceblink.lake.table import Table

REWRITE = "write its rows instead: lake.write(name, lake.read_parquet(path))"
_BOUNDS = ("lower_bounds", "upper_bounds")


def stored_schema(table: Table) -> pa.Schema:
    """Return the columns of a table as data files have them: lists and bytes for tensors."""
    return arrow_schema(table.iceberg_schema, {})


def name_mapping(table: Table) -> dict[str, str]:
    """Return the property that tells columns of files without field ids by their names; none where the table has it."""
    if NAME_MAPPING in table.properties:
        return {}
    return {NAME_MAPPING: table.iceberg_schema.name_mapping.model_dump_json()}


def identity_columns(table: Table) -> set[str]:
    """Return the columns of which new files have one value each, which they need not hold."""
    names = {field.field_id: field.name for field in table.iceberg_schema.fields}
    fields = table.pyiceberg.spec().fields
    return {
        names[one.source_id]
        for one in fields
        if isinstance(one.transform, IdentityTransform) and one.source_id in names
    }


@dataclass(frozen=True)
class Foreign:
    """A Parquet file and what its columns are in the table.

    Parameters
    ----------
    path : str
    file_bytes : int
        Size on disk [bytes].
    metadata : pq.FileMetaData
    leaves : mapping of int to int
        Leaf column of the file to field id of the table.
    folders : mapping of str to (str or None)
        Columns that the file lacks and its folders name, ``day=2026-01-31``, and their values.
    """

    path: str
    file_bytes: int
    metadata: pq.FileMetaData
    leaves: Mapping[int, int]
    folders: Mapping[str, str | None]

    def described(self, table: Table, token: str) -> NewFile:
        """Return what a commit needs of it.

        Raises
        ------
        SchemaMismatch
            Its rows are not, or not certainly, of one partition.
        """
        schema, properties = table.iceberg_schema, dict(table.properties)
        by_path = {self.metadata.schema.column(leaf).path: field_id for leaf, field_id in self.leaves.items()}
        statistics = iceberg_arrow.data_file_statistics_from_parquet_metadata(
            parquet_metadata=self.metadata,
            stats_columns=iceberg_arrow.compute_statistics_plan(schema, properties),
            parquet_column_mapping=by_path,
        )
        metrics = statistics.to_serialized_dict()
        for leaf, field_id in self.leaves.items():
            if self._bounds(leaf) is None:  # of some row groups only would be of none
                for kind in _BOUNDS:
                    metrics[kind].pop(field_id, None)
        return NewFile(
            path=self.path,
            token=token,
            file_bytes=self.file_bytes,
            rows=self.metadata.num_rows,
            spec_id=table.pyiceberg.spec().spec_id,
            partition=self._partition(table),
            sort_order_id=None,
            metrics=metrics,
        )

    def _bounds(self, leaf: int) -> tuple[Any, Any] | None:
        """Return the least and the greatest value of a column, two None if all are null; None where it is not known."""
        lower: list[Any] = []
        upper: list[Any] = []
        for group in range(self.metadata.num_row_groups):
            chunk = self.metadata.row_group(group).column(leaf)
            found = chunk.statistics
            if found is None or not found.has_null_count:
                return None
            if found.null_count == chunk.num_values:
                continue
            if not found.has_min_max:
                return None
            lower.append(found.min)
            upper.append(found.max)
        return (min(lower), max(upper)) if lower else (None, None)

    def _has_nulls(self, leaf: int) -> bool:
        groups = (self.metadata.row_group(group) for group in range(self.metadata.num_row_groups))
        return any(group.column(leaf).statistics.null_count for group in groups)

    def _partition(self, table: Table) -> Partition:
        spec = table.pyiceberg.spec()
        if spec.is_unpartitioned():
            return ()
        stored = stored_schema(table)
        ends: dict[str, pa.Array] = {}
        for field in spec.fields:
            column = table.iceberg_schema.find_field(field.source_id)
            if column.name not in stored.names:
                raise self._of_several(field, f"{column.name!r} is inside of another column")
            if column.name not in ends:
                ends[column.name] = self._ends(field, column.name, stored.field(column.name).type)
        rows = max(map(len, ends.values()))
        full = {name: pa.concat_arrays([array, *[array[:1]] * (rows - len(array))]) for name, array in ends.items()}
        parts = Partitioner(table.iceberg_schema, spec).split(pa.RecordBatch.from_pydict(full))
        if len(parts) > 1:
            seen = ", ".join(f"{name} from {array[0]} to {array[-1]}" for name, array in ends.items())
            raise self._of_several(spec.fields[0], f"it has {seen}")
        return parts[0][0]

    def _ends(self, field: PartitionField, name: str, dtype: pa.DataType) -> pa.Array:
        """Return the values of a column that decide whether all its rows are of one partition."""
        if name in self.folders:
            return pa.array([self.folders[name]], pa.string()).cast(dtype)
        leaf = next((leaf for leaf, one in self.leaves.items() if one == field.source_id), None)
        if leaf is None:  # a column that the file lacks is null
            return pa.nulls(1, dtype)
        bounds = None if pt.is_floating(dtype) else self._bounds(leaf)  # no statistics tell of NaN
        if bounds is None:
            raise self._of_several(field, f"its statistics do not tell all values of {name!r}")
        if bounds[0] != bounds[1] and not field.transform.preserves_order:
            raise self._of_several(field, f"it has several values of {name!r}")
        values = [*dict.fromkeys(bounds), *([None] if self._has_nulls(leaf) and bounds[0] is not None else [])]
        return pa.array(values).cast(dtype)

    def _of_several(self, field: PartitionField, why: str) -> SchemaMismatch:
        return SchemaMismatch(
            f"a file is not certainly of one partition by {field.name!r}: {why}",
            self.path,
            REWRITE,
        )
