"""The rows of one call, and where each of them comes from: cut and joined from the parts of a task."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from iceblink.scan.batch import Batch

SHOWN = 3  # places that an error names
OPEN = -1  # instead of a number of rows dealt with: the call that made an output gives more of them


@dataclass(frozen=True, slots=True)
class Piece:
    """What a function is called with.

    Parameters
    ----------
    parts : tuple of Batch
        Its rows, each part from one place.
    before, after : int
        Rows of the task's input that are dealt with before it, and with it; the latter is `OPEN` for what another
        function gave before its last.
    counted : bool
        Whether each row is one row of the task's input; not so behind another function.
    at : int
        Place of its first row in the piece that it was cut from.
    """

    parts: tuple[Batch, ...]
    before: int
    after: int
    counted: bool = True
    at: int = 0

    @property
    def rows(self) -> int:
        """Their number."""
        return sum(part.data.num_rows for part in self.parts)

    @property
    def data(self) -> pa.RecordBatch:
        """The rows as one batch; copied only if there are several parts."""
        if len(self.parts) == 1:
            return self.parts[0].data
        return pa.concat_batches([part.data for part in self.parts])

    def slice(self, start: int, rows: int) -> Piece:
        """Return some of the rows, without a copy."""
        parts, skip, left = [], start, rows
        for part in self.parts:
            take = min(left, max(0, part.data.num_rows - skip))
            if take:
                parts.append(part.slice(skip, take))
            left -= take
            skip = max(0, skip - part.data.num_rows)
        if self.counted:
            before, after = self.before + start, self.before + start + rows
        else:  # its own place in the input is not known: only the last slice deals with the piece
            before, after = self.before, self.after if start + rows == self.rows else OPEN
        return Piece(tuple(parts), before, after, self.counted, self.at + start)

    def halves(self) -> tuple[Piece, Piece]:
        """Cut it in two."""
        middle = self.rows // 2
        return self.slice(0, middle), self.slice(middle, self.rows - middle)

    def out(self, data: pa.RecordBatch) -> Batch:
        """Return what a function made of it; the origin is that of the first row."""
        return Batch(data, self.parts[0].path, self.parts[0].first_row, exact=False)

    @property
    def place(self) -> str:
        """Rows and files, for people."""
        return places(self.parts)


def pieces(parts: Iterable[Batch], batch_rows: int | None) -> Iterator[Piece]:
    """Cut and join `parts` to exactly `batch_rows` each, but for the last; None makes each part a piece.

    Parts without rows are left out.
    """
    done = 0
    waiting: list[Batch] = []
    have = 0
    for part in parts:
        start, end = 0, part.data.num_rows
        while start < end:
            take = end - start if batch_rows is None else min(batch_rows - have, end - start)
            waiting.append(part.slice(start, take))
            start, have = start + take, have + take
            if batch_rows is None or have == batch_rows:
                yield Piece(tuple(waiting), done, done + have)
                done, waiting, have = done + have, [], 0
    if waiting:
        yield Piece(tuple(waiting), done, done + have)


def no_rows(schema: pa.Schema) -> pa.RecordBatch:
    """Return a batch of `schema` without rows; a slice would keep the others alive."""
    return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)


def places(parts: Sequence[Batch]) -> str:
    """Say where rows come from, for people: neighbours together, and only the first few places."""
    spans: list[tuple[Batch, int]] = []
    for part in parts:
        first, end = part, part.first_row + part.data.num_rows
        if spans and part.exact and spans[-1][0].path == part.path and spans[-1][1] == part.first_row:
            first, _ = spans.pop()
        spans.append((first, end if part.exact else -1))
    shown = [_span(first, end) for first, end in spans[:SHOWN]]
    more = [f"and {len(spans) - SHOWN} more places"] if len(spans) > SHOWN else []
    return ", ".join(shown + more)


def _span(first: Batch, end: int) -> str:
    start = first.first_row
    rows = f"rows {start:,} to {max(start, end - 1):,}" if first.exact else f"rows from row {start:,} on"
    return f"{rows} of {first.path}" if first.path else rows
