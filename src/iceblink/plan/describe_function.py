"""The arguments of `map_batches` and `map`, checked where they are written, become a `Function`."""

from __future__ import annotations

import functools
import typing
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pyarrow as pa

from iceblink.config import parse_bytes
from iceblink.errors import ConfigError, IceblinkError, PlanError
from iceblink.hints import schema_of
from iceblink.plan.function import BatchFormat, Function, OnError, Policy, Pool, check_on_error
from iceblink.types import to_schema

AWAITED = 16
"""Calls of a coroutine function that are awaited at the same time, unless `workers` says otherwise."""

_WORDS = {"CPU": "cpus", "GPU": "gpus", "memory": "memory"}
"""What a cluster calls the amounts that have words of their own."""


def described(
    target: Callable[..., Any],
    *,
    verb: str,
    threads: int,
    schema: Any = None,
    batch_size: int | None = None,
    batch_format: BatchFormat = "arrow",
    workers: int | tuple[int, int] | None = None,
    processes: bool | None = None,
    cpus: float | None = None,
    gpus: float = 0.0,
    memory: int | str | None = None,
    resources: Mapping[str, float] | None = None,
    labels: Mapping[str, str] | None = None,
    on_error: OnError = "raise",
    quarantine: str | None = None,
    retry_on: type[Exception] | tuple[type[Exception], ...] = (),
    retries: int = 3,
    timeout_s: float | None = None,
    ordered: bool = True,
) -> Function:
    """Return the function that `Dataset.map_batches` was given; `threads` is what the machine has.

    Raises
    ------
    ConfigError
        An argument that cannot be.
    """
    bare = Function(target, verb == "map")
    _check_callable(bare, verb)
    if batch_size is not None and batch_size < 1:
        raise ConfigError(f"batch_size is {batch_size}", verb, "at least 1, or None")
    formats = typing.get_args(BatchFormat)
    if batch_format not in formats:
        raise ConfigError(f"no batch_format {batch_format!r}", verb, f"one of {', '.join(formats)}")
    fewest, most = _pool_size(workers, bare, threads, verb)
    awaited = most if bare.awaits and workers is not None else AWAITED
    if bare.awaits:
        fewest = most = 1
    if gpus < 0 or (cpus is not None and cpus < 0):
        raise ConfigError("cpus and gpus cannot be negative", verb)
    if cpus is None:
        cpus = getattr(target, "cpus", None)
    if cpus is None:  # what waits for a device or a server does not compute
        cpus = 0.0 if gpus or bare.awaits else min(1.0, threads / most)
    _check_places(resources or {}, labels or {}, verb)
    if (resources or labels) and processes is False:
        hint = "leave processes= out: a node is chosen for a process of its own"
        raise ConfigError("processes=False goes with neither resources= nor labels=", verb, hint)
    if processes is None:  # a device is chosen for a whole process, and Python's lock is one for a whole process
        processes = bool(gpus or resources or labels) or bare.pure_python
    pool = Pool(fewest, most, processes, cpus, gpus, _bytes(memory, verb), dict(resources or {}), dict(labels or {}))
    policy = _policy(on_error, quarantine, retry_on, retries, timeout_s, verb)
    declared = to_schema(schema) if schema is not None else schema_of(bare.method or target)
    return Function(target, bare.per_row, batch_size, batch_format, declared, pool, policy, awaited, ordered)


def promised(function: Function, source: Callable[[], pa.Schema]) -> Function:
    """Return a function with the schema that its object promises for its input, where none was declared.

    Parameters
    ----------
    function : Function
        One whose target has a method ``output_schema(input_schema)`` is asked; a class is not, for its instances are
        only made in the workers.
    source : callable
        Gives the schema of the input.

    Raises
    ------
    PlanError
        The object does not accept the input: what it raised, or told in words where that was no error of ours.
    """
    ask = getattr(function.target, "output_schema", None)
    if function.declared is not None or function.built or ask is None:
        return function
    schema = source()
    try:
        return replace(function, declared=to_schema(ask(schema)))
    except IceblinkError:
        raise
    except Exception as error:
        what = f"its output_schema failed: {type(error).__name__}: {error}"
        raise PlanError(what, f"map_batches({function.label})", "or declare schema={...}") from error


def _check_callable(function: Function, verb: str) -> None:
    target = function.target
    if not callable(target):
        raise ConfigError(f"{target!r} cannot be called", verb, "give a function or a class with __call__")
    if function.method is None:
        inner = target.func if isinstance(target, functools.partial) else target
        raise ConfigError(f"class {inner.__name__} has no __call__", verb, "def __call__(self, batch): ...")


def _pool_size(workers: int | tuple[int, int] | None, function: Function, threads: int, verb: str) -> tuple[int, int]:
    if workers is None:
        return (1, 1) if function.built else (1, threads)
    fewest, most = (workers, workers) if isinstance(workers, int) else workers
    if most < 1 or not 0 <= fewest <= most:
        raise ConfigError(f"workers is {workers}", verb, "a number from 1, or (fewest, most)")
    return fewest, most


def _bytes(memory: int | str | None, verb: str) -> int | None:
    size = parse_bytes(memory, verb) if isinstance(memory, str) else memory
    if size is not None and size < 0:
        raise ConfigError(f"memory is {memory}", verb, "bytes, or a text such as '2GiB'")
    return size


def _check_places(resources: Mapping[str, float], labels: Mapping[str, str], verb: str) -> None:
    for name, amount in resources.items():
        if (word := _WORDS.get(name)) is not None:
            raise ConfigError(f"resources has {name!r}", verb, f"write {word}={amount!r}")
        if not isinstance(amount, int | float) or amount <= 0 or (amount > 1 and amount != int(amount)):
            raise ConfigError(f"resources has {amount!r} of {name!r}", verb, "a fraction of one, or whole ones")
    for key, value in labels.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise ConfigError(f"labels has {key!r}: {value!r}", verb, 'texts, such as {"zone": "a"}')


def _policy(
    on_error: OnError,
    quarantine: str | None,
    retry_on: type[Exception] | tuple[type[Exception], ...],
    retries: int,
    timeout_s: float | None,
    verb: str,
) -> Policy:
    check_on_error(on_error, quarantine, verb)
    kinds = retry_on if isinstance(retry_on, tuple) else (retry_on,)
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, Exception)):
            raise ConfigError(f"retry_on has {kind!r}, not an exception class", verb, "retry_on=ConnectionError")
    if retries < 0:
        raise ConfigError(f"retries is {retries}", verb, "0 or more")
    if timeout_s is not None and timeout_s <= 0:
        raise ConfigError(f"timeout_s is {timeout_s}", verb, "seconds, or None")
    return Policy(on_error, quarantine, kinds, retries, timeout_s)
