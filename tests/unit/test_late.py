"""Names of packages that come when they are asked for are those that type checkers see."""

from __future__ import annotations

import ast
import importlib
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import iceblink as ib
from iceblink.causal.matrix import Matrix, Number
from iceblink.late import late_names

PACKAGES = ("iceblink", "iceblink.causal")


def typed(package: str) -> dict[str, str]:
    """Return the names that the source of a package imports for type checkers, and the modules that they are from."""
    tree = ast.parse(Path(str(importlib.import_module(package).__file__)).read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    found = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.asname or alias.name: str(node.module) for node in found for alias in node.names}


@pytest.mark.parametrize("package", PACKAGES)
def test_each_name_is_what_type_checkers_take_it_for(package: str) -> None:
    module = importlib.import_module(package)
    names = typed(package)
    assert {*names, "__version__"} == {*module.__all__, "__version__"} == {*dir(module), "__version__"}
    for name, home in names.items():
        value = getattr(importlib.import_module(home), "row" if name == "_" else name)
        assert getattr(module, name) is value


def test_a_name_that_is_none_is_an_attribute_error() -> None:
    get, listed = late_names("iceblink", {"plan.row": "row as _", "media": ""})
    assert get("_") is ib._
    assert get("media") is ib.media
    assert listed() == sorted(ib.__all__)
    with pytest.raises(AttributeError, match="'iceblink' has no attribute 'row'"):
        get("row")


def test_a_fit_waits_for_none_of_what_it_does_without(tmp_path: Path) -> None:
    with ib.connect(tmp_path) as lake:
        rows = lake.sql("SELECT range AS id, random() AS y, random() AS t, random() AS x FROM range(200)")
        lake.write("a.t", rows, mode="create")
    code = f"""
import sys
import iceblink as ib
from iceblink import causal as ci
with ib.connect({str(tmp_path)!r}) as lake:
    fit = ci.LinearPLR("y", "t", ["x"], key="id", folds=2).fit(lake.table("a.t"))
slow = {{"scipy", "networkx", "pandas", "iceblink.causal.forests"}}
print(*sorted(slow & set(sys.modules)), "|")
fit.summary()
print(*sorted({{"scipy.stats", "networkx"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["|"]


def test_what_travels_to_a_worker_brings_no_other_estimator() -> None:
    sent = pickle.dumps(Matrix((Number("x"),)))
    listed = "print(*[name for name in sys.modules if name.startswith('iceblink.causal')])"
    code = f"import pickle, sys; pickle.loads({sent!r}); {listed}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {"iceblink.causal", "iceblink.causal.needs", "iceblink.causal.matrix"}
