"""Catalogs and stores that stumble: whatever the way to them does, a commit is made once, whole, or not at all.

``ICEBLINK_DISTURBED_RUNS=84 pytest tests/integration/test_disturbed_lakes.py`` makes 504 random writes.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

import iceblink as ib
from iceblink.errors import CommitUnknown
from iceblink.lake.storage import Storage
from servers.amazon import BUCKET, glue, s3
from servers.disturbed import Disturbed, losing, never, sometimes

RUNS, WRITES = int(os.environ.get("ICEBLINK_DISTURBED_RUNS", "2")), 6
FAULTY_SHARE = 0.12
QUICKLY = {"s3.retry-strategy-impl": "pyarrow.fs.AwsDefaultS3RetryStrategy"}  # Amazon's first wait is half a second


@pytest.fixture(scope="module")
def proxy(amazon_endpoint: str) -> Iterator[Disturbed]:
    with Disturbed(amazon_endpoint) as found:
        yield found


def lake_at(catalog: str, store: str, name: str = "glue") -> ib.Lake:
    """Return the lake that is reached by these endpoints of Glue and S3."""
    properties: dict[str, Any] = {**s3(store), **glue(catalog), **QUICKLY}
    return ib.connect(name=name, **properties)


@pytest.fixture(scope="module")
def lake(proxy: Disturbed) -> Iterator[ib.Lake]:
    """The lake whose catalog and store are reached through the proxy."""
    with lake_at(proxy.endpoint, proxy.endpoint) as found:
        yield found


@pytest.fixture(scope="module")
def plainly(amazon_endpoint: str) -> Iterator[ib.Lake]:
    """The lake without any disturbance."""
    with lake_at(amazon_endpoint, amazon_endpoint) as lake:
        yield lake


def numbers(lake: ib.Lake, name: str) -> dict[int, int]:
    """Return what a table has, and see to it that no id is there twice."""
    rows = lake.table(name).to_pylist()
    found = {row["id"]: row["n"] for row in rows}
    assert len(found) == len(rows)
    return found


@pytest.mark.parametrize("seed", range(RUNS))
def test_no_commit_is_lost_doubled_or_half_visible(
    proxy: Disturbed, lake: ib.Lake, plainly: ib.Lake, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr("iceblink.lake.retries.FIRST_WAIT_S", 0.005)
    name, chosen = f"disturbed.t{seed}_{uuid4().hex[:6]}", random.Random(seed)
    proxy.choose = never
    plainly.create(name, {"id": "long", "n": "long"})
    model: dict[int, int] = {}
    snapshots = 0
    for step in range(WRITES):
        ids = sorted(chosen.sample(range(20), 5))
        after, write = _step(chosen.choice(("append", "upsert", "overwrite")), model, ids, step)
        proxy.choose = sometimes(chosen.randrange(1 << 30), FAULTY_SHARE)
        try:
            write(lake, name)
            outcomes = [after]
        except CommitUnknown:
            outcomes = [model, after]
        except ib.IceblinkError:
            outcomes = [model]
        proxy.choose = never
        found = numbers(plainly, name)
        assert found in outcomes
        assert plainly.history(name).count() == snapshots + (found == after)
        model, snapshots = found, snapshots + (found == after)


def _step(mode: str, model: dict[int, int], ids: list[int], step: int) -> tuple[dict[int, int], Any]:
    """Return what the table has after a write of these ids, and the write."""
    if mode == "append":
        ids = [100 * (step + 1) + number for number in ids]
    rows = [{"id": number, "n": step} for number in ids]
    given = {"on": "id"} if mode == "upsert" else {}
    new = {row["id"]: row["n"] for row in rows}
    return new if mode == "overwrite" else model | new, lambda lake, name: lake.write(name, rows, mode, **given)


def test_an_answer_of_glue_that_is_lost_corrupts_nothing(proxy: Disturbed, lake: ib.Lake, plainly: ib.Lake) -> None:
    lost: list[str] = []

    def choose(method: str, target: str) -> str:
        if target == "AWSGlue.UpdateTable" and not lost:
            lost.append(target)
            return "lost answer"
        return ""

    name = f"disturbed.lost_{uuid4().hex[:6]}"
    proxy.choose = never
    plainly.write(name, {"id": [1], "n": [1]}, "create")
    proxy.choose = choose
    lake.write(name, {"id": [2], "n": [2]})  # Amazon's client sends it again
    assert lost
    assert numbers(plainly, name) == {1: 1, 2: 2}
    assert plainly.history(name).count() == 2


def test_a_create_whose_answer_is_lost_is_made_once(proxy: Disturbed, lake: ib.Lake, plainly: ib.Lake) -> None:
    lost: list[str] = []

    def choose(method: str, target: str) -> str:
        if target == "AWSGlue.CreateTable" and not lost:
            lost.append(target)
            return "lost answer"
        return ""

    name = f"disturbed.made_{uuid4().hex[:6]}"
    proxy.choose = choose
    lake.write(name, {"id": [1], "n": [1]}, "create")
    assert lost
    assert numbers(plainly, name) == {1: 1}


def test_a_commit_whose_answer_postgresql_could_not_send_is_made_once(postgres_uri: str, tmp_path: Any) -> None:
    port = int(postgres_uri.rpartition(":")[2].partition("/")[0])
    stored: dict[str, Any] = {"name": uuid4().hex, "warehouse": f"file://{tmp_path}/files"}
    with ib.connect(uri=postgres_uri, **stored) as plainly, losing(port, b"COMMIT", 1) as (way, lost):
        plainly.write("n.t", {"x": [1]}, "create")
        with ib.connect(uri=postgres_uri.replace(str(port), str(way)), **stored) as lake:
            assert lake.table("n.t").count() == 1
            lost.clear()
            lake.write("n.t", {"x": [2]})
        assert lost
        assert sorted(row["x"] for row in plainly.table("n.t").to_pylist()) == [1, 2]
        assert plainly.history("n.t").count() == 2


def test_reads_go_on_when_answers_are_cut_short_or_refused(proxy: Disturbed, lake: ib.Lake, plainly: ib.Lake) -> None:
    name = f"disturbed.read_{uuid4().hex[:6]}"
    rows = [{"id": number, "n": number % 7} for number in range(20_000)]
    proxy.choose = never
    plainly.write(name, rows, "create", properties={"write.parquet.row-group-limit": "2000"})
    proxy.seen.clear()
    proxy.choose = sometimes(1, 0.3)
    assert sorted(lake.table(name).to_pylist(), key=lambda row: row["id"]) == rows
    proxy.choose = never
    assert proxy.seen.total() > proxy.seen[""]


def test_a_store_that_stays_away_is_told_of_as_such(proxy: Disturbed, plainly: ib.Lake) -> None:
    name = f"disturbed.away_{uuid4().hex[:6]}"
    proxy.choose = never
    plainly.write(name, {"id": [1], "n": [1]}, "create")
    impatient: dict[str, Any] = {**s3(proxy.endpoint), **glue(proxy.endpoint), **QUICKLY, "storage.patience-s": "0.1"}
    with ib.connect(name="glue", **impatient) as lake:
        table = lake.table(name)
        proxy.choose = lambda method, target: "503" if method == "GET" else ""
        with pytest.raises(ib.IceblinkError) as caught:
            table.to_pylist()
        proxy.choose = never
    assert caught.value.code == "storage-error"
    assert "not-to-be-shown-anywhere" not in str(caught.value)


def test_a_small_file_that_goes_while_it_is_read_is_missing_and_not_waited_for(amazon_endpoint: str) -> None:
    storage = Storage.of(s3(amazon_endpoint))
    path = f"s3://{BUCKET}/{uuid4().hex}.json"
    storage.write(path, b"{}")
    with storage.open_input(path) as file:
        storage.delete(path)
        with pytest.raises(FileNotFoundError):
            file.read()
