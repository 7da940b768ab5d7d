"""Data files and delete files as a planned scan names them: JSON.

References
----------
.. [1] Iceberg REST catalog, open-api/rest-catalog-open-api.yaml, ``ContentFile`` and what it is a part of.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from pyiceberg.conversions import from_bytes
from pyiceberg.manifest import DataFile, DataFileContent
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.types import IcebergType, PrimitiveType

from iceblink.lake.deletes import LENGTH, OFFSET, target_of
from iceblink.lake.json_values import to_json
from iceblink.lake.served.refusal import Refusal
from iceblink.lake.values import Inexpressible

Json = dict[str, Any]

_COUNTS = {
    "column-sizes": "column_sizes",
    "value-counts": "value_counts",
    "null-value-counts": "null_value_counts",
    "nan-value-counts": "nan_value_counts",
}
_BOUNDS = {"lower-bounds": "lower_bounds", "upper-bounds": "upper_bounds"}


class FileShapes:
    """Makes JSON of files, as `manifest_files.read_manifest` reads them.

    Parameters
    ----------
    schema : Schema
    specs : mapping of int to PartitionSpec
        All specs of the table, by id.
    statistics : collection of int
        Ids of the fields whose statistics are told.
    """

    def __init__(self, schema: Schema, specs: Mapping[int, PartitionSpec], statistics: Collection[int]) -> None:
        self._kinds = {
            spec_id: [field.field_type for field in spec.partition_type(schema).fields]
            for spec_id, spec in specs.items()
        }
        self._statistics = {field_id: schema.find_type(field_id) for field_id in sorted(statistics)}

    def data_file(self, file: DataFile, spec_id: int, first_row_id: int | None) -> Json:
        """Return a ``DataFile``.

        Raises
        ------
        Refusal
            406: a partition value has no form in JSON.
        """
        shown = self._content(file, spec_id, "data")
        if first_row_id is not None:
            shown["first-row-id"] = first_row_id
        for name, property_ in _COUNTS.items() if self._statistics else ():
            counts = getattr(file, property_) or {}
            shown[name] = _map({one: counts[one] for one in self._statistics if one in counts})
        for name, property_ in _BOUNDS.items() if self._statistics else ():
            shown[name] = _map(self._bounds(getattr(file, property_) or {}))
        return shown

    def delete_file(self, file: DataFile, spec_id: int) -> Json:
        """Return a ``PositionDeleteFile`` or an ``EqualityDeleteFile``; raises as `data_file`."""
        if file.content == DataFileContent.EQUALITY_DELETES.value:
            return {**self._content(file, spec_id, "equality-deletes"), "equality-ids": list(file.equality_ids or ())}
        shown = self._content(file, spec_id, "position-deletes")
        further = {
            "referenced-data-file": target_of(file),
            "content-offset": file[OFFSET],
            "content-size-in-bytes": file[LENGTH],
        }
        return shown | {name: value for name, value in further.items() if value is not None}

    def _content(self, file: DataFile, spec_id: int, content: str) -> Json:
        kinds, record = self._kinds[spec_id], file.partition
        further = {
            "key-metadata": None if file.key_metadata is None else file.key_metadata.hex().upper(),
            "split-offsets": None if file.split_offsets is None else list(file.split_offsets),
            "sort-order-id": file.sort_order_id,
        }
        return {
            "content": content,
            "file-path": file.file_path,
            "file-format": file.file_format.lower(),
            "spec-id": spec_id,
            "partition": [_partition_value(kind, record[place]) for place, kind in enumerate(kinds)],
            "file-size-in-bytes": file.file_size_in_bytes,
            "record-count": file.record_count,
            **{name: value for name, value in further.items() if value is not None},
        }

    def _bounds(self, stored: Mapping[int, bytes]) -> dict[int, Any]:
        found: dict[int, Any] = {}
        for field_id, kind in self._statistics.items():
            if field_id in stored and isinstance(kind, PrimitiveType):
                try:
                    found[field_id] = to_json(kind, from_bytes(kind, stored[field_id]))
                except Inexpressible:  # unknown is always right
                    continue
        return found


def _partition_value(kind: IcebergType, stored: Any) -> Any:
    if stored is None:
        return None
    try:
        return to_json(kind, stored)
    except Inexpressible:
        raise Refusal.unsupported("a partition value has no form in JSON: let the client plan the scan") from None


def _map(values: Mapping[int, Any]) -> Json:
    return {"keys": list(values), "values": list(values.values())}
