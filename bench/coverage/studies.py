"""Studies with known effects, drawn by a seed, and what estimators say of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np

from bench.coverage.memory import Memory
from iceblink import causal as ci

Held = Iterator[tuple[str, float, float, float]]
"""The name of an estimator, the bounds of an interval, and the truth."""
Draw = Callable[[int], Held]

OBSERVATIONAL: dict[str, Any] = {
    "IPW": ci.IPW(),
    "IPW, Horvitz-Thompson": ci.IPW(normalized=False),
    "IPW of the treated": ci.IPW("ATT"),
    "IPW, probit": ci.IPW(link="probit"),
    "regression adjustment": ci.RegressionAdjustment(),
    "AIPW": ci.AIPW(),
    "AIPW, weighted": ci.AIPW(weighted=True),
    "AIPW of the treated": ci.AIPW("ATT"),
    "IPW-RA": ci.IPWRA(),
    "entropy balancing": ci.EntropyBalancing(),
    "nearest neighbour": ci.NearestNeighbour(),
}
ONE_MODEL: dict[str, Any] = {
    "regression adjustment, one model": ci.RegressionAdjustment(),
    "AIPW, one model": ci.AIPW(),
}
LIKE_WITH_LIKE: dict[str, Any] = {
    "strata": ci.Stratification(20),
    "strata, of the treated": ci.Stratification(20, "ATT"),
    "coarsened": ci.CoarsenedMatching(),
    "coarsened, ATE": ci.CoarsenedMatching(estimand="ATE"),
}


@cache
def truths() -> dict[str, float]:
    """Return the effects of `observational` on all and on the treated, by integrals over the normal confounder."""
    at, mass = np.polynomial.hermite_e.hermegauss(60)
    mass = mass / mass.sum()
    chance = sum((1 / (1 + np.exp(-(0.6 * at - 0.8 * g))) / 2 for g in (0, 1)), np.zeros(60))
    return {"ATE": 1.0, "ATT": float(mass @ (chance * (1 + 0.5 * at)) / (mass @ chance))}


def observational(seed: int) -> Held:
    """500 rows, a binary and a normal confounder, a treatment by both, an effect that differs between rows."""
    draw = np.random.default_rng(seed)
    x, g = draw.normal(size=500), draw.integers(0, 2, 500)
    treated = draw.uniform(size=500) < 1 / (1 + np.exp(-(0.6 * x - 0.8 * g)))
    outcome = x + g + treated * (1 + 0.5 * x) + draw.normal(size=500)
    data = Memory.of(y=outcome, t=treated.astype(int), x=x, g=g)
    for estimators, problem in (
        (OBSERVATIONAL, ci.Problem(data, "y", "t", "x + g")),
        (ONE_MODEL, ci.Problem(data, "y", "t", "x + g", interactions="x")),
    ):
        for name, estimator in estimators.items():
            found = estimator.fit(problem)
            low, high = found.interval()[0]
            yield name, low, high, truths()[found.names[0]]


def like_with_like(seed: int) -> Held:
    """500 rows in eight cells, so that the score says all; effects of 1, or by cell; noise that differs by arm."""
    draw = np.random.default_rng(seed)
    f, g = draw.integers(0, 4, 500), draw.integers(0, 2, 500)
    treated = draw.uniform(size=500) < 1 / (1 + np.exp(-(0.5 * (f - 1.5) - 0.7 * g)))
    outcome = f + g + treated + draw.normal(size=500) * (1 + treated)
    data = Memory.of(y=outcome, varied=outcome + treated * (f - 1.5), t=treated.astype(int), f=f, g=g)
    for name, estimator in LIKE_WITH_LIKE.items():
        low, high = estimator.fit(ci.Problem(data, "y", "t", "i(f) + i(g)")).interval()[0]
        yield name, low, high, 1.0
    at = np.arange(4)[:, np.newaxis] - 1.5
    chance = 1 / (1 + np.exp(-(0.5 * at - 0.7 * np.arange(2))))
    for estimand, truth in (("ATT", 1 + float((chance * at).sum() / chance.sum())), ("ATE", 1.0)):
        matching: Any = ci.CoarsenedMatching(estimand=estimand)  # type: ignore[arg-type]
        low, high = matching.fit(ci.Problem(data, "varied", "t", "i(f) + i(g)")).interval()[0]
        yield f"coarsened, {estimand} of effects that differ", low, high, truth


def regressions(seed: int) -> Held:
    """500 rows in 50 clusters: outcomes of all kinds, variances that differ, an instrument, shocks of clusters."""
    draw = np.random.default_rng(seed)
    g = np.repeat(np.arange(50), 10)
    shock, of_t = draw.normal(size=50)[g], draw.normal(size=50)[g]
    x, z, hidden = draw.normal(size=500), draw.normal(size=500), draw.normal(size=500)
    t = 0.5 * x + draw.normal(size=500)
    noise = draw.normal(size=500) * (0.5 + np.abs(t))
    w = draw.uniform(0.5, 2, 500)
    d = z + hidden + draw.normal(size=500)
    between = of_t + draw.normal(size=500)
    data = Memory.of(
        x=x, t=t, z=z, d=d, g=g, w=w, id=np.arange(500), b=between,
        plain=t + x + draw.normal(size=500), y=t + x + noise, weighted=t + x + draw.normal(size=500) / np.sqrt(w),
        clustered=between + x + shock + draw.normal(size=500), chosen=d + x + hidden * (1 + 0.5 * np.abs(z)),
        within=t + x + 3 * shock + noise,
        yes=(draw.uniform(size=500) < 1 / (1 + np.exp(-(t + x - 0.5)))).astype(int),
        count=draw.poisson(np.exp(0.2 + 0.5 * t) * draw.gamma(2, 0.5, 500)),
        poisson=draw.poisson(np.exp(0.2 + 0.5 * t)),
    )  # fmt: skip
    models: dict[str, tuple[Any, str, float]] = {
        "OLS, classical": (ci.OLS("plain ~ t + x", "classical"), "t", 1),
        **{f"OLS, {kind}": (ci.OLS("y ~ t + x", kind), "t", 1) for kind in ("HC0", "HC1", "HC2", "HC3")},
        "OLS, CR1": (ci.OLS("clustered ~ b + x", cluster="g"), "b", 1),
        "WLS, classical": (ci.OLS("weighted ~ t + x", "classical", weight="w"), "t", 1),
        "WLS, HC1": (ci.OLS("weighted ~ t + x", weight="w"), "t", 1),
        "2SLS, HC0": (ci.TwoStage("chosen ~ x | d ~ z", "HC0"), "d", 1),
        "2SLS, HC1": (ci.TwoStage("chosen ~ x | d ~ z"), "d", 1),
        "fixed effects, HC1": (ci.FixedEffects("within ~ t + x | g"), "t", 1),
        "fixed effects, CR1": (ci.FixedEffects("within ~ t + x | g", cluster="g"), "t", 1),
        "logit, classical": (ci.Logit("yes ~ t + x", "classical"), "t", 1),
        "logit, HC0": (ci.Logit("yes ~ t + x", "HC0"), "t", 1),
        "Poisson, classical": (ci.Poisson("poisson ~ t", "classical"), "t", 0.5),
        "Poisson, HC1, gamma": (ci.Poisson("count ~ t"), "t", 0.5),
        "LinearPLR": (ci.LinearPLR("y", "t", ["x"], key="id", seed=seed), "t", 1),
    }
    for name, (model, of, truth) in models.items():
        found = model.fit(data)
        low, high = found.interval()[found.names.index(of)]
        yield name, low, high, truth


def panels(seed: int) -> Held:
    """200 units in 6 periods, cohorts that begin in 3 and 5 and never, effects that grow, random walks and levels."""
    draw = np.random.default_rng(seed)
    unit, time = np.repeat(np.arange(200), 6), np.tile(np.arange(1, 7), 200)
    size = draw.normal(size=200)
    first = np.where(draw.uniform(size=200) < 1 / (1 + np.exp(-0.5 * size)), draw.choice([3.0, 5.0], 200), np.nan)
    since = time - first[unit]
    effect = np.where(since >= 0, 1 + 0.5 * np.nan_to_num(since), 0.0)
    walk = draw.normal(size=(200, 6)).cumsum(axis=1).ravel()
    level = draw.standard_t(5, 200)[unit]
    data = Memory.of(
        y=level + 0.3 * time + effect + walk, trend=level + (0.3 + 0.4 * size[unit]) * time + effect + walk,
        unit=unit, time=time, first=first[unit], size=size[unit], treated=np.isfinite(first[unit]).astype(int),
        after=(time >= 5).astype(int), flat=level + 0.3 * time + walk,
    )  # fmt: skip
    panel = ci.Staggered("y", "unit", "time", "first").read(data)
    groups = panel.group_time()
    for name, found in (("group-time", groups), ("group-time by event", groups.aggregate("dynamic"))):
        for word, low, high in _named(found):
            if word in ("ATT(3, 4)", "1"):
                yield f"{name}: {word}", low, high, 1.5
    for word, low, high in _named(panel.event_study()):
        if word == "1":
            yield "event study, two stages: 1", low, high, 1.5
    # Of these the truth depends on the shares of cohorts, which are part of what is estimated: those of the population.
    low, high = groups.aggregate("simple").interval()[0]
    yield "group-time, simple", low, high, (4 * 1.75 + 2 * 1.25) / 6
    low, high = groups.aggregate("group").interval()[-1]
    yield "group-time, by cohort", low, high, (1.75 + 1.25) / 2
    low, high = panel.two_stage().interval()[0]
    mine = since >= 0
    yield "two stages", low, high, float(effect[mine].mean())
    robust = ci.Staggered("trend", "unit", "time", "first", ["size"]).read(data).group_time()
    for word, low, high in _named(robust):
        if word == "ATT(3, 4)":
            yield f"doubly robust: {word}", low, high, 1.5
    low, high = ci.TwoByTwo("flat", "treated", "after", cluster="unit").fit(data).interval()[1]
    yield "two by two, CR1", low, high, 0.0


def _named(found: ci.Estimates) -> Iterator[tuple[str, float, float]]:
    for name, (low, high) in zip(found.names, found.interval(), strict=True):
        yield name, low, high


def synthetic(seed: int) -> Held:
    """40 units, 5 of them treated in the last 4 of 12 periods, on two factors; effect 1."""
    draw = np.random.default_rng(seed)
    outcomes = draw.normal(size=(40, 2)) @ draw.normal(size=(2, 12)) + draw.normal(size=(40, 12))
    unit, time = np.repeat(np.arange(40), 12), np.tile(np.arange(12), 40)
    treated = (unit < 5) & (time >= 8)
    data = Memory.of(y=outcomes.ravel() + treated, unit=unit, time=time, treated=treated.astype(int))
    found = ci.SyntheticDiD("y", "unit", "time", "treated", replications=100, seed=seed).fit(data)
    low, high = found.interval()[0]
    yield "synthetic DiD, placebos", low, high, 1.0
