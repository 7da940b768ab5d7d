"""The work of map operators: a task's rows through one function, or several, and out as Arrow of one schema.

What an output says is dealt with is left out when a task is begun again. Of several outputs of one call (of a
generator, or of a large one that was cut) only the last lets `consumed` grow: whoever begins again in between says how
many rows were kept since `consumed` last grew, and these are not yielded once more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice, pairwise
from typing import Any, TypeAlias

import pyarrow as pa

from iceblink.errors import BatchContractBroken
from iceblink.plan.function import Function
from iceblink.run.formats import returned
from iceblink.run.pipeline.ahead import Ahead
from iceblink.run.pipeline.backend import PAUSED, Call, Output
from iceblink.run.pipeline.calls import Begun, Caller, Results
from iceblink.run.pipeline.contract import Contract, called
from iceblink.run.pipeline.failures import Attempt, settled
from iceblink.run.pipeline.outputs import sized
from iceblink.run.pipeline.pieces import Piece, no_rows, pieces
from iceblink.run.pipeline.rows import from_rows
from iceblink.scan.batch import Batch

Step: TypeAlias = Piece | Output
"""What is on its way through the functions: rows to call with, or rows that were refused before."""


@dataclass(frozen=True)
class MapWork:
    """Builds workers that call `functions`, each with the output of the one before.

    Parameters
    ----------
    functions : tuple of Function
        All but the first take batches as they come.
    """

    functions: tuple[Function, ...]

    def __call__(self) -> MapWorker:
        """Build the functions of one worker.

        Raises
        ------
        FunctionError
            A class cannot be built.
        """
        return MapWorker(self.functions)


class MapWorker:
    """Functions, built, and the schemas they have kept to."""

    def __init__(self, functions: tuple[Function, ...]) -> None:
        self._stages: list[_Stage] = []
        self.ahead = Ahead() if any(function.built and not function.awaits for function in functions) else None
        try:
            for function in functions:
                self._stages.append(_Stage(function, self.ahead))
        except BaseException:
            self.close()
            raise

    def __call__(self, call: Call, begun: Begun) -> Iterator[Output]:
        """Return what comes of a task; at its end all is dealt with, whether or not an output says so.

        Its first call is asked for at once, if another thread makes it.

        Raises
        ------
        FunctionError
            A function raised: its file and line, and the rows it had.
        BatchContractBroken
            It returned something else than promised.
        """
        asked = self._stages[0].asked(pieces(call.parts, call.batch_rows), begun, at_once=True)
        for stage, following in pairwise(self._stages):
            asked = following.asked(_onwards(stage.run(asked, None)), begun)
        return sized(_after(call.skip, self._stages[-1].run(asked, call.schema)))

    def stop(self) -> None:
        """Let nothing be tried again, so that a task ends soon; from any thread."""
        if self.ahead is not None:
            self.ahead.stop()
        for stage in self._stages:
            stage.caller.stop()

    def close(self) -> None:
        """End what the functions hold; no task may be under way.

        Raises
        ------
        FunctionError
            The ``close`` of an instance raised; the others are closed all the same.
        """
        while self._stages:
            stage = self._stages.pop()
            try:
                stage.caller.close()
            except BaseException:
                self.close()
                raise


class _Stage:
    """One function of a worker."""

    def __init__(self, function: Function, ahead: Ahead | None = None) -> None:
        self.caller = Caller(function, ahead)
        self._function, self._ahead = function, ahead
        self._spent = False  # no more will be asked for by the task
        self._contract = Contract(function)
        # of rows, `calls` are awaited in any case; whether what a class gives must first be drawn is not known yet
        self._most = 1 if ahead is not None else 2 if function.per_row else function.calls

    def run(self, asked: Iterable[tuple[Step, _Answer]], known: pa.Schema | None) -> Iterator[Output]:
        """Yield what the function makes of each piece, in order; what was refused before stays in its place."""
        for step, answer in asked:
            if isinstance(step, Output):
                yield step
            else:
                yield from settled(step, self._attempt(step, answer, known), self._function)

    def asked(self, steps: Iterator[Step], begun: Begun, at_once: bool = False) -> Iterator[tuple[Step, _Answer]]:
        """Yield steps with what asks the function; of calls made elsewhere the first may be asked for `at_once`."""
        if not self.caller.elsewhere:
            return ((step, partial(self._ask, begun=begun)) for step in steps)
        under_way = ((step, self.caller.submit(step, begun) if isinstance(step, Piece) else None) for step in steps)
        return self._in_turn(chain(list(islice(under_way, int(at_once))), under_way), begun)

    def _in_turn(self, under_way: Iterable[_UnderWay], begun: Begun) -> Iterator[tuple[Step, _Answer]]:
        """Yield the oldest when `most` are under way, or when it is done."""
        window: deque[_UnderWay] = deque()
        self._spent = False
        try:
            for asked in under_way:
                window.append(asked)
                while window and (len(window) >= self._most or window[0][1] is None or window[0][1].done()):
                    yield self._first(window, begun)
            self._spent = True
            while window:
                yield self._first(window, begun)
        finally:
            if self._ahead is None:
                begun(PAUSED)
            for _, future in window:
                if future is not None:
                    future.cancel()

    def _first(self, window: deque[_UnderWay], begun: Begun) -> tuple[Step, _Answer]:
        """Take the oldest; a part of it, asked for because the whole had failed, is awaited by itself."""
        step, future = window.popleft()

        def answer(piece: Piece) -> Iterable[Any]:
            nonlocal future  # whose result shall not be held any longer than it is needed
            asked, future = self.caller.submit(piece, begun) if future is None else future, None
            if self._ahead is None:
                values: Iterable[Any] = asked.result()
                return values
            values = self._ahead.last(asked) if self._spent else asked.result()
            if isinstance(values, Iterator):
                return self._ahead.drawn(values)
            self._most = 2  # each call is over when it returns: the next one can be asked for
            return values

        return step, answer

    def _ask(self, piece: Piece, begun: Begun) -> Iterable[Any]:
        return self.caller.rows(piece, begun) if self._function.per_row else self.caller.batches(piece, begun)

    def _attempt(self, whole: Piece, answer: _Answer, known: pa.Schema | None) -> Attempt:
        """Return what calls the function with `whole` or a part of it; with each row only once."""
        if not self._function.per_row:
            return lambda piece: self._batches(piece, answer(piece), known)
        asked: list[Results] = []

        def rows(piece: Piece) -> list[pa.RecordBatch]:
            if piece is whole:
                asked.extend(answer(whole))
            start = piece.at - whole.at
            like = self._contract.known(known) or piece.parts[0].data.schema
            batch = from_rows(self._function, piece, asked[start : start + piece.rows], like)
            held = self._contract.hold(batch, piece, known)
            return [] if held is None else [held]

        return rows

    def _batches(self, piece: Piece, values: Iterable[Any], known: pa.Schema | None) -> Iterable[pa.RecordBatch]:
        """Return what the function gave as Arrow: a list of a list, else one after the other as they are made."""
        held = (self._contract.hold(self._batch(piece, value, known), piece, known) for value in values)
        batches = (batch for batch in held if batch is not None)
        return list(batches) if isinstance(values, list) else batches

    def _batch(self, piece: Piece, value: Any, known: pa.Schema | None) -> pa.RecordBatch:
        if isinstance(value, pa.RecordBatch):
            return value
        like = self._contract.known(known) or piece.parts[0].data.schema
        return returned(value, f"{called(self._function)}, {piece.place}", like)


_Answer: TypeAlias = Callable[[Piece], Iterable[Any]]
_UnderWay: TypeAlias = tuple[Step, Future[Any] | None]


def _onwards(outputs: Iterable[Output]) -> Iterator[Step]:
    """Make the rows that one function returned the pieces of the next."""
    dealt = 0
    for output in outputs:
        if output.kind == "rows" and output.data.data.num_rows:
            yield Piece((output.data,), dealt, output.consumed, counted=False)
        elif output.kind == "rejected":
            yield output
        dealt = max(dealt, output.consumed)


def _after(skip: int, outputs: Iterable[Output]) -> Iterator[Output]:
    """Leave out the first `skip` rows, rejected ones too: another worker gave them, and died later."""
    for output in outputs:
        known = min(skip, output.data.data.num_rows)
        skip -= known
        yield replace(output, data=replace(output.data, data=output.data.data.slice(known))) if known else output


def _unheard(consumed: int) -> None:
    """Take the begin of a call that nobody watches."""


def first_schema(function: Function, batches: Iterable[Batch], source: pa.Schema) -> pa.Schema:
    """Return the schema of the function's first output; an empty input is answered with an empty batch.

    Rows are drawn until there is an output that tells its types.

    Raises
    ------
    FunctionError
        The function raised.
    BatchContractBroken
        It returned something else than it must, or nothing that tells its types.
    """
    if function.declared is not None:
        return function.declared
    stage = _Stage(replace(function, calls=1))  # no more rows than are needed
    empty = Piece((Batch(no_rows(source), "", 0),), 0, 0)
    with closing(stage.caller):
        for steps in (pieces(batches, function.batch_rows), iter([empty])):
            for output in stage.run(stage.asked(steps, _unheard), None):
                if output.kind == "rows":
                    schema: pa.Schema = output.data.data.schema
                    return schema
    raise BatchContractBroken(
        "it returned no rows, so its columns are not known", called(function), "declare them: schema={'column': 'type'}"
    )
