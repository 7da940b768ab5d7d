"""The documentation is true: its code runs, and prints or raises what stands under it."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from iceblink.errors import IceblinkError

ROOT = Path(__file__).parents[1]
HOW_TO = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/how-to/*.md"))
PAGES = ["README.md", "docs/index.md", "docs/tutorial.md", *HOW_TO]
CODE = r"^```(python|bash)\n(?P<code>.*?)^```$"
TOLD = r"(?:\n\n```text\n(?P<told>.*?)^```$)?"
BLOCK = re.compile(CODE + TOLD, re.MULTILINE | re.DOTALL)


def blocks(page: str, kind: str) -> Iterator[tuple[int, str, str | None]]:
    """Yield the line number, the code, and the text that stands right under it, of each block of this kind."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for match in BLOCK.finditer(text):
        if match[1] == kind:
            yield text.count("\n", 0, match.start("code")), match["code"], match["told"]


def said(code: str, names: dict[str, Any], place: str, line: int) -> str:
    """Run `code` and return what it printed, then its error's three lines if it met one."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        try:
            exec(compile("\n" * line + code, place, "exec"), names)
        except IceblinkError as error:
            print(error)
    return out.getvalue()


@pytest.mark.parametrize("page", PAGES)
def test_the_python_of_a_page_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "page"}
    for line, code, told in blocks(page, "python"):
        if told is None:
            exec(compile("\n" * line + code, str(ROOT / page), "exec"), names)
        else:
            assert said(code, names, str(ROOT / page), line) == told, f"{page}:{line}"


def test_the_commands_of_the_command_line_page_run(tmp_path: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for line, code, told in blocks("docs/how-to/command-line.md", "bash"):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", code], cwd=tmp_path, env={**os.environ, "PATH": path},
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0 or told is not None, f"line {line}: {done.stderr}"
        assert told is None or done.stdout + done.stderr == told, f"line {line}"
