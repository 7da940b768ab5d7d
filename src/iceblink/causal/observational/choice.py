"""The chance of each treatment given the confounders: the propensity score, by maximum likelihood."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import pyarrow as pa

from iceblink.causal.blas import one_thread
from iceblink.causal.late import special
from iceblink.causal.matrix import Category
from iceblink.causal.moments import Floats, Integers
from iceblink.causal.multinomial import LOGITS, Chances, curved
from iceblink.causal.newton import Start, climbed
from iceblink.causal.observational.study import Reader, Rows, Study
from iceblink.causal.passes import summed
from iceblink.causal.solve import solved
from iceblink.causal.sums import Sums
from iceblink.errors import ConfigError, PlanError, nearest

Link = Literal["logit", "probit"]


class Curve(Protocol):
    """How chances follow from linear scores."""

    def start(self, shares: Floats, means: Floats, products: Floats, weight: float) -> Start:
        """Return coefficients near the maximum, by shares and means of each arm, as `Logits.start` does."""

    def chances(self, scores: Floats) -> Chances:
        """Return the chances at scores (L, n)."""

    def likelihood(self, scores: Floats, arm: Integers) -> Floats:
        """Return the logarithm of the chance (n,) of the arm that each row has."""

    def curvature(self, scores: Floats, arm: Integers, chances: Chances) -> Floats:
        """Return the negative second derivatives (L, L, n) of that."""


@dataclass(frozen=True)
class Probits:
    """Probit, of two arms.

    References
    ----------
    .. [1] Amemiya: Qualitative response models: a survey, Journal of Economic Literature 1981, eq. 2.9.
    """

    def start(self, shares: Floats, means: Floats, products: Floats, weight: float) -> Start:
        logit = LOGITS.start(shares, means, products, weight)
        parameters = np.zeros(len(logit.parameters))
        parameters[0] = special.ndtri(shares[1])
        return Start(parameters, logit.step / 1.6, logit.objective)  # its slopes are those of a logit over 1.6 [1]_

    def chances(self, scores: Floats) -> Chances:
        of = special.ndtr(np.concatenate([-scores, scores]))
        return Chances(of, np.stack([-_mills(-scores), _mills(scores)]))

    def likelihood(self, scores: Floats, arm: Integers) -> Floats:
        return np.asarray(special.log_ndtr(np.where(arm == 1, scores[0], -scores[0])))

    def curvature(self, scores: Floats, arm: Integers, chances: Chances) -> Floats:
        turned = np.where(arm == 1, scores, -scores)
        ratio = _mills(turned)
        return np.asarray(ratio * (ratio + turned))[np.newaxis]


def _mills(score: Floats) -> Floats:
    """Return the normal density over its distribution, also far left, where both vanish."""
    return np.asarray(np.exp(-(score**2) / 2 - special.log_ndtr(score)) / np.sqrt(2 * np.pi))


CURVES: dict[Link, Curve] = {"logit": LOGITS, "probit": Probits()}


@dataclass(frozen=True, eq=False)
class Choice:
    """A fitted model of the treatment.

    Parameters
    ----------
    curve : Curve
    places : tuple of int
        Columns of the confounders.
    coefficients : float64 array (L, 1 + k)
        Of each arm but the first: of the one, and of the columns as the reader scales them.
    """

    curve: Curve
    places: tuple[int, ...]
    coefficients: Floats

    def scores(self, rows: Rows) -> Floats:
        """Return the linear scores (L, n)."""
        return np.asarray(self.coefficients @ rows.beside_ones(self.places))

    def chances(self, rows: Rows) -> Chances:
        return self.curve.chances(self.scores(rows))


def choice(study: Study, link: Link, where: str) -> tuple[Choice, tuple[str, ...]]:
    """Fit the model of the treatment, and say which columns it left out since they follow from others.

    Eager: a pass for each of about three steps.

    Raises
    ------
    ConfigError
        A probit of more than two arms.
    PlanError
        Some confounders tell the arms apart without error, so that the likelihood has no maximum.
    """
    if link not in CURVES:
        raise ConfigError(f"no link {link!r}", where, nearest(link, list(CURVES), "links"))
    if link == "probit" and len(study.arms) > 2:
        raise ConfigError(f"a probit has two arms, and here are {len(study.arms)}", where, 'link="logit"')
    curve, model = CURVES[link], list(study.treatment_model)
    spread = study.correlations[np.ix_(model, model)]
    places = tuple(model[at] for at in solved(spread).kept)
    dropped = tuple(study.names[place] for place in model if place not in places)
    _told_apart(study, places, where)
    width, others = 1 + len(places), len(study.arms) - 1
    data, weights = study.needed(), study.found.weights
    means = (study.found.means[:, 1:] - study.reader.centres) / study.reader.scales
    inside = study.correlations[np.ix_(places, places)]
    start = curve.start(weights / weights.sum(), means[:, places], inside, float(weights.sum()))

    def at(parameters: Floats) -> Sums:
        here = Choice(curve, places, parameters.reshape(others, width))
        return summed(data, _Slope(study.reader, here))

    beside = np.eye(width)
    beside[1:, 1:] = inside
    maximum = climbed(start, at, np.asarray(np.kron(np.eye(others), beside), np.float64))
    found = Choice(curve, places, maximum.parameters.reshape(others, width))
    if not maximum.found:
        far = int(np.argmax(np.abs(found.coefficients[:, 1:]).max(axis=0, initial=0.0))) if places else 0
        name = study.names[places[far]] if places else study.arms.column
        raise _apart(study, f"the coefficient of {name} grows without end", where)
    return found, dropped


def _told_apart(study: Study, places: tuple[int, ...], where: str) -> None:
    """Refuse a category that no row of an arm has, or every one: there its coefficient is infinite."""
    of_category = {name for term in study.reader.matrix.terms if isinstance(term, Category) for name in term.names}
    for place in places:
        if study.names[place] not in of_category:
            continue
        for arm, (mean, squares) in enumerate(
            zip(study.found.means[:, 1 + place], study.found.products[:, 1 + place, 1 + place], strict=True)
        ):
            if squares == 0 and mean in (0.0, 1.0):
                how = "every row" if mean else "no row"
                raise _apart(
                    study, f"{how} of {study.arms.column} {study.arms.names[arm]} has {study.names[place]}", where
                )


def _apart(study: Study, why: str, where: str) -> PlanError:
    return PlanError(
        f"the confounders tell who has which {study.arms.column}, so there is no overlap: {why}",
        where,
        "leave out rows that could not have had each treatment, join categories, or leave out a column that says what "
        "the treatment is",
    )


@dataclass(frozen=True)
class _Slope:
    """The likelihood of a block of rows, its slope and its curvature."""

    reader: Reader
    choice: Choice

    def __call__(self, batch: pa.RecordBatch) -> Sums:
        curve = self.choice.curve
        with one_thread():
            rows = self.reader.rows(batch)
            columns = rows.beside_ones(self.choice.places)
            scores = np.asarray(self.choice.coefficients @ columns)
            chances = curve.chances(scores)
            own = chances.slopes[rows.arm, :, np.arange(len(rows.arm))].T
            factors = curve.curvature(scores, rows.arm, chances)
            return Sums(
                {
                    "likelihood": np.array((rows.weight * curve.likelihood(scores, rows.arm)).sum()),
                    "slope": ((own * rows.weight) @ columns.T).ravel(),
                    "curvature": curved(factors * rows.weight, columns),
                }
            )
