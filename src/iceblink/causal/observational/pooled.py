"""One linear model of the outcome for all arms, in which the treatment changes some slopes and leaves others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from iceblink.causal.moments import Floats, Integers
from iceblink.causal.observational.outcomes import Weigh, normal_equations
from iceblink.causal.observational.study import Rows, Study
from iceblink.causal.solve import solved
from iceblink.errors import PlanError


@dataclass(frozen=True, eq=False)
class Pooled:
    """The model y = a_j + x'b + z'c_j of arm j.

    The same fit as one on ones, the treatment, x, z, and the products of treatment and z.

    Parameters
    ----------
    arms : int
    columns : tuple of (int or None, int or None)
        Of each coefficient the arm that it is of, None for all, and the place of its column, None for ones.
    coefficients : float64 array (q,)
        Of columns as the reader scales them.
    """

    arms: int
    columns: tuple[tuple[int | None, int | None], ...]
    coefficients: Floats

    def places(self, arm: int) -> tuple[int | None, ...]:
        """Return the places of the columns that have a slope in an arm."""
        return tuple(place for of, place in self.columns if of in (None, arm))

    def design(self, rows: Rows, arm: Integers) -> Floats:
        """Return what the coefficients are multiplied with (q, n), if rows had these arms."""
        found = np.zeros((len(self.columns), len(rows.arm)))
        for at, (of, place) in enumerate(self.columns):
            found[at] = 1.0 if place is None else rows.columns[place]
            if of is not None:
                found[at, arm != of] = 0.0
        return found


def pooled(study: Study, weigh: Weigh | None, where: str) -> Pooled:
    """Fit the model. No pass, or with weights that are known row by row one.

    Raises
    ------
    PlanError
        There are no more rows with weight than coefficients, or an arm has none.
    """
    assert study.interacted is not None
    arms = range(len(study.arms))
    own = study.interacted
    shared = [place for place in study.outcome_model if place not in own]
    columns: list[tuple[int | None, int | None]] = [(arm, None) for arm in arms]
    columns += [(None, place) for place in shared]
    columns += [(arm, place) for arm in arms for place in own]
    parts = normal_equations(study, weigh)
    products, right = np.zeros((len(columns), len(columns))), np.zeros(len(columns))
    beside: dict[int | None, int] = {None: 0}
    beside.update((place, at) for at, place in enumerate(study.outcome_model, 1))
    for arm in arms:
        used = [at for at, (of, _) in enumerate(columns) if of in (None, arm)]
        places = [beside[columns[at][1]] for at in used]
        products[np.ix_(used, used)] += parts["products"][arm][np.ix_(places, places)]
        right[used] += parts["right"][arm][places]
    if not (parts["rows"] > 0).all():
        name = study.arms.names[int(np.argmin(parts["rows"]))]
        raise PlanError(f"no row of {study.arms.column} {name} has weight", where, "trim less")
    found = solved(products)
    if parts["rows"].sum() <= len(found.kept):
        raise PlanError(
            f"{int(parts['rows'].sum()):,} rows with weight are too few for {len(found.kept)} coefficients",
            where,
            "give the model of the outcome fewer terms",
        )
    coefficients = found.inverse @ right[found.kept]
    coefficients[: len(arms)] += study.means
    return Pooled(len(arms), tuple(columns[at] for at in found.kept), coefficients)
