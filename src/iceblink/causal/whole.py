"""Arguments that are whole numbers: folds, seeds, bins. Python takes True for 1, and stumbles over 2.5 much later."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from iceblink.errors import ConfigError


def check_whole(where: str, **given: object) -> None:
    """Raise ConfigError unless each argument is a whole number, of Python or of NumPy."""
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            whole = isinstance(value, float) and value.is_integer()
            raise ConfigError(
                f"{name} is {value!r}", where, f"{name}={value:.0f}" if whole else "a whole number, as 1 or 10"
            )


def check_whole_fields(asked: Any, where: str) -> None:
    """Raise ConfigError unless each field of an estimator that is annotated as int is a whole number.

    NumPy's become Python's, for those of few bits would overflow.
    """
    for one in fields(asked):
        if one.type == "int":
            check_whole(where, **{one.name: getattr(asked, one.name)})
            object.__setattr__(asked, one.name, int(getattr(asked, one.name)))
