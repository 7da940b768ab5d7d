"""All that can be done to a table, in any order, by two lakes at once: a model in plain Python says what comes of it.

``ICEBLINK_INTERLEAVED_RUNS=100 pytest tests/integration/test_any_interleaving.py`` makes longer runs, and more of them.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow.parquet as pq
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from pyiceberg.manifest import ManifestContent

import iceblink as ib
from iceblink import _
from iceblink.errors import CommitConflict, ConfigError, IceblinkError, SnapshotNotFound
from iceblink.events import Event, FilesRewritten, FileWritten, observing
from table_changes import GROUPS, PARTITIONS, TABLE, WRITES, Change, Changing, same
from table_model import GROUP, ID, NUMBER, Model, Row, Rows, kept, seen, value

RUNS = int(os.environ.get("ICEBLINK_INTERLEAVED_RUNS", "0"))
NOW, DAY = timedelta(0), timedelta(days=1)
LINES = ["main", "side ü"]

NEW = st.lists(st.tuples(st.integers(0, 9), st.sampled_from(GROUPS), st.none() | st.integers(-3, 3)), max_size=4)
NUMBERS = st.integers(0, 5)
UPKEEP = st.sampled_from(
    ["compact", "compact some", "compact bit by bit", "sort", "z-order", "rewrite manifests", "expire", "orphans"]
)
SHAPES = st.sampled_from(["add", "drop", "rename", "widen", "partition", "sort by", "modes", "isolation"])


class Interleaving(RuleBasedStateMachine, Changing):
    """A table, and what the model says of it."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        place = Path(self.folder.name, "a läke %41")
        self.lake, self.other = ib.connect(place), ib.connect(place)
        self.lake.create(TABLE, {"id": "long not null", "g": "string", "n": "int"})
        self.model = Model({"id": ID, "g": GROUP, "n": NUMBER})
        self.wide = self.mixed = self.snapshot_isolation = False
        self.partition: tuple[str, ...] = ()
        self.handles: list[tuple[ib.Dataset, Rows, dict[str, int], int]] = []
        self.moments: list[tuple[int, int]] = []
        self.listed: dict[str, list[tuple[str, int, int, int]]] = {}
        self.made = 0

    def teardown(self) -> None:
        try:
            if self.metadata().current_snapshot() is not None:
                assert self.rows_of(self.metadata().scan().to_arrow()) == self.visible(), "PyIceberg sees the same"
        finally:
            self.lake.close()
            self.other.close()
            self.folder.cleanup()

    # rows, there and here

    def metadata(self) -> Any:
        return self.lake.session.catalog.load(TABLE).pyiceberg

    def visible(self, branch: str = "main") -> Rows:
        return seen(self.model.rows(branch), self.model.columns.values())

    def rows_of(self, rows: Any, columns: dict[str, int] | None = None) -> Rows:
        numbers = self.model.columns if columns is None else columns
        found: Rows = Counter()
        for row in rows.to_pylist():
            given = {name: one for name, one in row.items() if not name.startswith("_c")}
            assert given.keys() == numbers.keys()
            found[frozenset((numbers[name], one) for name, one in given.items() if one is not None)] += 1
        return found

    def table(self, branch: str) -> ib.Dataset:
        return self.lake.table(TABLE) if branch == "main" else self.lake.table(TABLE, branch=branch)

    def commits(self, change: Change, branch: str) -> None:
        """Make a change, and hold what became of the branch to what the model says."""
        before = self.model.rows(branch)
        refusal: IceblinkError | None = None
        try:
            change.run(self.lake)
        except ConfigError as error:
            assert change.refused
            refusal = error
        after = before if refusal is not None else change.effect(before)
        self.landed(branch, after, change.commits)
        assert seen(after, self.model.columns.values()) == self.visible(branch), "no commit, no change"
        assert self.rows_of(self.table(branch)) == self.visible(branch)

    def landed(self, branch: str, rows: Rows, commits: int = 1) -> None:
        """Take note of the snapshots that came, each made of the one before."""
        new = [one for one in self.metadata().metadata.snapshots if one.snapshot_id not in self.model.versions]
        assert len(new) <= commits
        for snapshot in new:
            assert snapshot.parent_snapshot_id == self.model.branches.get(branch)
            grows = snapshot.summary.operation.value == "append"
            self.model.committed(snapshot.snapshot_id, branch, rows, grows)
        if new and branch == "main":
            self.moved()

    def moved(self) -> None:
        """Take note of when main was where it is."""
        now = max(int(time.time() * 1000), self.metadata().metadata.last_updated_ms)
        self.moments.append((now, self.model.branches["main"]))
        while int(time.time() * 1000) <= now:  # so that no later change is of the same millisecond
            pass

    def step(self, kind: str, given: list[tuple[int, Any, Any]], k: int, branch: str) -> None:
        """Do one thing of any kind but a race."""
        if kind in ("expire", "orphans", "rewrite manifests"):
            getattr(self, f"_{kind.replace(' ', '_')}")(k)
        elif kind in ("add", "drop", "rename", "widen", "partition", "sort by", "modes", "isolation"):
            self._shape(kind, k)
        elif kind in ("compact", "compact some", "compact bit by bit", "sort", "z-order"):
            self.commits(self.upkeep(kind, k, branch), branch)
        elif kind == "roll back":
            self._roll_back(k)
        else:
            self.commits(self.write(kind, given, k, branch), branch)

    def _rewrite_manifests(self, k: int) -> None:
        run = lambda lake: lake.rewrite_manifests(TABLE, target_size=1 + 2000 * k)  # noqa: E731
        self.commits(Change(run, same), "main")

    def _expire(self, k: int) -> None:
        gone = self.model.expire(1 + k)
        assert set(self.lake.expire_snapshots(TABLE, older_than=NOW, keep_last=1 + k).snapshots) == gone

    def _orphans(self, k: int, age: timedelta = NOW) -> None:
        """Remove what is of an age; of no age are files of a write that runs, too, and nobody may write then."""
        stray = Path(self.metadata().location(), "data", f"stray {k}.parquet")
        if k % 2:
            stray.parent.mkdir(exist_ok=True)
            stray.write_text("x")
            os.utime(stray, (time.time() - 2 * DAY.total_seconds(),) * 2)
        found = self.lake.remove_orphan_files(TABLE, older_than=age, force=age == NOW)
        assert found.kept_files == 0
        assert [path for path in found.files if not path.endswith(".json")] == [str(stray)] * (k % 2)
        if age == NOW:
            folder = Path(self.metadata().location(), "metadata")
            known = {entry.metadata_file for entry in self.metadata().metadata.metadata_log}
            assert {str(path) for path in folder.glob("*.json")} == known | {self.metadata().metadata_location}

    def _shape(self, kind: str, k: int) -> None:
        model, alter = self.model, self.lake.alter
        more = [name for name, number in model.columns.items() if number > NUMBER]
        match kind:
            case "add" if f"x {k % 3}" not in model.columns:
                name, model.highest = f"x {k % 3}", model.highest + 1
                alter(TABLE, add={name: "string"})
                model.columns[name] = model.highest
            case "drop" if more:
                alter(TABLE, drop=more[k % len(more)])
                del model.columns[more[k % len(more)]]
            case "rename":
                old = [name for name, number in model.columns.items() if number != ID][k % (len(model.columns) - 1)]
                new = old.removesuffix(" ü") if old.endswith(" ü") else f"{old} ü"
                alter(TABLE, rename={old: new})
                model.columns = {new if name == old else name: number for name, number in model.columns.items()}
            case "widen" if not self.wide:
                alter(TABLE, types={model.name(NUMBER): "long"})
                self.wide = True
            case "partition":
                self.partition = PARTITIONS[k % len(PARTITIONS)]
                group, number = model.name(GROUP), model.name(ID)
                words = {"group": group, "bucket": f"bucket(3, {number})", "start": f"truncate(2, {group})"}
                alter(TABLE, partition_by=[words[one] for one in self.partition])
                self.mixed = True
            case "sort by":
                orders = [[], [model.name(ID)], [f"-{model.name(NUMBER)}"]]
                alter(TABLE, sort_by=orders[k % 3])
            case "modes":
                modes = [("copy-on-write", "merge-on-read")[k >> place & 1] for place in range(3)]
                verbs = ("delete", "update", "merge")
                alter(TABLE, properties={f"write.{verb}.mode": mode for verb, mode in zip(verbs, modes, strict=True)})
            case "isolation":
                self.snapshot_isolation = bool(k % 2)
                level = "snapshot" if k % 2 else "serializable"
                alter(
                    TABLE, properties={f"write.{verb}.isolation-level": level for verb in ("delete", "update", "merge")}
                )

    def _roll_back(self, k: int) -> None:
        line = self.model.line(self.model.branches.get("main"))
        if line:
            to = line[k % len(line)]
            self.lake.rollback(TABLE, snapshot=to)
            self.model.branches["main"] = to
            self.moved()

    # the rules

    @rule(kind=st.sampled_from(WRITES), given=NEW, k=NUMBERS, branch=st.sampled_from([*LINES[:1] * 3, *LINES]))
    def rows_change(self, kind: str, given: list[Any], k: int, branch: str) -> None:
        self.step(kind, given, k, branch if branch in self.model.branches else "main")

    @rule(kind=UPKEEP, k=NUMBERS, branch=st.sampled_from(LINES))
    def upkeep_is_done(self, kind: str, k: int, branch: str) -> None:
        self.step(kind, [], k, branch if branch in self.model.branches else "main")

    @rule(kind=SHAPES, k=NUMBERS)
    def the_shape_changes(self, kind: str, k: int) -> None:
        self._shape(kind, k)

    @rule(place=st.integers(0, 20), kind=st.sampled_from(["back", "to any", "to a branch"]))
    def main_goes_elsewhere(self, place: int, kind: str) -> None:
        if kind == "back":
            self._roll_back(place)
        elif self.model.versions:
            names: list[int | str] = list(self.model.branches) if kind == "to a branch" else list(self.model.versions)
            to = names[place % len(names)]
            self.lake.set_current(TABLE, to)  # to a branch made of it: a fast forward
            self.model.branches["main"] = self.model.branches[to] if isinstance(to, str) else to
            self.moved()

    @precondition(lambda self: self.model.versions)
    @rule(kind=st.sampled_from(["branch", "tag", "tag", "drop branch", "drop tag"]), place=st.integers(0, 20))
    def a_name_is_given_or_taken(self, kind: str, place: int) -> None:
        to = list(self.model.versions)[place % len(self.model.versions)]
        side, tag = LINES[1], f"tag {place % 3}"
        if kind == "branch":
            self.lake.branch(TABLE, side, to, replace=True)
            self.model.branches[side] = to
        elif kind == "tag":
            self.lake.tag(TABLE, tag, to, replace=True)
            self.model.tags[tag] = to
        elif kind == "drop branch" and self.model.branches.pop(side, None) is not None:
            self.lake.drop_branch(TABLE, side)
        elif kind == "drop tag" and self.model.tags.pop(tag, None) is not None:
            self.lake.drop_tag(TABLE, tag)

    @rule(given=NEW.filter(bool), k=NUMBERS)
    def files_are_added(self, given: list[Any], k: int) -> None:
        rows = self.new([given[0]] * (1 + k % 2))  # of one partition, whatever partitions the table
        self.made += 1
        path = Path(self.folder.name, "files of others", f"{self.made} ü.parquet")
        path.parent.mkdir(exist_ok=True)
        pq.write_table(self.arrow(rows), path)
        self.commits(Change(lambda lake: lake.add_files(TABLE, str(path)), lambda old: old + rows), "main")

    @rule(
        first=st.sampled_from(["append", "overwrite", "overwrite where", "upsert", "delete", "update", "move", "merge", "merge by source", "compact some", "sort"]),  # noqa: E501
        second=st.sampled_from(WRITES) | UPKEEP | SHAPES | st.just("roll back"),
        given=NEW, others=NEW, k=NUMBERS, j=NUMBERS,
    )  # fmt: skip
    def two_race(self, first: str, second: str, given: list[Any], others: list[Any], k: int, j: int) -> None:
        upkeep = first in ("compact some", "sort")
        change = self.upkeep(first, k, "main") if upkeep else self.write(first, given, k, "main")
        met = self.model.rows()
        inner = self.write(second, others, j, "main").effect if second in WRITES else same
        lake = self.lake

        def meanwhile() -> None:
            self.lake, self.other = self.other, self.lake
            if second == "orphans":
                self._orphans(j, DAY)
            else:
                self.step(second, others, j, "main")
            self.lake, self.other = self.other, self.lake

        with during(meanwhile) as done:
            try:
                change.run(lake)
                refused = False
            except CommitConflict:
                assert done
                refused = True
        there = self.model.rows()
        expected = [change.effect(there), inner(change.effect(met))]
        if self.snapshot_isolation:
            expected.append(there - (met - change.effect(met)) + (change.effect(met) - met))
        if refused:
            expected = [there]
        found = self.rows_of(self.lake.table(TABLE))
        fitting = [rows for rows in expected if seen(rows, self.model.columns.values()) == found]
        assert fitting, "as if one had come after the other"
        self.landed("main", fitting[0])

    @rule(number=st.integers(0, 5), keep=st.booleans())
    def a_handle_is_old(self, number: int, keep: bool) -> None:
        head = self.model.branches.get("main")
        if (keep or not self.handles) and head is not None:
            self.handles.append((self.lake.table(TABLE), self.visible(), dict(self.model.columns), head))
        elif self.handles:
            handle, rows, columns, snapshot = self.handles[number % len(self.handles)]
            try:
                assert self.rows_of(handle, columns) == rows
            except IceblinkError:
                assert snapshot not in self.model.versions
                return
            if columns == self.model.columns and not (self.wide and "int32" in str(handle.schema)):
                chosen = lambda row: value(row, ID) < 5  # noqa: E731
                old = Change(
                    lambda lake: lake.write(TABLE, handle.filter(_.id < 5)), lambda now: now + kept(rows, chosen)
                )
                self.commits(old, "main")

    @precondition(lambda self: self.model.versions)
    @rule(place=st.integers(0, 20), by=st.sampled_from(["snapshot", "tag", "time"]))
    def an_earlier_version_is_read(self, place: int, by: str) -> None:
        to = list(self.model.versions)[place % len(self.model.versions)]
        if by == "tag" and self.model.tags:
            name = sorted(self.model.tags)[place % len(self.model.tags)]
            to, found = self.model.tags[name], self.lake.table(TABLE, tag=name)
        elif by == "time" and self.moments:
            moment, to = self.moments[place % len(self.moments)]
            if to not in self.model.versions:
                with_gap = False
                try:
                    self.lake.table(TABLE, as_of=moment)
                except SnapshotNotFound:
                    with_gap = True
                assert with_gap, "what was current then is not kept"
                return
            try:
                found = self.lake.table(TABLE, as_of=moment)
            except SnapshotNotFound:
                assert self.model.cut, "what is before a gap is forgotten"
                return
        else:
            found = self.lake.table(TABLE, snapshot=to)
        version = self.model.versions[to]
        assert self.rows_of(found, dict(version.columns)) == seen(version.rows, version.columns.values())

    @precondition(lambda self: self.model.branches)
    @rule(start=st.integers(0, 20), branch=st.sampled_from(LINES))
    def changes_are_read(self, start: int, branch: str) -> None:
        branch = branch if branch in self.model.branches else next(iter(self.model.branches))
        line, columns = self.model.line(self.model.branches[branch]), self.model.columns
        starts = line if line[-1] in self.model.cut else [*line, None]
        after = starts[start % len(starts)]
        between = list(reversed(line[: line.index(after)] if after is not None else line))
        state = Counter[Row]() if after is None else seen(self.model.versions[after].rows, columns.values())
        until = seen(self.model.rows(branch), columns.values())
        net = self.lake.changes(TABLE, after=after, branch=branch, net=True).to_pylist()
        assert self.split(net) == (state - until, until - state)
        added: Rows = Counter()
        for snapshot in between:
            version = self.model.versions[snapshot]
            if version.grows:
                parent = Counter() if version.parent is None else self.model.versions[version.parent].rows
                added += seen(version.rows - parent, columns.values())
        appended = self.lake.appended(TABLE, after=after, branch=branch, overwrites="skip")
        assert self.rows_of(appended) == added
        ordered = self.lake.changes(TABLE, after=after, branch=branch).order_by("_change_ordinal").to_pylist()
        for _n, group in groupby(ordered, key=lambda row: row["_change_ordinal"]):
            went, came = self.split(list(group))
            assert went <= state
            state = state - went + came
        assert state == until

    def split(self, changes: list[dict[str, Any]]) -> tuple[Rows, Rows]:
        """Return the rows that went, and those that came."""
        parts: dict[str, list[dict[str, Any]]] = {"delete": [], "insert": []}
        for row in changes:
            parts[row["_change_type"]].append(row)
        went, came = (self.rows_of(_Listed(rows)) for rows in (parts["delete"], parts["insert"]))
        return went, came

    # what always holds

    @invariant()
    def history_and_names_are_those_of_the_model(self) -> None:
        metadata = self.metadata().metadata
        assert {one.snapshot_id for one in metadata.snapshots} == self.model.versions.keys()
        assert len(metadata.snapshots) == len(self.model.versions)
        assert {name: ref.snapshot_id for name, ref in metadata.refs.items()} == self.model.branches | self.model.tags
        assert metadata.current_snapshot_id == self.model.branches.get("main")

    @invariant()
    def what_is_reached_is_there_and_nothing_else(self) -> None:
        table, reached = self.metadata(), set[str]()
        for snapshot in table.metadata.snapshots:
            reached.add(snapshot.manifest_list)
            for manifest, files in self.files(table, snapshot):
                reached |= {manifest, *(file[0] for file in files)}
        folder = Path(table.location())
        assert all(Path(path).exists() for path in reached)
        own = {path for path in reached if path.startswith(f"{folder}/")}
        assert {str(path) for kind in ("*.avro", "*.parquet") for path in folder.rglob(kind)} == own
        assert not list(folder.rglob("iceblink-*"))

    @invariant()
    def summaries_count_what_is_there(self) -> None:
        table = self.metadata()
        for name in table.metadata.refs:
            snapshot = table.metadata.snapshot_by_name(name)
            files = [file for _path, listed in self.files(table, snapshot) for file in listed]
            data, deletes = ([file for file in files if bool(file[1]) is kind] for kind in (False, True))
            summary = snapshot.summary
            assert int(summary["total-data-files"]) == len(data)
            assert int(summary["total-records"]) == sum(file[2] for file in data)
            assert int(summary["total-delete-files"] or 0) == len(deletes)
            assert int(summary["total-position-deletes"] or 0) == sum(file[2] for file in deletes)
            assert int(summary["total-files-size"]) == sum(file[3] for file in files)

    def files(self, table: Any, snapshot: Any) -> Iterator[tuple[str, list[tuple[str, int, int, int]]]]:
        """Yield the manifests of a snapshot, and the live files in each: path, content, rows, bytes."""
        for manifest in snapshot.manifests(table.io):
            assert manifest.content in (ManifestContent.DATA, ManifestContent.DELETES)
            path = manifest.manifest_path
            if path not in self.listed:
                entries = manifest.fetch_manifest_entry(table.io)
                self.listed[path] = [
                    (file.file_path, int(file.content), file.record_count, file.file_size_in_bytes)
                    for file in (entry.data_file for entry in entries)
                ]
            yield path, self.listed[path]


@dataclass(frozen=True)
class _Listed:
    """Rows that are a list already."""

    rows: list[dict[str, Any]]

    def to_pylist(self) -> list[dict[str, Any]]:
        return self.rows


@contextmanager
def during(action: Callable[[], None]) -> Iterator[list[Event]]:
    """Do something once when files of a change are written, and it is not yet committed."""
    done: list[Event] = []

    def once(event: Event) -> None:
        if isinstance(event, FileWritten | FilesRewritten) and not done:
            done.append(event)
            action()

    with observing(once):
        yield done


def test_whatever_is_done_in_whatever_order_comes_out_as_the_model_says() -> None:
    run_state_machine_as_test(
        Interleaving,
        settings=settings(
            max_examples=RUNS or 10,
            stateful_step_count=50 if RUNS else 25,
            suppress_health_check=list(HealthCheck),
        ),
    )
