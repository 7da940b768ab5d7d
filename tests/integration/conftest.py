"""An embedded lake in a fresh folder, and servers that are started for the first test that wants them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import iceblink as ib
from servers.amazon import amazon
from servers.hadoop import hadoop
from servers.hive import hive
from servers.mysql import mysql
from servers.postgres import postgres


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[ib.Lake]:
    with ib.connect(tmp_path / "my lake ü", engine=ib.LocalEngine(spill_dir=str(tmp_path / "spill"))) as opened:
        yield opened


@pytest.fixture(scope="session")
def postgres_uri() -> Iterator[str]:
    with postgres() as uri:
        yield uri


@pytest.fixture(scope="session")
def mysql_uri() -> Iterator[str]:
    with mysql() as uri:
        yield uri


@pytest.fixture(scope="session")
def amazon_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the clock of Amazon's S3 is set."""
    return tmp_path_factory.mktemp("amazon")


@pytest.fixture(scope="session")
def amazon_endpoint(amazon_folder: Path) -> Iterator[str]:
    with amazon(amazon_folder) as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def hadoop_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with hadoop(tmp_path_factory.mktemp("hadoop")) as url:
        yield url


@pytest.fixture(scope="session")
def hive_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with hive(tmp_path_factory.mktemp("hive ü")) as uri:
        yield uri
