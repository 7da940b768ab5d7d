"""Two processes that write and two that compact, at once on the same tables: a ledger of each writer's rows is kept.

``ICEBLINK_CROWDED_STEPS=200 pytest tests/integration/test_crowded_tables.py`` goes on for longer.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import iceblink as ib
from table_files import inside, on_disk, reachable, strangers

STEPS = os.environ.get("ICEBLINK_CROWDED_STEPS", "3")
TABLES = {"n.copied": "copy-on-write", "n.merged ü": "merge-on-read"}

WRITER = """
import json, random, sys
import iceblink as ib
from iceblink.errors import CommitConflict

folder, number, steps = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
chosen, ledger, commits, fresh = random.Random(number), {}, {}, 0
lake = ib.connect(folder)

def change(table, rows):
    global fresh
    own = sorted(rows)
    some = own[: 2 + len(own) // 4]
    of_mine = f"w = {number} AND id IN ({', '.join(map(str, some)) or 'NULL'})"
    quoted = 'n."' + table[2:] + '"'
    match chosen.choice(("append", "append", "delete", "update", "upsert")):
        case "append":
            ids = range(fresh, fresh + 3)
            fresh += 3
            lake.write(table, {"w": [number] * 3, "id": list(ids), "n": [0] * 3})
            return rows | dict.fromkeys(ids, 0)
        case "delete":
            lake.sql(f"DELETE FROM {quoted} WHERE {of_mine}")
            return {id: n for id, n in rows.items() if id not in some}
        case "update":
            lake.sql(f"UPDATE {quoted} SET n = n + 1 WHERE {of_mine}")
            return rows | {id: rows[id] + 1 for id in some}
        case _:
            ids = [*some[:1], fresh]
            fresh += 1
            lake.write(table, {"w": [number] * len(ids), "id": ids, "n": [7] * len(ids)}, "upsert", on=["w", "id"])
            return rows | dict.fromkeys(ids, 7)

for step in range(steps):
    for table in sys.argv[4:]:
        state = chosen.getstate()
        while True:
            try:
                ledger[table] = change(table, ledger.get(table, {}))
                break
            except CommitConflict:
                chosen.setstate(state)  # the same again, of what the table has become
print(json.dumps({table: sorted([number, id, n] for id, n in rows.items()) for table, rows in ledger.items()}))
"""

COMPACTOR = """
import sys, threading, time
import iceblink as ib
from iceblink.errors import CommitConflict

lake, done, commits = ib.connect(sys.argv[1]), threading.Event(), 0
threading.Thread(target=lambda: (sys.stdin.read(), done.set()), daemon=True).start()
while not done.is_set():
    for table in sys.argv[3:]:
        try:
            commits += lake.compact(table, min_files=3, sort_by=["id"] if sys.argv[2] == "sorted" else None).commits
            lake.rewrite_manifests(table)
        except CommitConflict:
            pass  # others are always faster: the next round
    done.wait(0.3)
print(commits)
"""


def test_of_two_writers_and_two_compactions_at_once_every_row_is_there_once(tmp_path: Path) -> None:
    with ib.connect(tmp_path) as lake:
        for name, mode in TABLES.items():
            properties = {f"write.{verb}.mode": mode for verb in ("delete", "update", "merge")}
            lake.create(name, {"w": "long", "id": "long", "n": "long"}, properties=properties)
        compactors = [started(COMPACTOR, tmp_path, kind, *TABLES) for kind in ("packed", "sorted")]
        writers = [started(WRITER, tmp_path, str(number), STEPS, *TABLES) for number in range(2)]
        ledgers = [json.loads(ended(one)) for one in writers]
        compactions = [int(ended(one)) for one in compactors]
        assert sum(compactions) > 0
        for name in TABLES:
            expected = sorted(tuple(row) for ledger in ledgers for row in ledger[name])
            assert sorted(tuple(row.values()) for row in lake.table(name).to_pylist()) == expected
            table = lake.session.catalog.load(name).pyiceberg
            assert sorted(tuple(row.values()) for row in table.scan().to_arrow().to_pylist()) == expected
            assert on_disk(table) == inside(table, reachable(table)), "who was overtaken leaves no file"
            assert strangers(table) == set()
            lake.expire_snapshots(name, older_than=timedelta(0))
            table = lake.session.catalog.load(name).pyiceberg
            assert on_disk(table) == reachable(table)
            assert sorted(tuple(row.values()) for row in lake.table(name).to_pylist()) == expected


def started(program: str, *given: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, *map(str, given)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> str:
    """Close its input, which ends a compactor, and return what it says."""
    said, complaint = process.communicate()
    assert process.returncode == 0, complaint
    return said
