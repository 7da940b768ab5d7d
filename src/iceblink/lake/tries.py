"""Tries to commit: how long to wait between them, and what they wrote, kept until it is known which of them landed."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any

from pyiceberg.table import Transaction
from pyiceberg.table.metadata import TableMetadata

FIRST_WAIT_S, LONGEST_WAIT_S = 0.05, 4.0


class Tries:
    """Manifests and manifest lists of the tries to make one commit.

    PyIceberg removes them as soon as the catalog says no. But a "no" may be the answer to a request that the transport
    sent again after the first one had landed and its answer was lost: then the files are the table's.
    """

    def __init__(self) -> None:
        self._producers: list[Any] = []  # PyIceberg's class is private

    def take(self, transaction: Transaction) -> None:
        """Take the files of one more try in charge, before it is sent."""
        self._producers += transaction._snapshot_producers
        transaction._snapshot_producers = []

    def settle(self, metadata: TableMetadata) -> None:
        """Remove the files of each try whose snapshot is not in the table; it can certainly not land any more."""
        for producer in self._producers:
            if metadata.snapshot_by_id(producer.snapshot_id) is None:
                producer._clean_all_uncommitted()
            else:
                producer._cleanup_uncommitted()
        self._producers = []


def waits(patience_s: float) -> Iterator[float | None]:
    """Yield how long to wait after each try [s], longer and longer, out of step with others; None for a last look."""
    deadline = time.monotonic() + patience_s
    wait_s = FIRST_WAIT_S
    while (left_s := deadline - time.monotonic()) > 0:
        yield min(wait_s * random.uniform(0.5, 1.5), left_s)
        wait_s = min(2 * wait_s, LONGEST_WAIT_S)
    yield None
