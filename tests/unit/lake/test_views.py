"""Views beside tables: each keeps its files and its name, and a catalog that does not answer is no view that is not."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from pyiceberg.exceptions import ForbiddenError, NoSuchViewError, ServiceUnavailableError

import iceblink as ib
from iceblink.errors import CatalogError, TableExists, TableNotFound
from iceblink.lake import views
from iceblink.lake.commit import Commit


@pytest.fixture(params=["embedded", "sql"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ib.Lake]:
    where: dict[str, Any] = {"uri": f"sqlite:///{tmp_path}/c.db", "warehouse": f"file://{tmp_path}/house"}
    with ib.connect(tmp_path / "lake") if request.param == "embedded" else ib.connect(**where) as lake:
        yield lake


def test_a_view_in_the_folder_of_a_table_is_no_orphan(lake: ib.Lake) -> None:
    lake.write("n.a", {"id": [1]}, "create")
    lake.sql("ALTER TABLE n.a RENAME TO n.b")
    lake.sql("CREATE VIEW n.a AS SELECT id + 1 AS more FROM n.b")
    lake.remove_orphan_files("n.b", older_than=timedelta(0), force=True)
    views_of = lake.session.catalog
    (file,) = views.view_files(views_of)
    assert views_of.load("n.b").storage.exists(file)
    assert lake.sql("SELECT * FROM n.a").to_pylist() == [{"more": 2}]


def test_a_table_under_the_name_of_a_view_is_refused_before_rows_are_written(lake: ib.Lake) -> None:
    lake.write("n.t", {"id": [1]}, "create")
    catalog = lake.session.catalog
    late = catalog.stage("n.v", {"id": "long"})  # the view comes while rows are written
    lake.sql("CREATE VIEW n.v AS SELECT id FROM n.t")
    with pytest.raises(TableExists):
        catalog.stage("n.v", {"id": "long"})
    with pytest.raises(TableExists):
        Commit(late, patience_s=600).append([]).run()
    assert lake.sql("SELECT * FROM n.v").to_pylist() == [{"id": 1}]


class Failing:
    """A keeper of views that always raises."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def load(self, key: tuple[str, ...]) -> Any:
        raise self.error


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (ForbiddenError("403"), CatalogError),
        (ServiceUnavailableError("503"), CatalogError),
        (requests.exceptions.ConnectionError("refused"), CatalogError),
        (NoSuchViewError("n.v"), None),
        (NotImplementedError(), None),
    ],
)
def test_a_catalog_that_refuses_has_not_said_that_there_is_no_view(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, raised: type[Exception] | None
) -> None:
    monkeypatch.setattr(views, "_keeper", lambda _: Failing(error))
    with ib.connect(tmp_path) as lake, pytest.raises(raised or TableNotFound) as caught:
        lake.table("n.v")
    assert isinstance(caught.value, TableNotFound) == (raised is None)


@pytest.mark.parametrize("name", ["n", "n.a/b", "n. b", "n.a\\b"])
def test_what_can_be_no_name_is_no_view(lake: ib.Lake, name: str) -> None:
    lake.session.catalog.create_namespace("n")
    assert views.find_view(lake.session.catalog, name) is None
