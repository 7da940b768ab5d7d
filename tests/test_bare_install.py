"""The first lines of the README with nothing installed but what iceblink itself asks for, whatever else is here."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from importlib.metadata import packages_distributions, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

README = Path(__file__).parents[1] / "README.md"
HIDES = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in hidden:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hidden())
"""


def asked_for(name: str, extras: frozenset[str] = frozenset()) -> set[str]:
    """Return the distributions that installing one with some extras brings, itself included."""
    found: set[str] = set()
    waiting = [(canonicalize_name(name), extras)]
    seen = set(waiting)
    while waiting:
        one, wanted = waiting.pop()
        found.add(one)
        for line in requires(one) or ():
            needed = Requirement(line)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in wanted | {""}):
                item = canonicalize_name(needed.name), frozenset(needed.extras)
                if item not in seen:
                    seen.add(item)
                    waiting.append(item)
    return found


@cache
def others() -> set[str]:
    """Return the packages that are here, and that iceblink does not ask for."""
    brought = asked_for("iceblink")
    hidden = {
        package
        for package, distributions in packages_distributions().items()
        if not any(canonicalize_name(one) in brought for one in distributions)
    }
    assert {"pandas", "ray", "torch"} <= hidden
    return hidden


def without_others(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run code where only what iceblink asks for can be imported."""
    script = folder / "script.py"
    script.write_text(f"hidden = {others()!r}\n{HIDES}\n{code}")
    return subprocess.run([sys.executable, script], cwd=folder, capture_output=True, text=True)


def test_the_readme_runs_with_what_is_installed_by_itself(tmp_path: Path) -> None:
    (code, *_) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    done = without_others(code, tmp_path)
    assert not done.returncode, done.stderr
    assert "Oslo" in done.stdout


def test_what_is_not_asked_for_cannot_be_imported(tmp_path: Path) -> None:
    assert "No module named 'pandas'" in without_others("import pandas", tmp_path).stderr


def test_effects_say_which_extra_they_need(tmp_path: Path) -> None:
    assert "pip install 'iceblink[causal]'" in without_others("from iceblink import causal", tmp_path).stderr
