"""Newton's method for a concave objective that adds up over rows, a pass over the data for each step."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

import numpy as np

from iceblink.causal.moments import Floats
from iceblink.causal.solve import solved
from iceblink.causal.sums import Sums

MOST_STEPS = 50
CLOSE = 1e-9
"""Newton's method ends where the next step is shorter than this many standard errors."""
STILL = 1e-4
"""And where it changes the scores of rows by less than this, in the root of their mean square."""


@dataclass(frozen=True, eq=False)
class Maximum:
    """Where an objective is largest, or where Newton's method stood when it was given up.

    Parameters
    ----------
    found : bool
    parameters : float64 array (k,)
    objective : float
    inverse : float64 array (k, k)
        Of the curvature there, the negative second derivatives; of no meaning where nothing was found.
    """

    found: bool
    parameters: Floats
    objective: float
    inverse: Floats


Climb = Generator[Floats, Sums, Maximum]
"""Asks for the objective at parameters (k,), step after step, and returns its maximum."""


def climbed(start: Floats, at: Callable[[Floats], Sums], spread: Floats) -> Maximum:
    """Return where an objective is largest.

    Parameters
    ----------
    start : float64 array (k,)
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


def climbing(start: Floats, spread: Floats) -> Climb:
    """Climb as `climbed` does, and leave it to the caller to say what the objective is, of many climbs in one pass."""
    parameters, step, best = start, np.zeros(len(start)), -np.inf
    inverse = np.zeros((len(start), len(start)))
    for _ in range(MOST_STEPS):
        here = yield parameters
        objective = float(here["likelihood"])
        if not objective >= best - 1e-12 * abs(best):  # too far: half of it
            step = step / 2
            parameters = parameters - step
            continue
        best = objective
        curved = solved(here["curvature"])
        if len(curved.kept) < len(start):
            break
        inverse = curved.inverse
        step = inverse @ here["slope"]
        if float(here["slope"] @ step) < CLOSE**2:
            return Maximum(float(step @ spread @ step) <= STILL**2, parameters, best, inverse)
        parameters = parameters + step
    return Maximum(False, parameters, best, inverse)
