"""Row lineage of consecutive rows, against plain Python."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from iceblink.lake.row_lineage import ROW_ID, ROW_ID_FIELD, UPDATED, UPDATED_FIELD
from iceblink.lake.schemas import FIELD_ID
from iceblink.scan.lineage import lineage_places, with_inherited

LINEAGE = st.none() | st.tuples(st.integers(0, 2**40), st.integers(1, 2**40))
STORED = st.lists(st.tuples(st.none() | st.integers(0, 2**62), st.none() | st.integers(1, 9)), max_size=5)


def field(name: str, number: int) -> pa.Field:
    return pa.field(name, pa.int64(), metadata={FIELD_ID: str(number)})


@given(
    rows=STORED, lineage=st.none() | st.tuples(st.integers(0, 2**40), st.integers(1, 2**40)), at=st.integers(0, 2**31)
)
def test_what_a_file_stores_goes_before_what_it_says_itself(
    rows: list[tuple[int | None, int | None]], lineage: tuple[int, int] | None, at: int
) -> None:
    fields = [
        field(UPDATED, UPDATED_FIELD),
        field("x", 1),
        field(ROW_ID, ROW_ID_FIELD),
        pa.field("_row_id_2", pa.int64()),
    ]
    columns = [[row[1] for row in rows], list(range(len(rows))), [row[0] for row in rows], [None] * len(rows)]
    data = pa.record_batch([pa.array(one, pa.int64()) for one in columns], schema=pa.schema(fields))
    whole = with_inherited(data, lineage_places(data.schema), lineage, at)
    assert whole.schema.equals(data.schema, check_metadata=True)
    assert whole.select(["x", "_row_id_2"]) == data.select(["x", "_row_id_2"])
    first, sequence = lineage or (None, None)
    for place, (row_id, updated) in enumerate(rows):
        own = None if first is None else first + at + place
        assert whole[ROW_ID][place].as_py() == (own if row_id is None else row_id)
        assert whole[UPDATED][place].as_py() == (sequence if updated is None else updated)
