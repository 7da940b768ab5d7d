"""Row lineage as a scan gives it: what a file stores of a row, and where it stores nothing, what the file itself says.

References
----------
.. [1] Iceberg table spec, "Row Lineage".
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from iceblink.lake.row_lineage import ROW_ID_FIELD, lineage_field


def lineage_places(schema: pa.Schema) -> Mapping[int, int]:
    """Return where the columns of row lineage are in a schema, and which field each of them is."""
    found = {place: lineage_field(field) for place, field in enumerate(schema)}
    return {place: number for place, number in found.items() if number is not None}


def with_inherited(
    data: pa.RecordBatch, places: Mapping[int, int], lineage: tuple[int, int] | None, first_row: int
) -> pa.RecordBatch:
    """Return consecutive rows of a file with their lineage whole.

    Parameters
    ----------
    data : pa.RecordBatch
        What the file stores, null in the columns that it lacks.
    places : mapping of int to int
        Of `lineage_places`.
    lineage : tuple of (int, int) or None
        Id of the file's first row, and the file's sequence number; None where its rows have no ids.
    first_row : int
        Position in the file of the first row.
    """
    if lineage is None:
        return data
    first_row_id, sequence = lineage
    for place, number in places.items():
        own = data.column(place)
        if number == ROW_ID_FIELD:
            start = first_row_id + first_row
            own = pc.coalesce(own, pa.array(np.arange(start, start + data.num_rows, dtype=np.int64)))
        else:
            own = own.fill_null(sequence)
        data = data.set_column(place, data.schema.field(place), own)
    return data
