"""Third-party modules that are imported when first used, not when a module that may use them is.

A listing of tables waits for no SQL, a scan for no expression language. Each layer names its own in its ``late.py``.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any


class Late(ModuleType):
    """Stands for a module until an attribute is asked for; remembers those that were."""

    def __getattr__(self, name: str) -> Any:
        value = getattr(import_module(self.__name__), name)
        setattr(self, name, value)
        return value
