"""What tests of estimators have in common."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import iceblink as ib


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ib.Lake]:
    """Return an empty lake for the tests of a module."""
    with ib.connect(tmp_path_factory.mktemp("lake")) as opened:
        yield opened
