from __future__ import annotations

import json
import math
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iceblink.errors import CheckpointBusy, WriteError
from iceblink.lake.files import NewFile
from iceblink.lake.storage import Storage
from iceblink.run.checkpoint_journal import Journal, folder_name, held, packed, unpacked

plain = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.decimals(allow_nan=False)
    | st.uuids()
)  # fmt: skip
keys = st.integers() | st.text()
values = st.recursive(
    plain, lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(keys, inner), max_leaves=8
)


@given(values)
def test_every_value_comes_back_with_its_type(value: Any) -> None:
    assert repr(unpacked(json.loads(json.dumps(packed(value))))) == repr(value)


def test_a_new_file_comes_back() -> None:
    partition = (None, True, 3, math.inf, "ä", b"\0", Decimal("1.20"), UUID(int=7))
    file = NewFile("p", "t", 9, 2, 1, partition, None, {"column_sizes": {1: 5}, "lower_bounds": {1: b"x"}})
    assert unpacked(json.loads(json.dumps(packed([file])))) == [file]


def test_entries_come_back_in_order_in_another_process(tmp_path: Path) -> None:
    journal = Journal(Storage(), str(tmp_path))
    for number in range(12):
        journal.add("one", number=number)
    again = Journal(Storage(), str(tmp_path))
    assert [entry["number"] for entry in again.of("one")] == list(range(12))
    again.add("two")
    assert Journal(Storage(), str(tmp_path)).entries[-1] == {"kind": "two"}


def test_a_file_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fails() -> None:
        with Journal(Storage(), str(tmp_path)).writing("x") as stream:
            stream.write(b"half")
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fails()
    assert list(tmp_path.iterdir()) == []


def test_an_entry_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    journal = Journal(Storage(), str(tmp_path))
    tmp_path.rmdir()
    with pytest.raises(WriteError, match="journal"):
        journal.add("one")
    assert journal.entries == []


@pytest.mark.parametrize("name", ["a", "a/b", "../..", "ä" * 300, "\0"])
def test_a_folder_name_is_one_that_every_file_system_takes(name: str) -> None:
    found = folder_name(name)
    assert found.isascii()
    assert "/" not in found
    assert len(found) < 60
    assert found != folder_name(name + " ")


def test_a_place_where_no_file_can_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "jobs").write_text("")
    with pytest.raises(WriteError, match="journal"), held(Storage(), str(tmp_path / "jobs" / "j"), "j"):
        pass


HOLDS = """
import sys, time
from iceblink.lake.storage import Storage
from iceblink.run.checkpoint_journal import held
with held(Storage(), sys.argv[1], "j"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_job_is_free_again_when_the_process_that_held_it_is_killed(tmp_path: Path) -> None:
    folder = str(tmp_path / "jobs" / "j")
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(CheckpointBusy, match=str(holder.pid)), held(Storage(), folder, "j"):
            pass
        holder.kill()
        holder.wait()
    with held(Storage(), folder, "j"), pytest.raises(CheckpointBusy), held(Storage(), folder, "j"):
        pass
    with held(Storage(), folder, "j"):
        Journal(Storage(), folder).remove()
    assert not (tmp_path / "jobs").exists()
