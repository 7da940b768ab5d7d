"""Newton's method for a concave objective that adds up over rows, a pass over the data for each step."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

import numpy as np

from iceblink.causal.moments import Floats
from iceblink.causal.solve import solved
from iceblink.causal.sums import Sums

MOST_STEPS = 50
MOST_BACK = 3
"""A step that led too far is halved so many times, if there is another place to begin."""
CLOSE = 1e-9
"""Newton's method ends where it is nearer to the maximum than this many standard errors."""
STILL = 1e-4
"""And where a step changes the scores of rows by less than this, in the root of their mean square."""


@dataclass(frozen=True, eq=False)
class Start:
    """Where a climb begins.

    Parameters
    ----------
    parameters : float64 array (k,)
    step : float64 array (k,)
        What is added to them before anything is read, 0 for nothing.
    objective : float
        That of the parameters before this step, if it is known: where the step makes it less, half of it is taken back.
    """

    parameters: Floats
    step: Floats
    objective: float = -np.inf

    @classmethod
    def at(cls, parameters: Floats) -> Start:
        """Begin at parameters of which nothing is known."""
        return cls(parameters, np.zeros(len(parameters)))


@dataclass(frozen=True, eq=False)
class Maximum:
    """Where an objective is largest, or where Newton's method stood when it was given up.

    Parameters
    ----------
    found : bool
    parameters : float64 array (k,)
    """

    found: bool
    parameters: Floats


Climb = Generator[Floats, Sums, Maximum]
"""Asks for the objective at parameters (k,), step after step, and returns its maximum."""


def climbed(start: Start, at: Callable[[Floats], Sums], spread: Floats) -> Maximum:
    """Return where an objective is largest.

    Parameters
    ----------
    start : Start
    at : callable
        Returns the objective's ``likelihood``, its ``slope`` (k,) and its ``curvature`` (k, k), of all rows.
    spread : float64 array (k, k)
        Mean squares and products of what the parameters are multiplied with: by these a step that does not change
        the scores of rows is told from one along which the objective is flat and has no maximum.
    """
    climb = climbing(start, spread)
    here = next(climb)
    while True:
        try:
            here = climb.send(at(here))
        except StopIteration as end:
            found: Maximum = end.value
            return found


def climbing(start: Start, spread: Floats) -> Climb:
    """Climb as `climbed` does, and leave it to the caller to say what the objective is, of many climbs in one pass.

    A step may lead the rows of a small category so far that they bend the objective no more, and the next one is
    endless. Then it begins anew where all scores are 0: chances bend most there, so that steps are rather too short.
    """
    guessed = bool(start.step.any())
    found, lost = yield from _steps(start, spread, MOST_BACK if guessed else MOST_STEPS)
    if lost and guessed:
        found, _ = yield from _steps(Start.at(np.zeros(len(start.parameters))), spread, MOST_STEPS)
    return found


def _steps(start: Start, spread: Floats, most_back: int) -> Generator[Floats, Sums, tuple[Maximum, bool]]:
    """Take steps while there are any, and return where they ended, and whether one of them led too far.

    Each step squares what is missing: after one that moves the scores of rows by a part of 1, it is about this part of
    the step's length in standard errors. So the last step is taken without a pass that looks at where it led.
    """
    step, best, back = start.step, start.objective, 0
    parameters = start.parameters + step
    for _ in range(MOST_STEPS):
        here = yield parameters
        objective = float(here["likelihood"])
        if not objective >= best - 1e-12 * abs(best):  # too far: half of it
            if (back := back + 1) > most_back:
                return Maximum(False, parameters), True
            step = step / 2
            parameters = parameters - step
            continue
        best, back = objective, 0
        curved = solved(here["curvature"])
        if len(curved.kept) < len(parameters):
            return Maximum(False, parameters), True
        step = curved.inverse @ here["slope"]
        length, moved = np.sqrt(np.abs([here["slope"] @ step, step @ spread @ step]))
        if moved <= STILL and length * moved < CLOSE:
            return Maximum(True, parameters + step), False
        if length < CLOSE:
            break
        parameters = parameters + step
    return Maximum(False, parameters), False
