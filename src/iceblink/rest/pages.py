"""Long lists, page by page.

References
----------
.. [1] Iceberg REST catalog, ``PageToken`` and ``pageSize``.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import TypeVar

from iceblink.lake.served.refusal import Refusal

PAGE_SIZE = 1000

Item = TypeVar("Item", str, tuple[str, ...])


def page(found: Sequence[Item], token: str | None, size: str | None) -> tuple[list[Item], str | None]:
    """Return a part of a sorted list, and the token of the part after it.

    A token is the last name before the part: names that come and go meanwhile neither hide nor repeat others.

    Parameters
    ----------
    found : sequence of str or of tuple of str
        Sorted, each once.
    token : str or None
        What the page before said, empty for the first page; None asks for everything at once.
    size : str or None
        How many names at most; `PAGE_SIZE` if it is not said.

    Raises
    ------
    Refusal
        400: the token is none that a page had, or the size is no positive number.
    """
    if token is None:
        return list(found), None
    most = PAGE_SIZE if size is None else _positive(size)
    after = _decoded(token) if token else None
    rest = [item for item in found if after is None or list(_levels(item)) > after]
    shown = rest[:most]
    return shown, _encoded(shown[-1]) if len(rest) > most else None


def _positive(size: str) -> int:
    if not size.isascii() or not size.isdigit() or not 0 < len(size) < 10 or int(size) == 0:
        raise Refusal.bad("pageSize must be a positive number")
    return int(size)


def _levels(item: str | tuple[str, ...]) -> tuple[str, ...]:
    return (item,) if isinstance(item, str) else item


def _encoded(item: str | tuple[str, ...]) -> str:
    return base64.urlsafe_b64encode(json.dumps(_levels(item)).encode()).decode()


def _decoded(token: str) -> list[str]:
    try:
        levels = json.loads(base64.b64decode(token, altchars=b"-_", validate=True))
    except ValueError:
        levels = None
    if not isinstance(levels, list) or not all(isinstance(level, str) for level in levels):
        raise Refusal.bad("the page token is none of ours")
    return levels
