from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from iceblink.plan.fingerprint import code_digest, parts_of
from iceblink.plan.nodes import Memory

MODULE = """
import functools
import pyarrow.compute as pc
from iceblink.plan.fingerprint import code_digest

LIMIT = 3

def helper(x):
    return x if x in {"a", "b", "c"} else LIMIT

class Model:
    size = 4
    def __init__(self, path):
        self.path = path
    def __call__(self, batch):
        return [helper(x) for x in batch]

def made(n):
    def inner(batch):
        return pc.add(batch, n)
    return inner

found = [code_digest(one) for one in (helper, Model, Model("p"), functools.partial(Model, "p"), made(1), len)]
"""


def digests(text: str) -> list[str]:
    """Return the digests of what a module of this text has."""
    names: dict[str, Any] = {"__name__": "functions"}
    exec(text, names)
    found: list[str] = names["found"]
    return found


def test_a_function_has_one_digest_wherever_its_lines_are() -> None:
    first = digests(MODULE)
    assert len(set(first)) == 6
    assert digests("# moved\n\n" + MODULE.replace("LIMIT = 3", "LIMIT = 3  # remarked")) == first


def test_a_function_has_one_digest_in_every_process(tmp_path: Path) -> None:
    path = tmp_path / "functions.py"
    path.write_text(MODULE + "\nprint(found[1:])")
    chosen = os.environ | {"PYTHONHASHSEED": "random"}
    runs = [subprocess.run([sys.executable, path], capture_output=True, text=True, env=chosen) for _ in range(2)]
    assert runs[0].stdout == runs[1].stdout != "", runs[0].stderr


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        ("LIMIT = 3", "LIMIT = 4", [True, True, True, True, False, False]),
        ('"c"}', '"d"}', [True, True, True, True, False, False]),
        ("size = 4", "size = 5", [False, True, True, True, False, False]),
        ('Model("p")', 'Model("q")', [False, False, True, False, False, False]),
        ('Model, "p"', 'Model, "q"', [False, False, False, True, False, False]),
        ("made(1)", "made(2)", [False, False, False, False, True, False]),
        ("pc.add", "pc.subtract", [False, False, False, False, True, False]),
    ],
)
def test_what_changed_shows_in_the_functions_that_use_it(before: str, after: str, changed: list[bool]) -> None:
    assert before in MODULE
    found = zip(digests(MODULE), digests(MODULE.replace(before, after)), strict=True)
    assert [one != other for one, other in found] == changed


def recursive(n: int) -> int:
    return recursive(n - 1) if n else 0


@pytest.mark.parametrize("target", [recursive, partial(recursive, 1), textwrap.TextWrapper, print, "".join, object()])
def test_anything_that_can_be_called_has_a_digest(target: Callable[..., Any]) -> None:
    assert code_digest(target) == code_digest(target)


def test_rows_in_memory_are_known_by_what_they_are_and_not_by_how_they_lie() -> None:
    rows = pa.table({"x": list(range(1_000))})
    pieces = pa.concat_tables([rows.slice(0, 300), rows.slice(300)])
    parts = [parts_of(Memory(one.schema, one)) for one in (rows, pieces, rows.slice(1), rows.take([1, 0]))]
    assert parts[0] == parts[1]
    assert len({str(part) for part in parts}) == 3
