"""What a predicate leaves out, by partition and by statistics: whole manifests first, then files.

References
----------
.. [1] Iceberg table spec, "Scan Planning".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from pyiceberg.expressions import AlwaysFalse, AlwaysTrue, BooleanExpression
from pyiceberg.expressions.visitors import (
    _InclusiveMetricsEvaluator,
    _StrictMetricsEvaluator,
    bind,
    expression_evaluator,
    inclusive_projection,
    manifest_evaluator,
    strict_projection,
)
from pyiceberg.manifest import DataFile, ManifestFile
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.typedef import Record
from pyiceberg.types import UUIDType

from iceblink.lake.expressions import to_iceberg
from iceblink.predicate import Predicate, columns

Values = tuple[Any, ...]
"""The partition values of a file, in the order of its spec's fields."""


def partition_values(file: DataFile) -> Values:
    """Return the stored partition values of a file, `comparable`."""
    record = file.partition
    return comparable([record[place] for place in range(len(record))])


def comparable(values: Iterable[Any]) -> Values:
    """Return partition values whose every NaN is `math.nan` itself, so that the tuple equals its like."""
    return tuple([math.nan if value != value else value for value in values])


class Pruner:
    """Says of manifests and files whether they may hold rows for which the predicate is true.

    Parameters
    ----------
    predicate : Predicate or BooleanExpression
        An expression is PyIceberg's own, as other clients mean it.
    schema : Schema
        Of the version that is read.
    specs : mapping of int to PartitionSpec
        All specs of the table, by id.
    """

    def __init__(
        self, predicate: Predicate | BooleanExpression, schema: Schema, specs: Mapping[int, PartitionSpec]
    ) -> None:
        asked = to_iceberg(predicate, schema) if isinstance(predicate, Predicate) else predicate
        self.nothing = bind(schema, asked, case_sensitive=True) == AlwaysFalse()
        self._metrics = None if asked == AlwaysTrue() else _InclusiveMetricsEvaluator(schema, asked)
        self._manifests: dict[int, Callable[[ManifestFile], bool]] = {}
        self._partitions: dict[int, Partitions] = {}
        for spec_id, spec in specs.items():
            projected = inclusive_projection(schema, spec)(asked)
            self._manifests[spec_id] = manifest_evaluator(spec, schema, projected)
            self._partitions[spec_id] = Partitions(spec, schema, projected)

    def keeps_manifest(self, manifest: ManifestFile) -> bool:
        """Tell whether any of its files may match, by the partition ranges in the manifest list."""
        return self._manifests[manifest.partition_spec_id](manifest)

    def keeps_partition(self, spec_id: int, values: Values) -> bool:
        """Tell whether files with these partition values may match."""
        return self._partitions[spec_id].matches(values)

    def keeps_file(self, file: DataFile) -> bool:
        """Tell whether a file may match by its statistics; an empty one never does."""
        return self._metrics is None or self._metrics.eval(file)


class WholeMatch:
    """Says of files whether the predicate is certainly true for all their rows.

    Parameters
    ----------
    predicate, schema, specs
        As of `Pruner`.
    """

    def __init__(self, predicate: Predicate, schema: Schema, specs: Mapping[int, PartitionSpec]) -> None:
        asked = to_iceberg(predicate, schema, strict=True)
        self._metrics = _StrictMetricsEvaluator(schema, asked)
        self._counted: Collection[int] = [schema.find_field(name).field_id for name in columns(predicate)]
        self._partitions = {
            spec_id: Partitions(spec, schema, strict_projection(schema, spec)(asked)) for spec_id, spec in specs.items()
        }

    def matches(self, file: DataFile, spec_id: int, values: Values) -> bool:
        """Tell whether all rows of `file` match."""
        if self._partitions[spec_id].matches(values):
            return True
        counts = file.null_value_counts or {}
        # PyIceberg takes a column without a null count for one without nulls
        return all(field_id in counts for field_id in self._counted) and self._metrics.eval(file)


class Partitions:
    """An expression over the partition fields of one spec; each distinct partition is asked once."""

    def __init__(self, spec: PartitionSpec, schema: Schema, projected: BooleanExpression) -> None:
        partition = spec.partition_type(schema)
        self._constant = projected == AlwaysTrue() if isinstance(projected, AlwaysTrue | AlwaysFalse) else None
        self._evaluate = expression_evaluator(Schema(*partition.fields), projected, case_sensitive=True)
        # Avro gives UUIDs where PyIceberg's literals are bytes: unequal, though the same
        self._uuids = [place for place, field in enumerate(partition.fields) if isinstance(field.field_type, UUIDType)]
        self._known: dict[Values, bool] = {}

    def matches(self, values: Values) -> bool:
        """Tell whether the expression is true for these partition values."""
        if self._constant is not None:
            return self._constant
        known = self._known.get(values)
        if known is None:
            record = Record(*values)
            for place in self._uuids:
                record[place] = getattr(record[place], "bytes", record[place])
            known = self._known[values] = self._evaluate(record)
        return known
