"""The house rules of docs/design.md, held against the source text: floors, doors, names and sizes."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
FLOORS = {
    "lake": 1, "scan": 2, "plan": 3, "run": 4, "load": 5, "media": 5, "neighbours": 5, "verbs": 5, "loading": 5,
    "dataset": 5, "mixed": 5, "altering": 5, "changing": 5, "following": 5, "importing": 5, "maintaining": 5,
    "viewing": 5,
    "lakehouse": 6, "ray": 6, "watch": 6, "rest": 6, "causal": 6, "cli": 7, "demo": 7,
}  # fmt: skip
GROUND, FACADE = 0, 7  # what no floor names is the ground floor; the facade `import iceblink` is for cli and demo
DOORS = {
    "pyiceberg": {"lake"},
    "sqlalchemy": {"lake"},
    "hdfs_native": {"lake"},
    "hive_metastore": {"lake"},
    "thrift": {"lake"},
    "duckdb": {"run"},
    "cloudpickle": {"run"},
    "ibis": {"plan"},
    "sqlglot": {"plan"},
    "pandas": {"interop"},
    "polars": {"interop"},
    "PIL": {"media"},
    "soundfile": {"media"},
    "soxr": {"media"},
    "urllib3": {"lake", "media"},
    "rich": {"cli", "demo", "watch"},
    "IPython": {"watch"},
    "prometheus_client": {"watch"},
    "opentelemetry": {"watch"},
    "scipy": {"causal"},
    "networkx": {"causal"},
    "sklearn": {"causal", "demo"},
    "threadpoolctl": {"causal", "demo"},
    "xgboost": {"causal"},
    "matplotlib": {"causal", "demo"},
    "torch": {"load"},
    "tensorflow": {"load"},
    "jax": {"load"},
    "ray": {"run/ray", "neighbours"},
    "dask": {"neighbours"},
    "deltalake": {"neighbours"},
    "huggingface_hub": {"neighbours"},
    "mmh3": {"lake"},
    "fastapi": {"rest"},
    "uvicorn": {"rest"},
}
EVERYWHERE = {"pyarrow", "numpy"}
OPEN = {*EVERYWHERE, "iceblink", *sys.stdlib_module_names}
SLOW = {"scipy", "networkx"}  # to import; what is in late.py comes when it is used
NAMELESS = {"utils", "helpers", "common", "misc", "_internal"}
LONGEST = 500  # lines


def imported(node: ast.AST) -> Iterator[str]:
    """Yield the dotted modules that an import statement names; `from iceblink import x` names `iceblink` alone."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield node.module or "."


def named(node: ast.AST) -> set[str]:
    """Return the dotted names that an import statement gives: `from a import b` gives `a.b`."""
    if isinstance(node, ast.ImportFrom):
        return {f"{node.module}.{alias.name}" for alias in node.names}
    return set(imported(node))


def broken_rules(path: str, text: str) -> Iterator[str]:
    """Yield ``file:line rule`` for each house rule that the source `text` of `path`, from src/, breaks."""
    parts = Path(path).with_suffix("").parts
    room, inside = parts[1], "/".join(parts[1:]) + "/"
    floor = FACADE if room in {"__init__", "__main__"} else FLOORS.get(room, GROUND)
    if (lines := text.count("\n")) > LONGEST:
        yield f"{path}:{lines} a file holds one idea, {LONGEST} lines at most"
    if nameless := NAMELESS.intersection(parts):
        yield f"{path}:1 {nameless.pop()!r} names nothing"
    tree = ast.parse(text, path)
    hidden = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        for slow in named(node):
            if slow.partition(".")[0] in SLOW and parts[-1] != "late":
                yield f"{path}:{getattr(node, 'lineno', 1)} {slow} is slow to import: take it from late.py"
        for module in imported(node):
            package, _, rest = module.partition(".")
            at = f"{path}:{getattr(node, 'lineno', 1)}"
            if package != "iceblink":
                doors = DOORS.get(package, set())
                if package not in OPEN and not any(inside.startswith(f"{door}/") for door in doors):
                    yield f"{at} {package} may be imported only in {sorted(doors) or 'no room'}"
            elif id(node) in hidden:
                yield f"{at} an import of our own is hidden in a function"
            elif (FLOORS.get(rest.split(".")[0], GROUND) if rest else FACADE) > floor:
                yield f"{at} {module} is above {'.'.join(parts)}: imports point down"


def test_every_file_keeps_the_house_rules() -> None:
    files = sorted(SOURCE.rglob("*.py"))
    assert files
    broken = [rule for file in files for rule in broken_rules(str(file.relative_to(SOURCE)), file.read_text())]
    assert not broken, "\n" + "\n".join(broken)


def test_what_every_room_may_import_is_installed_with_us() -> None:
    project = tomllib.loads((SOURCE.parent / "pyproject.toml").read_text())["project"]
    asked = {re.split(r"[^\w-]", dependency)[0] for dependency in project["dependencies"]}
    assert asked >= EVERYWHERE


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("iceblink/scan/read.py", "\nfrom iceblink.plan.nodes import Scan\n", "read.py:2 iceblink.plan.nodes is above"),
        ("iceblink/run/kernel.py", "import iceblink as ib\n", "kernel.py:1 iceblink is above"),
        ("iceblink/errors.py", "import iceblink.lake.table\n", "errors.py:1 iceblink.lake.table is above"),
        ("iceblink/dataset.py", "import duckdb\n", "dataset.py:1 duckdb may be imported only in ['run']"),
        (
            "iceblink/dataset.py",
            "def f():\n    import requests\n",
            "dataset.py:2 requests may be imported",
        ),
        ("iceblink/run/kernel.py", "import ray\n", "kernel.py:1 ray may be imported only in ['neighbours', 'run/ray']"),
        (
            "iceblink/run/kernel.py",
            "def f():\n    from iceblink.scan.read import g\n",
            "kernel.py:2 an import",
        ),
        ("iceblink/causal/a.py", "from scipy import special, stats\n", "a.py:1 scipy.stats is slow"),
        ("iceblink/causal/a.py", "import networkx as nx\n", "a.py:1 networkx is slow"),
        ("iceblink/lake/utils.py", "", "utils.py:1 'utils' names nothing"),
        ("iceblink/lake/table.py", "\n" * 501, "table.py:501 a file holds one idea"),
    ],
)
def test_a_broken_rule_is_told_with_its_line(path: str, text: str, expected: str) -> None:
    assert [rule for rule in broken_rules(path, text) if expected in rule]
