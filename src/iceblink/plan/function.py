"""A user's Python function and everything that was said of how to call it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, get_args

import pyarrow as pa

from iceblink.errors import ConfigError, nearest

BatchFormat = Literal["arrow", "numpy", "numpy_masked", "pandas", "polars"]
OnError = Literal["raise", "skip", "quarantine"]


@dataclass(frozen=True)
class Pool:
    """The workers that call a function, and what each of them needs.

    Parameters
    ----------
    fewest, most : int
        Workers kept while there is work, and at the busiest. None are started before the first batch is there.
    processes : bool
        Whether each is a process of its own instead of a thread.
    cpus, gpus : float
        What a worker at work occupies.
    memory_bytes : int or None
        What a worker takes for itself besides its batches, a model for example [bytes].
    resources, labels : mapping
        What else the node of a worker must have for it, and what it must be called: words of a cluster.
    """

    fewest: int = 1
    most: int = 1
    processes: bool = False
    cpus: float = 1.0
    gpus: float = 0.0
    memory_bytes: int | None = None
    resources: Mapping[str, float] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Policy:
    """What happens when a call fails.

    Parameters
    ----------
    on_error : {"raise", "skip", "quarantine"}
        For rows that still fail when they are alone.
    quarantine : str or None
        Table or folder that takes them.
    retry_on : tuple of exception types
        Failures of which the same call may be tried again, `retries` times, waiting longer each time.
    retries : int
    timeout_s : float or None
        A call that takes longer has failed [s].
    """

    on_error: OnError = "raise"
    quarantine: str | None = None
    retry_on: tuple[type[Exception], ...] = ()
    retries: int = 3
    timeout_s: float | None = None


@dataclass(frozen=True)
class Function:
    """A Python function over batches or rows, and how to call it.

    Parameters
    ----------
    target : callable or class
        A class is built once in each worker and its instances are called. A coroutine function is awaited, a
        generator function gives any number of batches for each.
    per_row : bool
        Whether it takes one row (a dict) instead of a batch.
    batch_rows : int or None
        Exactly this many rows a call, but for the last; None takes batches as they come.
    batch_format : {"arrow", "numpy", "numpy_masked", "pandas", "polars"}
        What it is given.
    declared : Schema or None
        What it promised to return.
    pool : Pool
    policy : Policy
    calls : int
        Of a coroutine function: calls awaited at the same time in one worker.
    ordered : bool
        Whether its output keeps the order of its input.
    """

    target: Callable[..., Any]
    per_row: bool = False
    batch_rows: int | None = None
    batch_format: BatchFormat = "arrow"
    declared: pa.Schema | None = None
    pool: Pool = field(default_factory=Pool)
    policy: Policy = field(default_factory=Policy)
    calls: int = 1
    ordered: bool = True

    @property
    def label(self) -> str:
        """The function's name, for messages and plans."""
        target = getattr(self.target, "func", self.target)  # inside functools.partial
        return getattr(target, "__qualname__", type(target).__name__).replace("<locals>.", "")

    @property
    def built(self) -> bool:
        """Whether each worker builds an instance of a class."""
        return isinstance(getattr(self.target, "func", self.target), type)

    @property
    def pure_python(self) -> bool:
        """Whether it was declared to be, see `pure_python`."""
        return bool(getattr(getattr(self.target, "func", self.target), "pure_python", False))

    @property
    def method(self) -> Callable[..., Any] | None:
        """What is called with a batch; None for a class without ``__call__``."""
        inner = getattr(self.target, "func", self.target)
        if isinstance(inner, type):
            return _call_of(inner)
        return inner if inspect.isroutine(inner) else _call_of(type(inner))

    @property
    def awaits(self) -> bool:
        """Whether its calls are coroutines."""
        return inspect.iscoroutinefunction(self.method)


def check_on_error(on_error: OnError, quarantine: str | None, verb: str) -> None:
    """Hold what a user said of rows that fail against what there is.

    Raises
    ------
    ConfigError
        No such choice, or a quarantine without a target, or the other way round.
    """
    if on_error not in (choices := get_args(OnError)):
        raise ConfigError(f"no on_error {on_error!r}", verb, nearest(on_error, choices, "choices"))
    if (on_error == "quarantine") != (quarantine is not None):
        raise ConfigError(
            "on_error='quarantine' and quarantine= go together", verb, "quarantine='ns.table', or a folder './refused/'"
        )


T = TypeVar("T", bound=Callable[..., Any])


def pure_python(function: T) -> T:
    """Declare that a function or class computes in Python itself, and so keeps Python's lock while it works.

    `map_batches` and `map` then call it in processes, unless they are told ``processes=False``. A decorator; an
    attribute ``pure_python = True`` says the same.

    >>> @ib.pure_python
    ... def parsed(row): ...  # doctest: +SKIP
    """
    function.pure_python = True  # type: ignore[attr-defined]
    return function


def _call_of(kind: type) -> Callable[..., Any] | None:
    """Return the ``__call__`` that instances of a class have; ``getattr`` would find the one of its metaclass."""
    return next((vars(base)["__call__"] for base in kind.__mro__ if "__call__" in vars(base)), None)
