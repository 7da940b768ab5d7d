"""A lake on Ray whose disk is full: the write is an error of ours, and leaves nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cluster_tool import why_not

FULL_DISK = """
import json, os, sys
import iceblink as ib

folder = sys.argv[1]
with ib.connect(folder) as local:
    local.sql("SELECT i AS id, repeat('x', 100) AS text FROM range(200000) t(i)").write("n.t", "create")


def files():
    return {os.path.join(at, name) for at, _, names in os.walk(folder) for name in names}


def hashed(batch):
    return {"text": [os.urandom(100).hex() for _ in range(len(batch))]}


before = files()
settings = dict(file_bytes=1 << 20, threads=2, memory_bytes=500 << 20, spill_dir="/tmp")
with ib.connect(folder, engine=ib.RayEngine(small_bytes=0, **settings)) as lake:
    said = []
    for mode in ("create", "replace"):
        try:
            lake.table("n.t").map_batches(hashed, schema={"text": "string"}).write("n.new", mode)
        except ib.IceblinkError as error:
            said.append(error.code)
    print(json.dumps({"said": said, "left": sorted(files() - before), "tables": lake.tables("n")}))
"""


@pytest.mark.alone
@pytest.mark.skipif(bool(why_not()), reason=why_not() or "never")
def test_a_full_disk_ends_a_write_on_ray_and_leaves_nothing(tmp_path: Path) -> None:
    small = "mount -t tmpfs -o size=12m tmpfs $1 && exec $0 -c $2 $1"  # gone with the process
    command = ["unshare", "--mount", "sh", "-c", small.replace("$2", '"$2"'), sys.executable, str(tmp_path), FULL_DISK]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told == {"said": ["write-error", "write-error"], "left": [], "tables": ["n.t"]}
