"""What was appended and what changed between two versions of a table; a list of rows is the oracle."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count, groupby
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import iceblink as ib
from contract.hand_made import by_position, by_value, compact, expire, loaded, row_delta
from contract.staged import divide_everything, staged_engine
from iceblink import _
from iceblink.errors import DuplicateColumn, IceblinkError, PlanError, SnapshotNotFound

Row = tuple[Any, ...]
State = Counter[Row]

IDS, WORDS = st.integers(0, 4), st.none() | st.sampled_from(["a", "b"])
ROWS = st.lists(st.tuples(IDS, WORDS), min_size=1, max_size=4)
STEPS = st.one_of(
    st.tuples(st.just("append"), ROWS),
    st.tuples(st.just("overwrite"), IDS, ROWS),
    st.tuples(st.just("upsert"), st.lists(st.tuples(IDS, WORDS), min_size=1, max_size=3, unique_by=lambda row: row[0])),
    st.tuples(st.just("positions"), st.integers(1, 3)),
    st.tuples(st.just("values"), IDS, st.none() | ROWS),
    st.tuples(st.just("compact")),
    st.tuples(st.just("add column")),
    st.tuples(st.just("rename column")),
)
numbers = count()


class Written:
    """A table, and the rows that each of its versions has: of ids, words, and a third column where there is one."""

    def __init__(self, lake: ib.Lake) -> None:
        self.lake, self.name = lake, f"n.t{next(numbers)}"
        lake.create(self.name, {"id": "long", "a word ü": "string"})
        self.word, self.columns = "a word ü", 2
        self.rows: list[Row] = []
        self.states: list[tuple[int, State]] = []

    def arrow(self, rows: list[Row]) -> pa.Table:
        data = {"id": [row[0] for row in rows], self.word: pa.array([row[1] for row in rows], pa.string())}
        if self.columns == 3:
            data["more"] = pa.array([row[2] for row in rows], pa.int64())
        return pa.table(data)

    def step(self, kind: str, *given: Any) -> None:
        table = loaded(self.lake, self.name)
        new = (
            [(*row, row[0] if self.columns == 3 else None) for row in given[-1]]
            if given and given[-1] and isinstance(given[-1], list)
            else []
        )
        match kind:
            case "append":
                self.lake.write(self.name, self.arrow(new))
            case "overwrite":
                self.lake.write(self.name, self.arrow(new), "overwrite", where=_.id >= given[0])
                self.rows = [row for row in self.rows if row[0] < given[0]]
            case "upsert":
                self.lake.write(self.name, self.arrow(new), "upsert", on="id")
                keys = {row[0] for row in new}
                self.rows = [row for row in self.rows if row[0] not in keys]
            case "positions":
                places = [(entry.path, at) for entry in table.files() for at in range(0, entry.rows, given[0])]
                row_delta(self.lake, self.name, by_position(places))
                self.rows = self._read()  # which rows lie where is the scan's to know, and tested with it
            case "values":
                row_delta(self.lake, self.name, by_value("id", [given[0]]), self.arrow(new) if new else None)
                self.rows = [row for row in self.rows if row[0] != given[0]]
            case "compact":
                compact(self.lake, self.name)
            case "add column" if self.columns == 2:
                with table.pyiceberg.update_schema() as update:
                    update.union_by_name(pa.schema({"more": pa.int64()}))
                self.columns = 3
            case "rename column":
                with table.pyiceberg.update_schema() as update:
                    update.rename_column(self.word, f"{self.word}'")
                self.word += "'"
        self.rows += new
        newest = loaded(self.lake, self.name).snapshot_id
        if newest is not None:
            self.states.append((newest, Counter(self.rows)))

    def _read(self) -> list[Row]:
        return [row for row, many in rows_of(self.lake.table(self.name)).items() for _n in range(many)]


def rows_of(dataset: ib.Dataset) -> State:
    found: State = Counter()
    for row in dataset.to_pylist():
        values = [value for name, value in row.items() if not name.startswith("_c")]
        found[tuple([*values, None][:3])] += 1
    return found


def split(changes: list[dict[str, Any]]) -> tuple[State, State]:
    """Return the rows that went and those that came."""
    went, came = Counter[Row](), Counter[Row]()
    for row in changes:
        values = tuple([*(value for name, value in row.items() if not name.startswith("_c")), None][:3])
        (came if row["_change_type"] in ("insert", "update_after") else went)[values] += 1
    return went, came


def replayed(state: State, changes: list[dict[str, Any]]) -> State:
    """Take out what went and put in what came, snapshot by snapshot."""
    state = Counter(state)
    ordered = sorted(changes, key=lambda row: row["_change_ordinal"])
    for _n, group in groupby(ordered, key=lambda row: row["_change_ordinal"]):
        went, came = split(list(group))
        assert went <= state, "what goes was there"
        assert not went & came, "what only moved is left out"
        state = state - went + came
    return state


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ib.Lake]:
    with ib.connect(tmp_path_factory.mktemp("changes")) as opened:
        yield opened


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=8)
@given(steps=st.lists(STEPS, min_size=2, max_size=6), data=st.data())
def test_the_changes_make_of_one_version_the_other(shared: ib.Lake, steps: list[Any], data: st.DataObject) -> None:
    table = Written(shared)
    table.step("append", [(0, "a"), (1, "b"), (2, None)])
    for step in steps:
        table.step(*step)
    assert rows_of(shared.table(table.name)) == Counter(table.rows)
    first = data.draw(st.integers(-1, len(table.states) - 1))
    last = data.draw(st.integers(max(first, 0), len(table.states) - 1))
    after, before = table.states[first] if first >= 0 else (None, Counter[Row]())
    until, expected = table.states[last]
    changes = shared.changes(table.name, after=after, until=until).to_pylist()
    assert replayed(before, changes) == expected
    ids = {row["_change_ordinal"]: row["_commit_snapshot_id"] for row in changes}
    assert [ids[n] for n in sorted(ids)] == [one for one in dict(table.states) if one in ids.values()]
    match data.draw(st.sampled_from(["keys", "net", "where", "appended"])):
        case "keys":
            paired = shared.changes(table.name, after=after, until=until, keys="id")
            assert replayed(before, paired.to_pylist()) == expected
        case "net":
            net = shared.changes(table.name, after=after, until=until, net=True)
            assert split(net.to_pylist()) == (before - expected, expected - before)
        case "where":
            some = shared.changes(table.name, after=after, until=until, where=_.id > 1).to_pylist()
            assert Counter(map(str, some)) == Counter(str(row) for row in changes if row["id"] > 1)
        case "appended":
            rows = 3 + sum(len(step[1]) for step in steps if step[0] == "append")
            assert shared.appended(table.name, overwrites="skip").count() == rows


def test_updates_are_paired_by_key_and_what_is_no_key_is_not(lake: ib.Lake) -> None:
    rows = {"id": [1, 2, 3, None, 5, 5], "x": ["a", "b", "c", "d", "e", "f"]}
    lake.write("n.t", rows, "create", properties={"write.format.default": "parquet"})
    first = loaded(lake, "n.t").snapshot_id
    new = {"id": [1, 2, 4, None, 5, 5], "x": ["A", "b", "C", "D", "E", "f"]}
    lake.write("n.t", new, "overwrite")
    found = lake.changes("n.t", after=first, keys="id").order_by("x").to_pylist()
    assert [(row["id"], row["x"], row["_change_type"]) for row in found] == [
        (1, "A", "update_after"),
        (4, "C", "insert"),
        (None, "D", "insert"),
        (5, "E", "update_after"),  # of its two rows one stayed
        (1, "a", "update_before"),
        (3, "c", "delete"),
        (None, "d", "delete"),
        (5, "e", "update_before"),
    ]
    lake.write("n.t", {"id": [1], "x": ["z"]}, "upsert", on="id")
    net = lake.changes("n.t", after=first, keys=["id"], net=True, where=_.id == 1).to_pylist()
    newest = loaded(lake, "n.t").snapshot_id
    assert sorted((row["x"], row["_change_type"]) for row in net) == [("a", "update_before"), ("z", "update_after")]
    assert {(row["_change_ordinal"], row["_commit_snapshot_id"]) for row in net} == {(0, newest)}


def test_changes_are_a_dataset_like_any_other(lake: ib.Lake) -> None:
    tensor = "tensor<float>[2]"
    lake.create(
        "n.t", {"id": "long not null", "v": tensor, "tags": "list<string>", "day": "string"}, partition_by=["day"]
    )
    fields = lake.table("n.t").schema

    def batch(ids: list[int], day: str) -> pa.Table:
        vectors = pa.FixedShapeTensorArray.from_storage(
            fields.field("v").type,
            pa.FixedSizeListArray.from_arrays(pa.array([float(n) for one in ids for n in (one, one)], pa.float32()), 2),
        )
        return pa.table({"id": ids, "v": vectors, "tags": [[str(n)] for n in ids], "day": [day] * len(ids)})

    lake.write("n.t", batch(list(range(40)), "a"))
    first = loaded(lake, "n.t").snapshot_id
    lake.write("n.t", batch([50, 51], "b"))
    lake.write("n.t", batch([100], "a"), "overwrite", where=(_.day == "a") & (_.id < 3))
    lake.write("n.t", batch([7], "a"), "overwrite", where=_.id == 7)  # the same row again
    changes = lake.changes("n.t", after=first)
    assert changes.schema.field("v").type == fields.field("v").type
    assert not changes.schema.field("id").nullable
    kinds = changes.group_by("_change_type").agg(n=_.count()).order_by("_change_type").to_pylist()
    assert kinds == [{"_change_type": "delete", "n": 3}, {"_change_type": "insert", "n": 3}]
    came = changes.filter(_._change_type == "insert")
    assert sorted(came.map_batches(lambda batch: batch, schema=came.schema).to_arrow()["id"].to_pylist()) == [
        50,
        51,
        100,
    ]
    one = lake.changes("n.t", after=first, where=_.day == "b")
    assert one.select("id", "_change_ordinal").order_by("id").to_pylist() == [
        {"id": 50, "_change_ordinal": 0},
        {"id": 51, "_change_ordinal": 0},
    ]
    lake.write("n.kept", changes.drop("v"), "create")
    assert lake.table("n.kept").count() == 6
    appended = lake.appended("n.t", after=first, overwrites="skip")
    assert appended.filter(_.id > 50).to_pylist()[0]["day"] == "b"
    batches = appended.select("id", "v").to_numpy(1, shuffle=False)
    assert sorted(int(batch["id"][0]) for batch in batches) == [50, 51]


def test_a_row_that_is_deleted_twice_goes_once(lake: ib.Lake) -> None:
    lake.write("n.t", {"id": [1, 2, 3, 4]}, "create")
    (file,) = loaded(lake, "n.t").files()
    row_delta(lake, "n.t", by_position([(file.path, 0), (file.path, 1)]))
    row_delta(lake, "n.t", by_position([(file.path, 1), (file.path, 2)]))
    row_delta(lake, "n.t", by_value("id", [1, 4]), pa.table({"id": [4]}))
    compact(lake, "n.t")
    found = lake.changes("n.t").order_by("_change_ordinal", "id").to_pylist()
    assert [(row["_change_ordinal"], row["id"], row["_change_type"]) for row in found if row["_change_ordinal"]] == [
        (1, 1, "delete"),
        (1, 2, "delete"),
        (2, 3, "delete"),
    ], "the fourth went and came in one snapshot, and compactions are not counted"


def test_a_file_that_came_and_went_is_read_twice(lake: ib.Lake) -> None:
    lake.write("n.t", {"id": [0], "x": [0]}, "create")
    first = loaded(lake, "n.t").snapshot_id
    lake.write("n.t", {"id": [1, 2, 3], "x": [1, 1, 1]})
    loaded(lake, "n.t").pyiceberg.delete("x = 1")
    changes = lake.changes("n.t", after=first)
    assert changes.count() == 6
    assert sorted(changes.select("id").to_arrow()["id"].to_pylist()) == [1, 1, 2, 2, 3, 3]
    assert changes.sql("SELECT sum(id) AS s FROM this").to_pylist() == [{"s": 12}]
    batches = changes.select("id", "_change_type").to_numpy(6, shuffle=False)
    assert [sorted(batch["id"].tolist()) for batch in batches] == [[1, 1, 2, 2, 3, 3]]
    assert lake.changes("n.t", after=first, net=True).to_pylist() == []


def test_a_filter_prunes_what_changed(lake: ib.Lake) -> None:
    for start in (0, 100, 200):
        mode = "append" if start else "create"
        lake.write("n.t", {"id": list(range(start, start + 100))}, mode)
    for rows in (lake.appended("n.t"), lake.changes("n.t")):
        found = rows.filter(_.id == 150)
        assert found.select("id").to_pylist() == [{"id": 150}]
        assert "1 of 3," in found.explain()
    inserted = lake.changes("n.t").filter(_._change_type == "delete")
    assert inserted.count() == 0
    assert "no files are read" in inserted.explain()


def test_a_statement_over_changes_runs_in_stages_as_in_one_process(
    lake: ib.Lake, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.write("n.t", {"id": [n % 50 for n in range(400)], "x": [n % 7 for n in range(400)]}, "create")
    lake.write("n.t", {"id": [1, 1, 7], "x": [1, 1, 1]}, "overwrite", where=_.id < 9)
    places = [(entry.path, at) for entry in loaded(lake, "n.t").files() for at in range(0, entry.rows, 3)]
    row_delta(lake, "n.t", by_position(places))
    divide_everything(monkeypatch)
    with ib.connect(lake.session.catalog.folder, engine=staged_engine()) as staged:
        for given in ({}, {"keys": "id"}, {"net": True, "keys": "id"}):
            expected = Counter(map(str, lake.changes("n.t", **given).to_pylist()))
            assert Counter(map(str, staged.changes("n.t", **given).to_pylist())) == expected
        assert staged.appended("n.t", overwrites="skip").count() == 400


def test_versions_are_named_by_id_tag_time_and_branch(lake: ib.Lake) -> None:
    lake.write("n.t", {"id": [1]}, "create")
    lake.write("n.t", {"id": [2]})
    first, second = [row["snapshot_id"] for row in lake.history("n.t").to_pylist()]
    iceberg = loaded(lake, "n.t").pyiceberg
    iceberg.manage_snapshots().create_tag(first, "a tag").create_branch(first, "side").commit()
    lake.write("n.t", {"id": [10]}, branch="side")
    lake.write("n.t", {"id": [3]})
    times = {row["snapshot_id"]: row["committed_at"] for row in lake.history("n.t").to_pylist()}

    def ids(**given: Any) -> list[int]:
        return sorted(lake.appended("n.t", **given).to_arrow()["id"].to_pylist())

    assert ids() == [1, 2, 3]
    assert ids(after=first) == ids(after="a tag") == ids(after=times[first]) == [2, 3]
    assert ids(after=times[first].isoformat(), until=second) == [2]
    assert ids(until="a tag") == [1]
    assert ids(after="a tag", branch="side") == [10]
    assert ids(after=datetime.now(UTC) + timedelta(days=1)) == ids(after=first, until=first) == []
    assert ids(after="2020-01-01") == [1, 2, 3]
    assert lake.changes("n.t", after=first, until=first).to_pylist() == []
    with pytest.raises(PlanError, match="was not made from"):
        ids(after=second, branch="side")
    with pytest.raises(PlanError, match="was not made from"):
        ids(after=second, until=first)
    with pytest.raises(SnapshotNotFound, match="neither a tag nor a time"):
        ids(after="a tog")
    with pytest.raises(SnapshotNotFound, match="as old as"):
        ids(until="2020-01-01")


def test_what_was_expired_or_replaced_or_overwritten_is_said(lake: ib.Lake) -> None:
    for n in range(4):
        lake.write("n.t", {"id": [n]}, "append" if n else "create")
    snapshots = [row["snapshot_id"] for row in lake.history("n.t").to_pylist()]
    expire(lake, "n.t", keep=2)
    for after in (None, snapshots[0]):
        with pytest.raises(SnapshotNotFound, match="not kept") as caught:
            lake.changes("n.t", after=after)
        assert str(snapshots[2]) in caught.value.hint
    assert lake.appended("n.t", after=snapshots[2]).to_pylist() == [{"id": 3}]
    lake.write("n.t", {"id": [5]}, "overwrite")
    with pytest.raises(PlanError, match="took rows out"):
        lake.appended("n.t", after=snapshots[2])
    assert lake.appended("n.t", after=snapshots[2], overwrites="skip").to_pylist() == [{"id": 3}]
    lake.write("n.t", {"id": [6]}, "replace")
    with pytest.raises(PlanError, match="was not made from"):
        lake.changes("n.t", after=snapshots[3])
    lake.write("n.u", {"_change_type": ["x"]}, "create")
    with pytest.raises(DuplicateColumn):
        lake.changes("n.u")
    lake.create("n.empty", {"id": "long"})
    assert lake.changes("n.empty").to_pylist() == lake.appended("n.empty").to_pylist() == []
    with pytest.raises(IceblinkError):
        lake.changes("n.empty", keys="ident")
