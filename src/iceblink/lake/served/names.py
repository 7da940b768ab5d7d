"""Names as strangers send them: of namespaces, level by level, and of what is in them."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

from iceblink.lake.listing import Key
from iceblink.lake.served.refusal import Refusal

LONGEST = 255
"""Characters that the database has room for, in a name and in all levels of a namespace together."""

_HOSTILE = {"Cc", "Cs", "Zl", "Zp"}
"""Unicode categories: control characters, among them NUL and the separator of levels, lone surrogates, line ends."""


def checked_namespace(levels: Any) -> tuple[str, ...]:
    """Return the levels of a namespace.

    Raises
    ------
    Refusal
        400: none, or one that cannot be a name.
    """
    if not isinstance(levels, Sequence) or isinstance(levels, str) or not levels:
        raise Refusal.bad("a namespace is a list of one or more names")
    checked = tuple(_checked(level) for level in levels)
    if len(".".join(checked)) > LONGEST:
        raise Refusal.bad(f"a namespace has {LONGEST} characters at most, over all levels")
    return checked


def checked_key(levels: Any, name: Any) -> Key:
    """Return the key of a table or view in the namespace `levels`; raises as `checked_namespace`."""
    return Key(".".join(checked_namespace(levels)), _checked(name))


def _checked(name: Any) -> str:
    """Refuse what is no name: it becomes part of a path, and levels are joined with dots."""
    if not isinstance(name, str) or not name:
        raise Refusal.bad("a name is a text of one or more characters")
    if name != name.strip() or any(character in name for character in "./\\�"):
        raise Refusal.bad(f"{name!r} is no name: it has no dots, slashes or undecodable bytes, and no spaces around it")
    if any(unicodedata.category(character) in _HOSTILE for character in name):
        raise Refusal.bad(f"{name!r} is no name: it has characters that cannot be printed")
    if len(name) > LONGEST:
        raise Refusal.bad(f"a name has {LONGEST} characters at most")
    return name
