"""Single calls of a user's function: built once, given its format, tried again, its errors told with their place."""

from __future__ import annotations

import asyncio
import inspect
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from functools import partial
from itertools import count
from typing import Any

from iceblink.errors import BatchContractBroken, FunctionError, IceblinkError, TypeMismatch
from iceblink.plan.function import Function
from iceblink.run.formats import given
from iceblink.run.pipeline.ahead import Ahead
from iceblink.run.pipeline.backend import PAUSED
from iceblink.run.pipeline.contract import called
from iceblink.run.pipeline.failures import may_retry, pause_s
from iceblink.run.pipeline.gpu_faults import GpuLost, gpu_lost
from iceblink.run.pipeline.loop import Loop
from iceblink.run.pipeline.pieces import Piece

Begun = Callable[[int], None]
"""Told before each call how many rows are dealt with, and `PAUSED` after it."""
Results = list[dict[str, Any]] | IceblinkError
"""What a function made of one row, or why it failed."""


class Caller:
    """A user's function as one worker keeps it: the instance of a class, and a loop for coroutines.

    Parameters
    ----------
    function : Function
    ahead : Ahead or None
        Who makes the calls, if somebody else does.

    Raises
    ------
    FunctionError
        The class cannot be built.
    """

    def __init__(self, function: Function, ahead: Ahead | None = None) -> None:
        self.function, self._ahead = function, ahead
        self._stopped = threading.Event()
        self._loop = Loop(function.label) if function.awaits else None
        self._slots = asyncio.Semaphore(function.calls)
        self._target = function.target
        if function.built:
            try:
                self._target = self._loop.run(_made(function.target)) if self._loop else function.target()
            except (Exception, SystemExit) as error:
                self._end_loop()
                raise FunctionError(_said(error), f"{function.label}(), building a worker") from error

    def batches(self, piece: Piece, begun: Begun) -> Iterable[Any]:
        """Return what the function gives for a batch: a list of one value, or what a generator goes on to make.

        With retries, a generator is run to its end first, and its values are a list.
        """
        return self._batches(self._given(piece), piece, begun)

    def rows(self, piece: Piece, begun: Begun) -> list[Results]:
        """Call the function with each row; with ``on_error="raise"`` the first failure is the last result."""
        results: list[Results] = []
        for index, row in enumerate(piece.data.to_pylist()):
            try:
                results.append(self._retried(partial(self._row, row, piece.slice(index, 1), begun)))
            except IceblinkError as error:
                results.append(error)
                if self.function.policy.on_error == "raise":
                    break
        return results

    @property
    def elsewhere(self) -> bool:
        """Whether calls are made in another thread than that which asks for them."""
        return self._loop is not None or (self._ahead is not None and self._ahead.serving)

    def submit(self, piece: Piece, begun: Begun) -> Future[Any]:
        """Ask for a call that is made elsewhere: for what `rows` or `batches` return, coroutines awaited."""
        try:
            value = None if self.function.per_row else self._given(piece)
        except IceblinkError as error:
            failed: Future[Any] = Future()
            failed.set_exception(error)
            return failed
        per_row = self.function.per_row
        if self._loop is None:
            assert self._ahead is not None
            call = partial(self.rows, piece, begun) if per_row else partial(self._batches, value, piece, begun)
            return self._ahead.submit(call)
        begun(piece.before)
        return self._loop.submit(self._awaited_rows(piece) if per_row else self._awaited_batch(value, piece))

    def stop(self) -> None:
        """Let nothing be tried again; from any thread."""
        self._stopped.set()

    def close(self) -> None:
        """End what the function holds: the ``close`` of an instance that was built here, then the loop."""
        try:
            close = getattr(self._target, "close", None) if self.function.built else None
            if close is not None and inspect.iscoroutinefunction(close) and self._loop is not None:
                self._loop.run(close())
            elif close is not None:
                close()
        except Exception as error:
            raise FunctionError(_said(error), f"{self.function.label}.close(), ending a worker") from error
        finally:
            self._end_loop()

    def _end_loop(self) -> None:
        if self._loop is not None:
            self._loop.close()

    def _given(self, piece: Piece) -> Any:
        try:
            return given(piece.data, self.function.batch_format)
        except TypeMismatch as error:
            where = f"{called(self.function)}, {piece.place}, {error.where}"
            policy = self.function.policy.on_error
            whose = "" if policy == "raise" else f"; on_error={policy!r} is for rows at fault, and here the format is"
            raise TypeMismatch(error.what, where, f"{error.hint}{whose}") from None

    def _batches(self, value: Any, piece: Piece, begun: Begun) -> Iterable[Any]:
        if self.function.policy.retry_on:
            return self._retried(lambda: list(self._answers(value, piece, begun)))
        return self._answers(value, piece, begun)

    def _answers(self, value: Any, piece: Piece, begun: Begun) -> Iterable[Any]:
        answer = self._call(self._target, value, piece, begun)
        return self._yielded(answer, piece, begun) if isinstance(answer, Iterator) else [answer]

    def _yielded(self, answer: Iterator[Any], piece: Piece, begun: Begun) -> Iterator[Any]:
        ended = object()
        while (item := self._call(lambda _: next(answer, ended), None, piece, begun)) is not ended:
            yield item
            del item  # while the next one is made, nothing of this one is held

    def _row(self, row: dict[str, Any], place: Piece, begun: Begun) -> list[dict[str, Any]]:
        answer = self._call(self._target, row, place, begun)
        made = self._call(list, answer, place, begun) if isinstance(answer, Iterator) else [answer]
        return self._dicts(made, place)

    def _call(self, target: Callable[[Any], Any], value: Any, piece: Piece, begun: Begun) -> Any:
        begun(piece.before)
        try:
            return target(value)
        except IceblinkError:  # tells what is wrong by itself
            raise
        except (Exception, SystemExit) as error:
            raise self._told(error, piece) from error
        finally:
            begun(PAUSED)

    def _retried(self, call: Callable[[], list[Any]]) -> list[Any]:
        for tried in count():
            try:
                return call()
            except IceblinkError as error:
                if not may_retry(error, self.function, tried) or self._stopped.wait(pause_s(tried)):
                    raise
        raise AssertionError("count() never ends")

    async def _awaited_batch(self, value: Any, piece: Piece) -> list[Any]:
        return [await self._awaited(value, piece)]

    async def _awaited_rows(self, piece: Piece) -> list[Results]:
        results: list[Results] = [[] for _ in range(piece.rows)]
        left = iter(enumerate(piece.data.to_pylist()))

        async def draw() -> None:
            for index, row in left:
                place = piece.slice(index, 1)
                async with self._slots:
                    try:
                        results[index] = self._dicts([await self._awaited(row, place)], place)
                    except IceblinkError as error:
                        results[index] = error
                        if self.function.policy.on_error == "raise":
                            for _ in left:  # nobody needs the others
                                pass

        await asyncio.gather(*(draw() for _ in range(min(self.function.calls, piece.rows))))
        return results

    async def _awaited(self, value: Any, piece: Piece) -> Any:
        for tried in count():
            limit = asyncio.timeout(self.function.policy.timeout_s)
            try:
                try:
                    async with limit:
                        return await self._target(value)
                except IceblinkError:
                    raise
                except (Exception, SystemExit) as error:
                    raise self._told(error, piece, limit.expired()) from error
            except IceblinkError as error:
                if not may_retry(error, self.function, tried) or self._stopped.is_set():
                    raise
            await asyncio.sleep(pause_s(tried))
        raise AssertionError("count() never ends")

    def _dicts(self, made: Iterable[Any], place: Piece) -> list[dict[str, Any]]:
        rows = list(made)
        for row in rows:
            if not isinstance(row, dict):
                where = f"{called(self.function)}, {place.place}"
                raise BatchContractBroken(
                    f"it returned {type(row).__name__}, not a dict", where, "return {'column': value}"
                )
        return rows

    def _told(self, error: BaseException, piece: Piece, late: bool = False) -> FunctionError:
        """Return what the function raised as it is told; where others would be called after it, if they can be."""
        policy = self.function.policy
        goes_on = policy.on_error != "raise" or policy.retry_on
        # not after a call that was late: it may have a kernel that never ends, for which `gpu_lost` would wait
        if goes_on and not late and self.function.pool.gpus and gpu_lost():
            raise GpuLost(_said(error)) from error
        what = f"it took longer than {policy.timeout_s:g} s" if late else _said(error)
        return FunctionError(what, f"{called(self.function)}, {piece.place}{self._line(error)}")

    def _line(self, error: BaseException) -> str:
        """The deepest frame in the file that defines the function, which is where its author will look."""
        home = getattr(getattr(self.function.method, "__code__", None), "co_filename", None)
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
        own = [frame for frame in frames if frame.filename == home]
        return "".join(f", {frame.filename}:{frame.lineno}" for frame in (own or frames)[-1:])


async def _made(target: Callable[[], Any]) -> Any:
    """Build an instance where a loop is running: clients of servers ask for one."""
    return target()


def _said(error: BaseException) -> str:
    text = str(error).splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
