"""Changes of rows beside others' commits, by isolation level; and one that is killed on the way."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

import iceblink as ib
from iceblink import _
from iceblink.errors import CommitConflict
from iceblink.events import Event, FileWritten, observing
from iceblink.lake.leftovers import remove_leftovers

MODES = ["copy-on-write", "merge-on-read"]
KILLED = """
import os, signal, sys
import iceblink as ib
from iceblink import _
from iceblink.events import FileWritten, observing

left = 2
def die(event):
    global left
    if isinstance(event, FileWritten):
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

lake = ib.connect(sys.argv[1])
with observing(die):
    lake.update("n.t", {"n": _.n + 1}, _.id < 3)
print("survived")
"""


def made(lake: ib.Lake, mode: str, level: str) -> None:
    properties = {f"write.{verb}.mode": mode for verb in ("delete", "update", "merge")}
    properties |= {f"write.{verb}.isolation-level": level for verb in ("delete", "update", "merge")}
    rows = pa.table({"id": pa.array(range(6)), "g": ["a", "b"] * 3, "n": pa.array([0] * 6)})
    lake.write("n.t", rows, "create", partition_by=["g"], properties=properties)


class Meanwhile:
    """Does something when the change that is observed has written its first file, which it has not committed."""

    def __init__(self, do: Callable[[], object]) -> None:
        self.do, self.done = do, False

    def __call__(self, event: Event) -> None:
        if isinstance(event, FileWritten) and not self.done:
            self.done = True
            self.do()


OTHERS: dict[str, tuple[Callable[[ib.Lake], object], int, bool, bool]] = {
    # rows of the table after it, and whether it is a conflict: serializable, snapshot
    "rows that match": (lambda lake: lake.write("n.t", [{"id": 2, "g": "a", "n": 5}]), 7, True, False),
    "rows that do not": (lambda lake: lake.write("n.t", [{"id": 9, "g": "z", "n": 5}]), 7, False, False),
    "a touched file, rewritten": (lambda lake: lake.sql("UPDATE n.t SET n = 9 WHERE id = 4"), 6, True, True),
    "a touched file, removed": (lambda lake: lake.sql("DELETE FROM n.t WHERE g = 'a'"), 3, True, True),
    "another file, rewritten": (lambda lake: lake.sql("UPDATE n.t SET n = 9 WHERE id = 5"), 6, False, False),
}
TELLING = ["rows that match", "a touched file, rewritten"]


@pytest.mark.parametrize(("level", "done"), [("serializable", list(OTHERS)), ("snapshot", TELLING)])
@pytest.mark.parametrize("mode", MODES)
def test_what_others_do_meanwhile_is_a_conflict_by_the_level(
    lake: ib.Lake, mode: str, level: str, done: list[str]
) -> None:
    for place, what in enumerate(done):
        other, rows, serializable, snapshot = OTHERS[what]
        if place:
            lake.drop("n.t")
        made(lake, mode, level)
        meanwhile = Meanwhile(lambda other=other: other(lake))  # type: ignore[misc]
        conflict = serializable if level == "serializable" else snapshot
        with observing(meanwhile):
            if conflict:
                with pytest.raises(CommitConflict):
                    lake.sql("UPDATE n.t SET n = 1 WHERE g = 'a' AND id < 4")
            else:
                lake.sql("UPDATE n.t SET n = 1 WHERE g = 'a' AND id < 4")
        assert meanwhile.done
        ones = lake.table("n.t").filter(_.n == 1).count()
        assert ones == (0 if conflict else 2), what
        assert lake.table("n.t").count() == rows, what
        files = {row["file_path"] for row in lake.table("n.t.all_files").to_pylist()}
        folder = Path(lake.session.catalog.load("n.t").location.removeprefix("file://"))
        assert {path.name for path in folder.rglob("*.parquet")} == {file.rpartition("/")[2] for file in files}


def test_two_who_count_up_at_once_lose_no_step(lake: ib.Lake, tmp_path: Path) -> None:
    made(lake, "merge-on-read", "serializable")
    failures: list[BaseException] = []

    def count_up() -> None:
        try:
            for _step in range(3):
                while True:
                    try:
                        lake.sql("UPDATE n.t SET n = n + 1 WHERE id = 3")
                        break
                    except CommitConflict:
                        continue
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=count_up) for _one in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert lake.table("n.t").filter(_.id == 3).to_pylist() == [{"id": 3, "g": "b", "n": 6}]
    assert lake.table("n.t").count() == 6


def test_a_killed_update_leaves_the_table_as_it_was(tmp_path: Path) -> None:
    with ib.connect(tmp_path) as lake:
        made(lake, "merge-on-read", "serializable")
        before = lake.table("n.t").order_by("id").to_pylist()
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    with ib.connect(tmp_path) as lake:
        assert lake.table("n.t").order_by("id").to_pylist() == before
        assert lake.history("n.t").count() == 1
        left = remove_leftovers(lake.session.catalog.load("n.t"), older_than_s=0)
        assert sum(path.endswith("-deletes.parquet") for path in left) >= 1
        folder = Path(lake.session.catalog.load("n.t").location.removeprefix("file://"))
        assert len(list(folder.rglob("*.parquet"))) == 2
        lake.update("n.t", {"n": _.n + 1}, _.id < 3)
        assert [row["n"] for row in lake.table("n.t").order_by("id").to_pylist()] == [1, 1, 1, 0, 0, 0]
