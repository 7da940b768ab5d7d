"""Rows that come when the kernel asks for them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True)
class Source:
    """Batches that the kernel asks for when it needs them; opened anew if the statement reads them twice.

    Parameters
    ----------
    schema : pa.Schema
        What the statement may name.
    open : callable
        Takes the names of columns that are needed; its batches have these at least, in any order.
    expected : tuple of str
        Those that will be needed as far as planning knows; a filter mentions no others.
    """

    schema: pa.Schema
    open: Callable[[Sequence[str]], Generator[pa.RecordBatch, None, None]]
    expected: tuple[str, ...]
