"""Modules and names that are imported when first used, not when what may use them is.

A listing of tables waits for no SQL, a scan for no expression language. Each layer names its own in its ``late.py``,
and a package that offers names of many modules in its ``__init__.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any


class Late(ModuleType):
    """Stands for a module until an attribute is asked for; remembers those that were."""

    def __getattr__(self, name: str) -> Any:
        value = getattr(import_module(self.__name__), name)
        setattr(self, name, value)
        return value


def late_names(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return ``__getattr__`` and ``__dir__`` of a package whose names come from its modules when they are asked for.

    Parameters
    ----------
    package : str
        Its ``__name__``; it has an ``__all__``.
    homes : mapping of str to str
        Of each module, named from the package, what ``from module import`` would say: ``{"plan.row": "row as _"}``.
        Nothing: the module itself.
    """
    known: dict[str, tuple[str, str]] = {}
    for home, names in homes.items():
        for said in names.split(", "):
            name, _, alias = said.partition(" as ")
            known[alias or name or home] = f"{package}.{home}", name

    def get(name: str) -> Any:
        if name not in known:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home, attribute = known[name]
        module = import_module(home)
        value = getattr(module, attribute) if attribute else module
        setattr(import_module(package), name, value)
        return value

    return get, lambda: sorted(import_module(package).__all__)
