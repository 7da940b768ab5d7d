"""In a kernel there is one output that changes; elsewhere IPython is not even imported."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.interactiveshell import InteractiveShell

from iceblink.events import FileWritten, OperatorProgress, PipelineProgress, ScanPlanned, SplitRead, emit
from iceblink.watch.notebook import in_notebook, shown_in_notebook
from iceblink.watch.watching import watching

PLANNED = ScanPlanned("ns.t", files=1, files_total=1, splits=2, rows=2_000, decoded_bytes=1)


@pytest.fixture
def published(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """What a shell of IPython shows, one that has a kernel as Jupyter's has."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance(display_pub_class=CapturingDisplayPublisher, history_load_length=0)
    shell.kernel = object()
    yield shell.display_pub.outputs
    shell.history_manager.end_session()
    InteractiveShell.clear_instance()


def pages(published: list[dict[str, Any]]) -> list[str]:
    return [output["data"]["text/html"] for output in published]


def test_one_output_is_shown_and_then_replaced(published: list[dict[str, Any]]) -> None:
    with watching():
        emit(PLANNED)
        emit(SplitRead("ns.t", rows=500, decoded_bytes=1))
    first, *_, last = pages(published)
    assert "reading 2,000 rows" in first
    assert "500 of 2,000 rows read" in last
    assert 'value="0.250"' in last
    ids = {output["transient"]["display_id"] for output in published}
    assert len(ids) == 1
    assert [bool(output.get("update")) for output in published] == [False] + [True] * (len(published) - 1)


def test_a_pipeline_is_a_table_and_its_names_are_escaped(published: list[dict[str, Any]]) -> None:
    operators = (OperatorProgress("scan ns.t"), OperatorProgress("<lambda>", rows_out=7, waits_for="input"))
    with shown_in_notebook():
        emit(PipelineProgress(1, operators, 3.0, 1 << 30))
        emit(PipelineProgress(1, operators, 4.0, 1 << 30, ended=True))
    last = pages(published)[-1]
    assert "<td>&lt;lambda&gt;</td><td>7</td>" in last
    assert "4 s, 1,024 MiB resident, done" in last


def test_nothing_that_happens_shows_nothing(published: list[dict[str, Any]]) -> None:
    with watching():
        pass
    assert published == []


def test_a_picture_is_not_drawn_for_each_event(published: list[dict[str, Any]]) -> None:
    with watching():
        for _ in range(100):
            emit(FileWritten("ns.t", "f", 1, 1))
    assert "100 written" in pages(published)[-1]
    assert len(published) < 50


def test_a_shell_without_a_kernel_is_no_notebook() -> None:
    assert not in_notebook()


def test_ipython_is_not_imported_to_find_out() -> None:
    code = "import sys; from iceblink.watch.notebook import in_notebook; print(in_notebook(), 'IPython' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "False False\n"
