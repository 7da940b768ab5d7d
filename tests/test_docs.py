"""The documentation is true: its code runs, and prints or raises what stands under it."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from iceblink.cli.main import main
from iceblink.errors import IceblinkError

ROOT = Path(__file__).parents[1]
FOLDERS = ["how-to", "explanation"]
IN_FOLDERS = sorted(path.relative_to(ROOT).as_posix() for name in FOLDERS for path in ROOT.glob(f"docs/{name}/*.md"))
PAGES = ["README.md", "docs/index.md", "docs/tutorial.md", *IN_FOLDERS]
START_RAY = {"docs/how-to/neighbours.md", "docs/how-to/ray.md"}
MARKED = [pytest.param(page, marks=pytest.mark.alone) if page in START_RAY else page for page in PAGES]
CODE = r"^```(python|bash)\n(?P<code>.*?)^```$"
TOLD = r"(?:\n\n```text\n(?P<told>.*?)^```$)?"
BLOCK = re.compile(CODE + TOLD, re.MULTILINE | re.DOTALL)
SNAPSHOT = re.compile(r"(?<= at snapshot )\d+")  # an id is drawn anew for every run


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


@pytest.mark.parametrize("page", MARKED)
def test_the_python_of_a_page_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "page"}
    for line, code, told in blocks(page, "python"):
        if told is None:
            exec(compile("\n" * line + code, str(ROOT / page), "exec"), names)
        else:
            printed = said(code, names, str(ROOT / page), line)
            assert SNAPSHOT.sub("N", printed) == SNAPSHOT.sub("N", told), f"{page}:{line}"


def test_the_commands_of_the_command_line_page_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for line, code, told in blocks("docs/how-to/command-line.md", "bash"):
        status = 0
        for command in filter(None, code.splitlines()):
            feeder, ours, arguments = command.rpartition("iceblink ")
            if feeder or not ours:
                fed = subprocess.run(["bash", "-c", feeder.rstrip("| ") or command], capture_output=True, text=True)
                monkeypatch.setattr("sys.stdin", io.StringIO(fed.stdout))
            status = main(shlex.split(arguments)) if ours else fed.returncode
        printed = capsys.readouterr()
        if told is None:
            assert status == 0, f"line {line}: {printed.err}"
        else:
            assert printed.out + printed.err == told, f"line {line}"
