"""An embedded lake in a fresh folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import iceblink as ib


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[ib.Lake]:
    with ib.connect(tmp_path / "my lake ü", engine=ib.LocalEngine(spill_dir=str(tmp_path / "spill"))) as opened:
        yield opened
