"""Several catalogs in one lake: `catalog.namespace.table` wherever a table is named."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import iceblink as ib
from iceblink.errors import CatalogError, ConfigError, TableNotFound


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[ib.Lake]:
    further: dict[str, Any] = {
        "dev": tmp_path / "dev",
        "prod": {"type": "in-memory", "warehouse": f"file://{tmp_path}/prod"},
    }
    with ib.connect(tmp_path / "here", catalogs=further) as opened:
        yield opened


def test_a_name_that_begins_with_a_catalog_is_looked_up_there(lake: ib.Lake, tmp_path: Path) -> None:
    for name, value in (("n.t", 1), ("dev.n.t", 2), ("prod.n.t", 3)):
        lake.write(name, {"x": [value]}, "create")
    assert lake.tables() == ["n.t", "dev.n.t", "prod.n.t"]
    assert lake.namespaces() == ["n", "dev.n", "prod.n"]
    assert lake.tables("dev") == ["dev.n.t"] == lake.tables("dev.n")
    assert [lake.table(name).to_pylist() for name in lake.tables()] == [[{"x": 1}], [{"x": 2}], [{"x": 3}]]
    joined = lake.sql("SELECT a.x + b.x + c.x AS s FROM n.t a, dev.n.t b, prod.n.t AS c")
    assert joined.to_pylist() == [{"s": 6}]
    assert ib.connect(tmp_path / "dev").tables() == ["n.t"]


def test_rows_go_from_one_catalog_to_another(lake: ib.Lake) -> None:
    lake.write("dev.n.t", {"x": [1, 2]}, "create")
    written = lake.write("prod.m.copy", lake.table("dev.n.t"), "create")
    lake.write("prod.m.copy", lake.sql("SELECT x + 1 AS x FROM dev.n.t"))
    assert sorted(row["x"] for row in lake.table("prod.m.copy").to_pylist()) == [1, 2, 2, 3]
    assert written.count() == 2
    with pytest.raises(CatalogError, match="different catalogs"):
        lake.rename("dev.n.t", "n.t")
    lake.rename("dev.n.t", "dev.n.u")
    assert lake.table("dev.n.u").count() == 2
    lake.drop("dev.n.u")
    assert lake.tables("dev") == []


def test_history_and_metadata_tables_have_the_catalog_before_them(lake: ib.Lake) -> None:
    lake.write("dev.n.t", {"x": [1]}, "create")
    lake.write("dev.n.t", {"x": [2]})
    assert lake.history("dev.n.t").count() == 2
    assert lake.table("dev.n.t.snapshots").count() == 2
    assert lake.sql("SELECT count(*) AS n FROM dev.n.t.snapshots").to_pylist() == [{"n": 2}]


def test_a_table_that_is_not_there_is_sought_in_its_catalog_only(lake: ib.Lake) -> None:
    lake.write("n.t", {"x": [1]}, "create")
    with pytest.raises(TableNotFound, match=r"dev\.n\.t"):
        lake.table("dev.n.t")
    lake.write("dev.x.t", {"x": [1]}, "create")  # a namespace of the first catalog may have a catalog's name
    lake.write("dev.t", {"x": [7]}, "create")
    assert lake.table("dev.t").to_pylist() == [{"x": 7}]


def test_the_first_of_several_is_the_one_without_a_name(tmp_path: Path) -> None:
    with ib.connect(catalogs={"prod": tmp_path / "prod", "dev": tmp_path / "dev"}) as lake:
        lake.write("n.t", {"x": [1]}, "create")
        assert lake.table("prod.n.t").to_pylist() == [{"x": 1}]
        assert lake.tables() == ["n.t"]
        lake.write("prod.n.t", {"x": [2]})
        assert lake.table("n.t").count() == 2
        again = pickle.loads(pickle.dumps(lake.session.catalog))
        assert again.load("prod.n.t").row_count == 2
        assert again.tables() == ["n.t"]


def test_names_of_pyicebergs_configuration_are_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyiceberg import catalog as theirs
    from pyiceberg.utils.config import Config

    for name in ("PROD", "DEV"):
        monkeypatch.setenv(f"PYICEBERG_CATALOG__{name}__URI", f"sqlite:///{tmp_path}/{name}.db")
        monkeypatch.setenv(f"PYICEBERG_CATALOG__{name}__WAREHOUSE", f"file://{tmp_path}/{name}")
    monkeypatch.setattr(theirs, "_ENV_CONFIG", Config())  # PyIceberg reads it when it is imported
    with ib.connect(catalogs=["prod", "dev"]) as lake:
        lake.write("n.t", {"x": [1]}, "create")
        lake.write("dev.n.t", {"x": [2]}, "create")
        assert lake.sql("SELECT p.x + d.x AS s FROM prod.n.t p, dev.n.t d").to_pylist() == [{"s": 3}]


@pytest.mark.parametrize("wrong", [[], "prod", {"a.b": "folder"}, {"": "folder"}])
def test_what_names_no_catalogs_is_refused(wrong: object) -> None:
    with pytest.raises(ConfigError):
        ib.connect(catalogs=wrong)  # type: ignore[arg-type]
