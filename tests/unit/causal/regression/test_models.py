"""Regressions agree with statsmodels on random data, and say what is wrong before they read it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf

import iceblink as ib
from iceblink import causal as ci
from iceblink.causal.passes import Folds
from iceblink.errors import ColumnNotFound, ConfigError, PlanError, QueryError, TypeMismatch

ROWS = 3_000


@pytest.fixture(scope="module")
def frame() -> Any:
    draw = np.random.default_rng(0)
    x, z, g = draw.normal(1_000, 100, ROWS), draw.normal(size=ROWS), draw.integers(0, 30, ROWS)
    score = -5 + 0.005 * x + 0.7 * z
    return pd.DataFrame(
        {
            "x": x,
            "z": z,
            "g": g,
            "k": [f"k{n % 3}" for n in g],
            "w": draw.uniform(0.5, 2, ROWS),
            "y": (draw.random(ROWS) < 1 / (1 + np.exp(-score))).astype(int),
            "c": draw.poisson(np.exp(0.1 + 0.3 * z)),
            "u": score + draw.normal(size=ROWS) * (1 + np.abs(z)),
            "text": ["a"] * ROWS,
        }
    )


@pytest.fixture(scope="module")
def data(frame: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ib.Dataset]:
    with ib.connect(tmp_path_factory.mktemp("lake")) as lake:
        yield lake.from_arrow(pa.Table.from_pandas(frame))


def same(ours: ci.Estimates, theirs: Any, rtol: float = 1e-9) -> None:
    np.testing.assert_allclose(ours.values, theirs.params, rtol)
    np.testing.assert_allclose(ours.errors, theirs.bse, rtol)
    np.testing.assert_allclose(ours.p_values, theirs.pvalues, rtol * 1e3, 1e-300)
    np.testing.assert_allclose(ours.interval(), theirs.conf_int(), rtol)


@pytest.mark.parametrize("kind", ["HC0", "HC1", "HC2", "HC3"])
def test_weighted_least_squares(frame: Any, data: ib.Dataset, kind: Any) -> None:
    theirs = smf.wls("u ~ x * z + C(k)", frame, weights=frame.w).fit(cov_type=kind, use_t=True)
    ours = ci.OLS("u ~ i(k) + x * z", errors=kind, weight="w").fit(data)
    order = [theirs.params.index.get_loc(name) for name in ("Intercept", "C(k)[T.k1]", "C(k)[T.k2]", "x", "z", "x:z")]
    np.testing.assert_allclose(ours.values, theirs.params.iloc[order], 1e-9)
    np.testing.assert_allclose(ours.errors, theirs.bse.iloc[order], 1e-9)


def test_no_intercept_clusters_and_expressions(frame: Any, data: ib.Dataset) -> None:
    clusters = {"groups": frame.g}
    theirs = smf.ols("u ~ np.log(x) + I(z**2) - 1", frame).fit(cov_type="cluster", cov_kwds=clusters, use_t=True)
    same(ci.OLS("u ~ log(x) + I(z ** 2) - 1", cluster="g").fit(data), theirs)


@pytest.mark.parametrize(("kind", "named"), [("classical", "nonrobust"), ("HC0", "HC0")])
def test_likelihoods(frame: Any, data: ib.Dataset, kind: Any, named: str) -> None:
    logit = smf.logit("y ~ x + z", frame).fit(disp=0, tol=1e-14, maxiter=100, cov_type=named)
    same(ci.Logit("y ~ x + z", errors=kind).fit(data), logit)
    poisson = smf.glm("c ~ x + z", frame, family=sm.families.Poisson()).fit(tol=1e-14, cov_type=named)
    same(ci.Poisson("c ~ x + z", errors=kind).fit(data), poisson, 1e-8)


def test_double_machine_learning_is_what_its_definition_says(frame: Any, data: ib.Dataset) -> None:
    ours = ci.LinearPLR("u", "x", ["z", "w"], key="g", folds=4, seed=7)
    found = ours.fit(data)
    folds = Folds(("g",), 4, 7).numbers(pa.RecordBatch.from_pandas(frame[["g"]]))
    left = np.empty((2, ROWS))
    for fold in range(4):
        mine, rest = frame[folds == fold], frame[folds != fold]
        for at, target in enumerate(("u", "x")):
            left[at, folds == fold] = mine[target] - smf.ols(f"{target} ~ z + w", rest).fit().predict(mine)
    effect = (left[0] @ left[1]) / (left[1] @ left[1])
    score = (left[0] - effect * left[1]) * left[1]
    assert found["x"] == pytest.approx(effect, rel=1e-10)
    assert found.error("x") == pytest.approx(np.sqrt(score @ score) / (left[1] @ left[1]), rel=1e-10)


def test_a_column_that_follows_from_others_is_left_out_and_named(data: ib.Dataset) -> None:
    more = data.mutate(twice=ib._.x * 2 + ib._.z, one=ib._.x * 0)
    found = ci.OLS("u ~ x + z + twice + one").fit(more)
    assert found.dropped == ("twice", "one")
    np.testing.assert_allclose(found.values, ci.OLS("u ~ x + z").fit(data).values, 1e-9)
    assert "left out" in found.summary()


def test_missing_values_are_an_error_or_left_out(frame: Any, data: ib.Dataset) -> None:
    holes = data.sql("SELECT *, CASE WHEN g = 3 THEN NULL ELSE z END AS h FROM this")
    with pytest.raises(QueryError, match="h is missing"):
        ci.OLS("u ~ h").fit(holes)
    found = ci.OLS("u ~ h", cluster="k", missing="drop").fit(holes)
    kept = frame[frame.g != 3]
    theirs = smf.ols("u ~ z", kept).fit(cov_type="cluster", cov_kwds={"groups": pd.factorize(kept.k)[0]}, use_t=True)
    assert found.rows == len(kept)
    same(found, theirs)


def test_a_row_without_a_cluster_is_in_none(frame: Any, data: ib.Dataset) -> None:
    holes = data.sql("SELECT *, CASE WHEN g <> 3 THEN g END AS c3, CASE WHEN g <> 4 THEN z END AS h FROM this")
    with pytest.raises(QueryError, match="c3 is missing in"):
        ci.OLS("u ~ z", cluster="c3").fit(holes)
    kept = frame[(frame.g != 3) & (frame.g != 4)]  # cluster 4 has no row that is whole, so it counts as none
    theirs = smf.ols("u ~ z", kept).fit(cov_type="cluster", cov_kwds={"groups": kept.g}, use_t=True)
    same(ci.OLS("u ~ h", cluster="c3", missing="drop").fit(holes), theirs)


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: ci.OLS("u ~ q"), ColumnNotFound, "q"),
        (lambda: ci.OLS("u ~ text"), TypeMismatch, r"i\(text\)"),
        (lambda: ci.OLS("u ~ x", errors="HC9"), ConfigError, "HC9"),  # type: ignore[arg-type]
        (lambda: ci.OLS("u ~ x | g"), PlanError, "FixedEffects|fixed effects"),
        (lambda: ci.OLS("u ~ x", cluster="text"), PlanError, "one cluster"),
        (lambda: ci.OLS("u ~ x", cluster="nobody"), ColumnNotFound, "nobody"),
        (lambda: ci.OLS("u ~ i(x)"), PlanError, "levels"),
        (lambda: ci.OLS("u ~ i(k, ref=none)"), PlanError, "none"),
        (lambda: ci.Logit("u ~ x"), QueryError, "0 or 1"),
        (lambda: ci.Logit("y ~ s", missing="drop"), PlanError, "grows without end"),
        (lambda: ci.Logit("one ~ x"), PlanError, "in every row"),
        (lambda: ci.Poisson("u ~ x"), QueryError, "negative"),
        (lambda: ci.TwoStage("u ~ x"), PlanError, "instruments"),
        (lambda: ci.LinearPLR("u", "x", ["twin"], key="g"), PlanError, "say all of x"),
        (lambda: ci.LinearPLR("u", "x", ["z"], key="text"), PlanError, "1 fold"),
        (lambda: ci.LinearPLR("u", "x", ["z"], key="z"), TypeMismatch, "key"),
    ],
)
def test_what_cannot_be_estimated_is_refused(make: Any, error: type[Exception], says: str, data: ib.Dataset) -> None:
    more = data.mutate(s=ib._.y * 1.0, one=ib._.y * 0 + 1, twin=ib._.x * 2)
    with pytest.raises(error) as caught:
        make().fit(more)
    assert re.search(says, str(caught.value)), caught.value
