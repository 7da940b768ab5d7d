"""A user's function as bytes for another process, or an error that says what in it cannot go there."""

from __future__ import annotations

import inspect
import pickle
import traceback
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any

import cloudpickle

from iceblink.errors import FunctionError

IN_THE_WORKER = "make it in the worker: give a class whose __init__ opens it; or processes=False"


def pickled(build: Callable[..., Any], label: str, hint: str = IN_THE_WORKER) -> bytes:
    """Return what builds a worker as bytes; functions of scripts and notebooks travel whole, others by name.

    Raises
    ------
    FunctionError
        It holds something that cannot be pickled; names it.
    """
    try:
        return bytes(cloudpickle.dumps(build))
    except Exception as error:  # whatever a __reduce__ raises
        name, value = _culprit(build)
        held = f"its {name}, a {_kind(value)}, cannot" if name else "it cannot"
        raise FunctionError(
            f"{held} go to another process: {error}",
            label,
            hint,
        ) from error


def rebuilt(data: bytes, label: str) -> Callable[[], Any]:
    """Return what `pickled` took.

    Raises
    ------
    FunctionError
        Something that it needs is not here.
    """
    try:
        build: Callable[[], Any] = pickle.loads(data)
    except Exception as error:
        raise FunctionError(
            f"it cannot be rebuilt in a worker process: {type(error).__name__}: {error}",
            label,
            "every module that it imports must be found there too; or processes=False",
        ) from error
    return build


def carried(error: BaseException, label: str) -> bytes:
    """Return an error as bytes, with its traceback, which does not travel, as a note."""
    error.add_note("In the worker process:\n" + "".join(traceback.format_exception(error)).rstrip())
    return portable(error, label)


def portable(error: BaseException, label: str) -> bytes:
    """Return an error as bytes; one that cannot be pickled becomes a `FunctionError` with its words."""
    try:
        data = bytes(cloudpickle.dumps(error))
        pickle.loads(data)  # many classes pickle and then miss an argument of their __init__
        return data
    except Exception:
        told = FunctionError(f"{type(error).__name__}: {error}", label)
        for note in getattr(error, "__notes__", ()):
            told.add_note(note)
        return pickle.dumps(told)


def _culprit(value: Any) -> tuple[str, Any]:
    """Return the innermost thing that cannot be pickled, and its name; an empty name when it is `value` itself."""
    seen: set[int] = set()
    name = ""
    while id(value) not in seen:
        seen.add(id(value))
        for inner_name, inner in _held(value):
            if id(inner) not in seen and not _pickles(inner):
                name, value = inner_name, inner
                break
    return name, value


def _held(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a function or an object takes along, with the names that its author gave."""
    if isinstance(value, partial):
        yield "function", value.func
        yield from ((f"argument {at + 1}", item) for at, item in enumerate(value.args))
        yield from ((f"argument {name!r}", item) for name, item in value.keywords.items())
    elif inspect.ismethod(value):
        yield "object", value.__self__
    elif inspect.isfunction(value):
        variables = inspect.getclosurevars(value)
        yield from ((f"captured variable {name!r}", item) for name, item in variables.nonlocals.items())
        yield from ((f"global variable {name!r}", item) for name, item in variables.globals.items())
        yield from ((f"default value {item!r}", item) for item in value.__defaults__ or ())
    elif isinstance(value, type):
        yield from ((f"attribute {name!r}", item) for name, item in vars(value).items() if not name.startswith("__"))
        yield from (("method", item) for name, item in vars(value).items() if inspect.isfunction(item))
    elif is_dataclass(value):
        yield from ((f"attribute {field.name!r}", getattr(value, field.name, None)) for field in fields(value))
    elif isinstance(value, dict):
        yield from ((f"item {key!r}", item) for key, item in value.items())
    elif isinstance(value, list | tuple):
        yield from ((f"item {at}", item) for at, item in enumerate(value))
    else:
        yield from ((f"attribute {name!r}", item) for name, item in getattr(value, "__dict__", {}).items())


def _pickles(value: Any) -> bool:
    try:
        cloudpickle.dumps(value)
    except Exception:
        return False
    return True


def _kind(value: Any) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
