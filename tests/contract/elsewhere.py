"""Work done as if elsewhere: all that goes there or comes back is pickled, and it runs in this thread."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from iceblink.mapped import Each

Item = TypeVar("Item")
Result = TypeVar("Result")


def elsewhere(each: Each[Item, Result], items: Sequence[Item]) -> Iterator[Result]:
    """Do the work with copies of everything; a `Mapped`."""
    function: Callable[[Item], Result] = copied(each.build)()
    for item in items:
        yield copied(function(copied(item)))


def copied(value: Any) -> Any:
    """Return what another process would get."""
    return pickle.loads(pickle.dumps(value))
