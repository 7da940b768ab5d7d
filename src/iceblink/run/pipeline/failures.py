"""What becomes of a call that fails: rows are found by halving, then left out or sent on with their error."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator

import pyarrow as pa

from iceblink.errors import ConfigError, IceblinkError, PlanError
from iceblink.plan.function import Function
from iceblink.run.pipeline.backend import Output
from iceblink.run.pipeline.contract import TypesUnknown
from iceblink.run.pipeline.pieces import OPEN, Piece, no_rows
from iceblink.run.pipeline.rejected import rejected_rows, traced

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 10.0
NO_ROWS_FAULT = (PlanError, ConfigError, TypesUnknown)  # wrong for every row: the pipeline must be changed

Attempt = Callable[[Piece], Iterable[pa.RecordBatch]]
"""Calls a function: a list where the call has ended, else what the function goes on to make."""


def settled(piece: Piece, attempt: Attempt, function: Function) -> Iterator[Output]:
    """Call a function with a piece, and with ever smaller halves of it where that fails.

    With ``on_error="raise"`` outputs are yielded while the call goes on. Else they are kept until it has ended, so
    that none of a call that failed in the end is seen; a function is then called with other batches than it asked for.
    Rows at fault are yielded as rejected: with their reason for a quarantine, as they were given if they are skipped.

    Parameters
    ----------
    piece : Piece
    attempt : callable
        Calls the function with a piece.
    function : Function

    Raises
    ------
    IceblinkError
        What `attempt` raised, if that is the policy; or where no row can be at fault.
    """
    if function.policy.on_error == "raise":
        yield from _made(piece, attempt(piece))
        return
    try:
        batches = list(attempt(piece))
    except NO_ROWS_FAULT:
        raise
    except IceblinkError as error:
        if not piece.rows:
            raise
        failure = error  # and out of here: what fails later did not fail because of it
    else:
        yield from _made(piece, batches)
        return
    if piece.rows > 1:
        for half in piece.halves():
            yield from settled(half, attempt, function)
    else:
        (row,) = piece.parts
        if function.policy.on_error == "quarantine":
            row = rejected_rows(row, function.label, failure.what, traced(failure))
        yield Output("rejected", row, piece.after)


def _made(piece: Piece, batches: Iterable[pa.RecordBatch]) -> Iterator[Output]:
    """Say only at the end that the piece is dealt with: a call that is broken off is made again.

    The last batch of a list says so itself. Those of a generator go on before it is asked for another one, for that may
    take long; an output without rows follows them.
    """
    if isinstance(batches, list):
        last = len(batches) - 1
        for place, batch in enumerate(batches):
            yield Output("rows", piece.out(batch), piece.after if place == last else OPEN)
        return
    schema: pa.Schema | None = None
    for batch in batches:
        yield Output("rows", piece.out(batch), OPEN)
        schema = batch.schema
        del batch  # while the next one is made, nothing of this one is held
    if schema is not None:
        yield Output("rows", piece.out(no_rows(schema)), piece.after)


def may_retry(error: BaseException, function: Function, tried: int) -> bool:
    """Tell whether a call that failed for the `tried`-th time (from 0) may be made again."""
    policy = function.policy
    failures = (error, error.__cause__)
    return tried < policy.retries and any(isinstance(failure, policy.retry_on) for failure in failures)


def pause_s(tried: int) -> float:
    """How long to wait before a call is made again [s]: twice as long each time, not all workers at the same moment."""
    longest = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(tried, 30))
    return longest * random.uniform(0.5, 1.0)
