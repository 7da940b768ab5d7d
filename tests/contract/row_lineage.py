"""What any engine does to the lineage of rows when it changes a table in all ways."""

from __future__ import annotations

import pyarrow as pa

import iceblink as ib
from iceblink import _
from iceblink.lake.row_lineage import ROW_ID, UPDATED


def check_lineage_of_changes(lake: ib.Lake, on_read: bool) -> None:
    """Change a table in all ways, and check which rows are which, and when each was changed."""
    modes = {f"write.{verb}.mode": "merge-on-read" for verb in ("update", "delete", "merge")} if on_read else {}
    lake.write("n.t", {"id": list(range(50)), "x": [0] * 50}, "create", properties={"format-version": "3", **modes})
    expected = {id: (id, 0, 1) for id in range(50)}
    lake.update("n.t", {"x": 1}, _.id % 5 == 0)
    expected |= {id: (id, 1, 2) for id in range(0, 50, 5)}
    lake.delete("n.t", _.id >= 40)
    expected = {id: row for id, row in expected.items() if id < 40}
    source = lake.from_arrow(pa.table({"id": list(range(30, 45)), "x": [2] * 15}))
    lake.merge("n.t", source, "id", ib.when_matched().update({"x": "source.x"}), ib.when_not_matched().insert_all())
    expected |= {id: (id, 2, 4) for id in range(30, 40)}
    lake.compact("n.t", rewrite_all=True, sort_by=["-id"])
    lake.compact("n.t", rewrite_all=True)
    rows = lake.table("n.t", row_lineage=True).to_pylist()
    found = {row[ROW_ID]: (row["id"], row["x"], row[UPDATED]) for row in rows}
    assert len(found) == len(rows) == 45
    assert {row_id: row for row_id, row in found.items() if row_id < 50} == expected
    assert sorted(row for row_id, row in found.items() if row_id >= 50) == [(id, 2, 4) for id in range(40, 45)]
    wanted = f"SELECT sum({ROW_ID}) AS n, max({UPDATED}) AS at FROM n.t WHERE {ROW_ID} < 50"
    assert lake.sql(wanted).to_pylist() == [{"n": sum(expected), "at": 4}]
