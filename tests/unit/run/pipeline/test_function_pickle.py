"""What cannot go to another process is named the way its author wrote it."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from iceblink.errors import ColumnNotFound, FunctionError
from iceblink.run.pipeline.function_pickle import pickled, portable

LOCK = threading.Lock()


@dataclass(frozen=True)
class Holder:
    target: object
    number: int = 1


class Model:
    def __init__(self) -> None:
        self.parts = {"guard": threading.Lock()}

    def __call__(self) -> None: ...


def test_functions_and_what_they_captured_travel() -> None:
    factor = 3
    built = pickle.loads(pickled(lambda: factor * 2, "op"))
    assert built() == 6


def _deep() -> Callable[[], Any]:
    guard = threading.Lock()

    def inner() -> Any:
        return guard

    def outer() -> Any:
        return inner

    return outer


def _default() -> Callable[[], Any]:
    def function(guard: Any = threading.Lock()) -> Any:  # noqa: B008
        return guard

    return function


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (_deep(), "captured variable 'guard'"),
        (partial(print, threading.Lock()), "argument 1"),
        (partial(print, end=threading.Lock()), "argument 'end'"),
        (partial(Holder, Holder(_deep())), "captured variable 'guard'"),
        (Model(), "item 'guard'"),
        (Model().__call__, "item 'guard'"),
        (_default(), "default value"),
    ],
)
def test_the_culprit_is_named(build: Callable[[], Any], named: str) -> None:
    with pytest.raises(FunctionError) as caught:
        pickled(build, "clean")
    assert named in caught.value.what
    assert "_thread.lock" in caught.value.what
    assert caught.value.where == "clean"
    assert "__init__" in caught.value.hint


class Refuses(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__("said")


def test_an_error_keeps_its_class_its_words_and_its_notes() -> None:
    error = ColumnNotFound("no column 'x'", "op", "did you mean 'y'?")
    error.add_note("in line 3")
    back = pickle.loads(portable(error, "op"))
    assert (type(back), back.args, back.__notes__) == (ColumnNotFound, error.args, ["in line 3"])


def test_an_error_that_cannot_be_unpickled_becomes_a_function_error() -> None:
    error = Refuses(1, 2)
    error.add_note("in line 3")
    back = pickle.loads(portable(error, "op"))
    assert isinstance(back, FunctionError)
    assert (back.what, back.where, back.__notes__) == ("Refuses: said", "op", ["in line 3"])
