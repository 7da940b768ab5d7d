"""DELETE, UPDATE and MERGE against a model in plain Python: after every step the table holds what the model holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import iceblink as ib
from contract.staged import staged_engine
from iceblink import _
from iceblink.errors import (
    AmbiguousColumn,
    ColumnNotFound,
    ConfigError,
    DuplicateColumn,
    IceblinkError,
    MergeCardinality,
    NullInRequired,
    PlanError,
    SchemaMismatch,
    SqlError,
    TypeMismatch,
)

SCHEMA = {"id": "long", "g": "string", "v v": "double"}
ARROW = pa.schema([("id", pa.int64()), ("g", pa.string()), ("v v", pa.float64())])
OTHERS = [1, 2, None]
Row = tuple[int | None, str | None, float | None]
Change = Callable[[Row], Row | None]

ROWS = st.lists(
    st.tuples(st.none() | st.integers(0, 9), st.sampled_from(["a", "ü b", None]), st.none() | st.integers(-3, 3)),
    max_size=8,
)
CONDITIONS: dict[str, Callable[[Row], bool]] = {  # true, and not false or null
    "id >= 5": lambda r: r[0] is not None and r[0] >= 5,
    "g = 'a'": lambda r: r[1] == "a",
    'NOT ("v v" > 0)': lambda r: r[2] is not None and not r[2] > 0,
    "g IS NULL OR id = 3": lambda r: r[1] is None or r[0] == 3,
    "id IN (SELECT key FROM n.others)": lambda r: r[0] in (1, 2),
    "id NOT IN (SELECT key FROM n.others)": lambda r: False,
    "EXISTS (SELECT 1 FROM n.others WHERE key = id)": lambda r: r[0] in (1, 2),
    "id > (SELECT max(key) FROM n.others)": lambda r: r[0] is not None and r[0] > 2,
    "id > 100": lambda r: False,
    "true": lambda r: True,
}
ASSIGNMENTS: dict[str, Callable[[Row], Row]] = {
    '"v v" = coalesce("v v", 0) + 1': lambda r: (r[0], r[1], (r[2] or 0) + 1),
    "g = CASE g WHEN 'a' THEN 'ü b' ELSE 'a' END": lambda r: (r[0], "ü b" if r[1] == "a" else "a", r[2]),
    'id = id + 1, "v v" = id': lambda r: (None if r[0] is None else r[0] + 1, r[1], r[0]),
    "G = NULL": lambda r: (r[0], None, r[2]),
}
MERGES: dict[str, tuple[Callable[[Row, Row], Row | None], Callable[[Row], Row | None], Change]] = {
    "WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *": (lambda t, s: s, lambda s: s, lambda t: t),
    'WHEN MATCHED AND s."v v" > 0 THEN DELETE WHEN MATCHED THEN UPDATE SET g = s.g '
    "WHEN NOT MATCHED AND s.g = 'a' THEN INSERT (g, id) VALUES (s.g, s.id + 1)": (
        lambda t, s: None if (s[2] or 0) > 0 else (t[0], s[1], t[2]),
        lambda s: (None if s[0] is None else s[0] + 1, s[1], None) if s[1] == "a" else None,
        lambda t: t,
    ),
    'WHEN MATCHED AND t.g = s.g THEN UPDATE SET "v v" = t."v v" + s."v v" '
    'WHEN NOT MATCHED BY SOURCE AND t.id > 3 THEN UPDATE SET "v v" = 0 WHEN NOT MATCHED BY SOURCE THEN DELETE': (
        lambda t, s: (
            t if t[1] is None or t[1] != s[1] else (t[0], t[1], None if t[2] is None or s[2] is None else t[2] + s[2])
        ),
        lambda s: None,
        lambda t: (t[0], t[1], 0) if t[0] is not None and t[0] > 3 else None,
    ),
}
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), ROWS),
        st.tuples(st.just("delete"), st.sampled_from(sorted(CONDITIONS))),
        st.tuples(st.just("update"), st.sampled_from(sorted(ASSIGNMENTS)), st.sampled_from(sorted(CONDITIONS))),
        st.tuples(st.just("merge"), st.sampled_from(sorted(MERGES)), ROWS),
        st.tuples(st.just("absent"), ROWS),
    ),
    min_size=2,
    max_size=6,
)
SHAPES = st.sampled_from([[], ["g"], ["bucket(2, id)", "g"]])


def arrow(rows: list[Row]) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(ARROW.names, row, strict=True)) for row in rows], ARROW)


def held(dataset: ib.Dataset) -> Counter[Row]:
    return Counter(tuple(row.values()) for row in dataset.to_pylist())


def by_pyiceberg(lake: ib.Lake) -> Counter[Row]:
    table = lake.session.catalog.load("n.t").pyiceberg
    return Counter(tuple(row.values()) for row in table.scan().to_arrow().to_pylist())


def strays(lake: ib.Lake) -> set[str]:
    """Return the files on disk that no snapshot refers to, and the marks of writes that did not end."""
    folder = Path(lake.session.catalog.load("n.t").location.removeprefix("file://"))
    known = {row["file_path"].rpartition("/")[2] for row in lake.table("n.t.all_files").to_pylist()}
    return {path.name for kind in ("parquet", "puffin") for path in folder.rglob(f"*.{kind}")} - known | {
        path.name for path in folder.rglob("*.json")
    } - {path.name for path in folder.rglob("*.metadata.json")}


def outcome(dataset: ib.Dataset) -> tuple[int, int, int]:
    (row,) = dataset.to_pylist()
    return row["rows_deleted"], row["rows_updated"], row["rows_inserted"]


def changed(rows: list[Row], change: Change) -> tuple[list[Row], tuple[int, int]]:
    """Return the rows after a change that returns the row itself to keep it, another to update, None to delete."""
    after = [change(row) for row in rows]
    deleted = sum(new is None for new in after)
    updated = sum(new is not None and new is not old for new, old in zip(after, rows, strict=True))
    return [new for new in after if new is not None], (deleted, updated)


class Model:
    """A table as a list of rows."""

    def __init__(self, lake: ib.Lake) -> None:
        self.lake, self.rows = lake, list[Row]()

    def append(self, rows: list[Row]) -> None:
        self.lake.write("n.t", arrow(rows))
        self.rows += rows

    def delete(self, condition: str) -> None:
        holds = CONDITIONS[condition]
        self.expect(f"DELETE FROM n.t WHERE {condition}", lambda r: None if holds(r) else r)

    def update(self, assignment: str, condition: str) -> None:
        holds, new = CONDITIONS[condition], ASSIGNMENTS[assignment]
        self.expect(f"UPDATE n.t AS x SET {assignment} WHERE {condition}", lambda r: new(r) if holds(r) else r)

    def expect(self, statement: str, change: Change) -> None:
        before = self.lake.history("n.t").count()
        self.rows, (deleted, updated) = changed(self.rows, change)
        assert outcome(self.lake.sql(statement)) == (deleted, updated, 0)
        assert self.lake.history("n.t").count() == before + bool(deleted or updated)

    def merge(self, clauses: str, source: list[Row]) -> None:
        matched, inserted, alone = MERGES[clauses]
        self.lake.write("n.s", arrow(source), "overwrite")
        statement = f"MERGE INTO n.t AS t USING n.s AS s ON t.id = s.id {clauses}"

        def matches(row: Row) -> list[Row]:
            return [other for other in source if other[0] == row[0] and row[0] is not None]

        if any(len(matches(row)) > 1 for row in self.rows):
            with pytest.raises(MergeCardinality, match="'id'"):
                self.lake.sql(statement)
            return
        known = {row[0] for row in self.rows if row[0] is not None}
        new = [made for row in source if row[0] not in known and (made := inserted(row)) is not None]

        def change(row: Row) -> Row | None:
            found = matches(row)
            return matched(row, found[0]) if found else alone(row)

        rows, (deleted, updated) = changed(self.rows, change)
        self.rows = rows + new
        assert outcome(self.lake.sql(statement)) == (deleted, updated, len(new))

    def absent(self, source: list[Row]) -> None:
        """Several rows of a source that match one row are no error where no clause is about them."""
        known = {row[0] for row in self.rows if row[0] is not None}
        keys = {row[0] for row in source if row[0] is not None}
        new: list[Row] = [(row[0], None, None) for row in source if row[0] not in known]

        def change(row: Row) -> Row:
            return (row[0], None, 7) if row[0] not in keys and row[1] is None else row

        rows, (deleted, updated) = changed(self.rows, change)
        self.rows = rows + new
        found = self.lake.merge(
            "n.t",
            arrow(source),
            "id",
            ib.when_not_matched_by_source(_.g.isnull()).update({"v v": 7}),
            ib.when_not_matched().insert(id=_.id),
        )
        assert outcome(found) == (deleted, updated, len(new))


@pytest.mark.parametrize("engine", ["local", "staged"])
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, shape=SHAPES, on_read=st.booleans(), version=st.sampled_from(["2", "3"]))
def test_the_table_holds_what_the_model_holds(
    tmp_path_factory: pytest.TempPathFactory, engine: str, steps: Any, shape: list[str], on_read: bool, version: str
) -> None:
    folder, mode = tmp_path_factory.mktemp("lake"), "merge-on-read" if on_read else "copy-on-write"
    with ib.connect(folder, engine=staged_engine() if engine == "staged" else "local") as lake:
        properties = {f"write.{verb}.mode": mode for verb in ("delete", "update", "merge")}
        lake.create("n.t", SCHEMA, partition_by=shape, properties=properties | {"format-version": version})
        lake.create("n.s", SCHEMA)
        lake.write("n.others", pa.table({"key": pa.array(OTHERS, pa.int64())}), "create")
        model = Model(lake)
        for name, *given in steps:
            getattr(model, name)(*given)
            assert held(lake.table("n.t")) == Counter(model.rows), (name, given)
        assert by_pyiceberg(lake) == Counter(model.rows)
        assert not strays(lake)


@pytest.fixture(params=["copy-on-write", "merge-on-read"])
def shop(lake: ib.Lake, request: pytest.FixtureRequest) -> ib.Lake:
    properties = {f"write.{verb}.mode": request.param for verb in ("delete", "update", "merge")}
    rows = pa.table({"id": pa.array(range(8)), "g": ["a", "b"] * 4, "n": pa.array(range(8), pa.int32())})
    lake.write("n.t", rows, "create", partition_by=["g"], properties=properties)
    return lake


def test_a_file_all_of_whose_rows_go_is_not_read(shop: ib.Lake) -> None:
    (gone,) = [row["file_path"] for row in shop.table("n.t.files").to_pylist() if "g=a" in row["file_path"]]
    shop.session.catalog.load("n.t").pyiceberg.io.delete(gone)
    (done,) = shop.delete("n.t", _.g == "a").to_pylist()
    assert (done["rows_deleted"], done["files_removed"], done["files_added"]) == (4, 1, 0)
    assert shop.table("n.t").order_by("id").to_arrow()["id"].to_pylist() == [1, 3, 5, 7]


def test_the_summary_says_what_was_done(shop: ib.Lake) -> None:
    on_read = shop.session.catalog.load("n.t").properties["write.delete.mode"] == "merge-on-read"

    def summary() -> tuple[str, dict[str, str]]:
        made = shop.session.catalog.load("n.t").snapshot
        assert made is not None
        assert made.summary is not None
        return made.summary.operation.value, made.summary.additional_properties

    assert outcome(shop.sql("DELETE FROM n.t WHERE id = 1")) == (1, 0, 0)
    operation, counted = summary()
    assert operation == ("delete" if on_read else "overwrite")
    if on_read:
        assert (counted["added-position-deletes"], counted["added-delete-files"]) == ("1", "1")
        assert (counted["total-position-deletes"], counted["total-records"]) == ("1", "8")
    else:
        assert (counted["deleted-records"], counted["added-records"], counted["total-records"]) == ("4", "3", "7")
    assert outcome(shop.delete("n.t", True)) == (7, 0, 0)
    operation, counted = summary()
    assert (operation, counted["total-records"], counted["total-data-files"]) == ("delete", "0", "0")
    assert (counted["total-delete-files"], counted["total-position-deletes"]) == ("0", "0")
    assert shop.table("n.t").count() == 0


def test_deletes_name_one_data_file_by_equal_bounds(lake: ib.Lake) -> None:
    rows = pa.table({"id": pa.array(range(8)), "g": ["ä b", "c"] * 4})
    properties = {"write.delete.mode": "merge-on-read"}
    lake.write("n.t", rows, "create", partition_by=["g"], properties=properties)
    lake.delete("n.t", _.id.isin([2, 5, 6]))
    found = {entry.path: entry.deletes for entry in lake.session.catalog.load("n.t").files()}
    assert [len(deletes) for deletes in found.values()] == [1, 1]
    assert len({deletes[0].path for deletes in found.values()}) == 2
    lake.delete("n.t", _.id == 4)
    assert sorted(lake.table("n.t").to_arrow()["id"].to_pylist()) == [0, 1, 3, 7]


def test_polars_reads_what_was_changed(shop: ib.Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLARS_ICEBERG_PLANNER", "pyiceberg")  # else it asks for a package of its own
    shop.update("n.t", {"n": _.n + 10}, _.id > 5)
    shop.delete("n.t", "id % 4 = 0")
    frame = pl.scan_iceberg(shop.session.catalog.load("n.t").pyiceberg).collect()
    assert sorted(frame.rows()) == sorted(tuple(row.values()) for row in shop.table("n.t").to_pylist())
    assert sorted(frame["n"].to_list()) == [1, 2, 3, 5, 16, 17]


def test_values_are_conformed_without_loss_or_refused(shop: ib.Lake) -> None:
    before = shop.table("n.t").order_by("id").to_pylist()
    for values, error in (
        ({"n": "n / 2"}, SchemaMismatch),
        ({"n": 3_000_000_000}, SchemaMismatch),
        ({"n": _.id * 1_000_000_000}, SchemaMismatch),
        ({"n": "'many'"}, TypeMismatch),
        ({"g": 5}, TypeMismatch),
        ({"g": _.n}, TypeMismatch),
        ({"m": 5}, ColumnNotFound),
        ({"n": _.m}, ColumnNotFound),
        ({}, ConfigError),
        ({"n": "SELECT 1"}, TypeMismatch),
    ):
        with pytest.raises(IceblinkError) as caught:
            shop.update("n.t", values)
        assert isinstance(caught.value, error), (values, caught.value)
    for condition, said in (("random() < 0.5", "not the same each time"), (_.n + 1, "booleans"), ("n", "booleans")):
        with pytest.raises(TypeMismatch, match=said):
            shop.delete("n.t", condition)
    with pytest.raises(TypeMismatch, match="booleans"):
        shop.merge("n.t", [{"key": 1}], "target.id + source.key", ib.when_matched().delete())
    assert shop.table("n.t").order_by("id").to_pylist() == before
    assert shop.history("n.t").count() == 1
    assert not strays(shop)
    shop.update("n.t", {"n": "n * 2.0", "g": None, "id": _.n.cast("int64") + 100}, _.id == 3)
    assert shop.table("n.t").filter(_.id == 103).to_pylist() == [{"id": 103, "g": None, "n": 6}]


def test_null_in_a_required_column_is_refused(lake: ib.Lake) -> None:
    lake.create("n.t", {"id": "long not null", "n": "int"})
    lake.write("n.t", pa.table({"id": [1], "n": pa.array([1], pa.int32())}))
    with pytest.raises(NullInRequired):
        lake.update("n.t", {"id": None})
    with pytest.raises(SchemaMismatch, match="missing"):
        lake.merge("n.t", [{"id": 2}], "id", ib.when_not_matched().insert(n=1))
    assert lake.table("n.t").to_pylist() == [{"id": 1, "n": 1}]


def test_a_statement_that_cannot_be_says_why(shop: ib.Lake) -> None:
    shop.write("n.s", [{"id": 1, "n": 5}], "create")
    merge = "MERGE INTO n.t t USING n.s s ON t.id = s.id WHEN"
    for statement, error in (
        ("UPDATE n.t SET n = 1 FROM n.s RETURNING id", SqlError),
        ("DELETE FROM n.t USING n.t WHERE id = id", SqlError),
        ("DELETE FROM n.t USING n.s WHERE id = 1", AmbiguousColumn),
        ("UPDATE n.t SET n = 1, N = 2", DuplicateColumn),
        ("UPDATE n.t SET m = 1", ColumnNotFound),
        ("DELETE FROM n.t WHERE m = 1", ColumnNotFound),
        ("DELETE FROM n.t.snapshots", PlanError),
        (f"{merge} MATCHED THEN DELETE WHEN MATCHED THEN UPDATE SET n = 1", PlanError),
        (f"{merge} MATCHED THEN UPDATE SET *", ColumnNotFound),
        (f"{merge} NOT MATCHED THEN DELETE", SqlError),
        ("DELETE FROM n.t WHERE", SqlError),
    ):
        with pytest.raises(IceblinkError) as caught:
            shop.sql(statement)
        assert isinstance(caught.value, error), (statement, caught.value)
    with pytest.raises(ConfigError, match="clauses"):
        shop.merge("n.t", shop.table("n.s"), "id")
    with pytest.raises(TypeMismatch, match="lambda"):
        shop.merge("n.t", shop.table("n.s"), "id", ib.when_matched(_.n > 1).delete())


def test_merge_in_python_says_the_same_as_in_sql(shop: ib.Lake) -> None:
    news = shop.from_arrow(pa.table({"key": [1, 2, 9], "n": pa.array([100, -1, 5], pa.int32()), "g": ["b", "a", "c"]}))
    done = shop.merge(
        "n.t",
        news.filter(_.key > 0),
        lambda target, source: target.id == source.key,
        ib.when_matched(lambda target, source: source.n < 0).delete(),
        ib.when_matched().update(n=lambda target, source: target.n + source.n),
        ib.when_not_matched(_.n > 0).insert(id=_.key, n="n * 2", g=_.g.upper()),
        ib.when_not_matched_by_source("n >= 6 AND target.g = 'b'").delete(),  # the table's n
    )
    assert outcome(done) == (2, 1, 1)
    expected = [(0, "a", 0), (1, "b", 101), (3, "b", 3), (4, "a", 4), (5, "b", 5), (6, "a", 6), (9, "C", 10)]
    assert sorted(held(shop.table("n.t"))) == expected


def test_a_table_may_be_its_own_source_and_its_own_subquery(shop: ib.Lake) -> None:
    shop.sql("DELETE FROM n.t WHERE n > (SELECT avg(n) FROM n.t) AND id IN (SELECT id + 1 FROM n.t WHERE id < 6)")
    assert sorted(shop.table("n.t").to_arrow()["id"].to_pylist()) == [0, 1, 2, 3, 7]
    shop.sql("MERGE INTO n.t USING (VALUES (1, 5), (2, 5)) AS s(k, v) ON t.id = s.k WHEN MATCHED THEN UPDATE SET n = v")
    assert sorted(shop.table("n.t").to_arrow()["n"].to_pylist()) == [0, 3, 5, 5, 7]
    shop.sql("UPDATE n.t SET n = id")
    shop.sql("MERGE INTO n.t AS a USING n.t AS b ON a.id = b.id + 1 WHEN MATCHED THEN UPDATE SET n = b.n")
    assert sorted(held(shop.table("n.t"))) == [(0, "a", 0), (1, "b", 0), (2, "a", 1), (3, "b", 2), (7, "b", 7)]


def test_nothing_is_committed_where_nothing_is_touched(lake: ib.Lake) -> None:
    lake.create("n.t", SCHEMA)
    assert outcome(lake.delete("n.t", True)) == (0, 0, 0)
    assert outcome(lake.sql("UPDATE n.t SET g = 'a'")) == (0, 0, 0)
    assert outcome(lake.merge("n.t", arrow([]), "id", ib.when_not_matched().insert_all())) == (0, 0, 0)
    assert lake.history("n.t").count() == 0
    assert outcome(lake.merge("n.t", arrow([(1, "a", 2)]), "id", ib.when_not_matched().insert_all())) == (0, 0, 1)
    assert lake.history("n.t").to_pylist()[0]["operation"] == "append"


def test_a_branch_is_changed_alone(lake: ib.Lake) -> None:
    lake.write("n.t", [{"id": 1}, {"id": 2}], "create")
    table = lake.session.catalog.load("n.t").pyiceberg
    (made,) = table.metadata.snapshots
    table.manage_snapshots().create_branch(snapshot_id=made.snapshot_id, branch_name="dev").commit()
    assert outcome(lake.delete("n.t", _.id == 1, branch="dev")) == (1, 0, 0)
    assert lake.table("n.t", branch="dev").to_pylist() == [{"id": 2}]
    assert lake.table("n.t").count() == 2


@pytest.mark.parametrize("engine", ["local", "staged"])
def test_rewritten_rows_come_in_groups_no_larger_than_the_files_they_were_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: Any
) -> None:
    monkeypatch.setattr("iceblink.run.row_changes.LEAST_GROUP_ROWS", 3)
    with ib.connect(tmp_path, engine=staged_engine() if engine == "staged" else "local") as lake:
        for first in range(0, 40, 10):
            lake.write("n.t", [{"id": first + one} for one in range(5)], "append" if first else "create")
        assert outcome(lake.sql("DELETE FROM n.t WHERE id % 10 = 0 AND id < 30")) == (3, 0, 0)
        expected = sorted(first + one for first in range(0, 40, 10) for one in range(5) if one or first == 30)
        assert sorted(lake.table("n.t").to_arrow()["id"].to_pylist()) == expected
        groups = [
            metadata.row_group(group).num_rows
            for row in lake.table("n.t.files").to_pylist()
            for metadata in [pq.read_metadata(row["file_path"].removeprefix("file://"))]
            for group in range(metadata.num_row_groups)
        ]
        assert (max(groups), sum(groups)) == (5, len(expected))
