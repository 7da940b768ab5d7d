"""Sensitivity is what other packages say, and what a confounder that is there would do."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import statsmodels.api as sm
from causaldata import nsw_mixtape
from numpy.typing import NDArray

import iceblink as ib
from iceblink import causal as ci
from iceblink.causal.doubt.regression_sensitivity import robustness_value
from iceblink.errors import ColumnNotFound, ConfigError, IceblinkError, PlanError, QueryError, TypeMismatch

ROWS, FOLDS = 600, 4
NSW = "re78 ~ treat + age + educ + black + hisp + marr + nodegree + re74 + re75"


@dataclass(frozen=True)
class Written:
    """Folds that a column says."""

    column: str = "fold"

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.column,)

    def numbers(self, batch: pa.RecordBatch) -> NDArray[np.int64]:
        return np.asarray(batch.column(self.column).to_numpy(), np.int64)


def drawn() -> dict[str, Any]:
    """Draw rows with skewed residuals, so that influence functions of bounds go together."""
    draw = np.random.default_rng(11)
    x = draw.normal(size=(3, ROWS))
    hidden = draw.normal(size=ROWS)
    t = 0.8 * x[0] - 0.3 * x[1] + 0.4 * hidden + draw.exponential(size=ROWS)
    y = 0.7 * t + x[0] + 0.2 * x[2] + 0.5 * hidden + draw.exponential(size=ROWS) * (1 + (t > 1))
    named = {f"x{at}": column for at, column in enumerate(x)}
    return {"id": np.arange(ROWS), "fold": np.arange(ROWS) % FOLDS, "t": t, "y": y, "hidden": hidden, **named}


PLR = ci.LinearPLR("y", "t", ["x0", "x1", "x2"], key="id")


@pytest.fixture(scope="module")
def data(lake: ib.Lake) -> ib.Dataset:
    return lake.from_arrow(pa.table(drawn()))


# DoubleML 0.11.4: DoubleMLPLR(data, LinearRegression(), LinearRegression(), n_folds=4), folds by row % 4, of `drawn`
EFFECT, ERROR = 1.159837337277126, 0.07094584496785082
SCENARIOS = {  # (cf_d, cf_y, rho): sensitivity_analysis(..., level=0.9), theta and se, each lower and upper
    (0.03, 0.03, 1.0): (1.1154896577833258, 1.2041850167709263, 0.07227899235147027, 0.06978536073466503),
    (0.2, 0.05, -0.5): (1.0784493097273784, 1.2412253648268736, 0.07351803672838754, 0.06895477865739286),
    (0.0, 0.4, 1.0): (EFFECT, EFFECT, ERROR, ERROR),
}
ROBUST = {(0.0, 1.0): 0.5401933690388305, (0.6, 0.7): 0.4187888660642521, (2.0, 1.0): 0.4341057763861922}  # rv
BENCHMARKS = {  # sensitivity_benchmark(...): cf_d, cf_y, rho, delta_theta
    ("x0",): (0.3901188096746731, 0.21848605217646036, 1.0, 0.36278965335665214),
    ("x0", "x1"): (0.47046734568274534, 0.22286993203698122, 0.8601927514759207, 0.33442141624920385),
    ("x2",): (0.0011772360802746067, 0.0056974414511754825, 1.0, 0.010587931908256909),
}


@pytest.mark.parametrize(("cf_d", "cf_y", "rho"), SCENARIOS)
def test_bounds_are_those_of_doubleml(data: ib.Dataset, cf_d: float, cf_y: float, rho: float) -> None:
    found = ci.sensitivity(PLR, data, grouping=Written())
    assert (found.effect, found.error) == pytest.approx((EFFECT, ERROR), rel=1e-10)
    lower, upper, lower_error, upper_error = SCENARIOS[cf_d, cf_y, rho]
    bounds = found.bounds(cf_d, cf_y, rho, level=0.9)
    assert (bounds.lower, bounds.upper) == pytest.approx((lower, upper), rel=1e-10)
    # DoubleML takes the influence function of the effect with the opposite sign: each error is that of the other bound
    assert (bounds.lower_error, bounds.upper_error) == pytest.approx((upper_error, lower_error), rel=1e-10)
    reach = 1.2815515655446004
    ends = (lower - reach * upper_error, upper + reach * lower_error)
    assert bounds.interval == pytest.approx(ends, rel=1e-10)


def test_robustness_values_are_those_of_doubleml(data: ib.Dataset) -> None:
    found = ci.sensitivity(PLR, data, grouping=Written())
    for (null, rho), expected in ROBUST.items():
        value = found.robustness_value(null, rho=rho)
        assert value == pytest.approx(expected, abs=1e-5)  # which is where a minimum was found
        bounds = found.bounds(value, value, rho)
        assert min(abs(bounds.lower - null), abs(bounds.upper - null)) < 1e-10
        value = found.robustness_value(null, 0.95, rho)
        assert min(abs(end - null) for end in found.bounds(value, value, rho).interval) < 1e-10
    assert found.robustness_value(EFFECT - ERROR, 0.95) == 0
    assert found.robustness_value(rho=0.0) == 1


def test_benchmarks_are_those_of_doubleml(data: ib.Dataset) -> None:
    found = ci.sensitivity(PLR, data, grouping=Written())
    for columns, expected in BENCHMARKS.items():
        one = found.benchmark(*columns)
        assert (one.r2_treatment, one.r2_outcome, one.rho, one.change) == pytest.approx(expected, rel=1e-8)


def test_errors_of_bounds_are_those_of_repeated_samples(data: ib.Dataset) -> None:
    """Influence functions, against a bootstrap of both bounds: which error is whose can be told apart."""
    rows, draw = drawn(), np.random.default_rng(3)
    long = np.column_stack([np.ones(ROWS), *(rows[name] for name in ("x0", "x1", "x2"))])
    strength = np.sqrt(0.3 * 0.3 / 0.7)
    ends = []
    for _ in range(300):
        at = draw.integers(0, ROWS, ROWS)
        left = [rows[n][at] - long[at] @ np.linalg.lstsq(long[at], rows[n][at], rcond=None)[0] for n in ("y", "t")]
        theta = left[0] @ left[1] / (left[1] @ left[1])
        bias = strength * np.sqrt(np.sum((left[0] - theta * left[1]) ** 2) / (left[1] @ left[1]))
        ends.append((theta - bias, theta + bias))
    lower, upper = np.std(ends, axis=0)
    bounds = ci.sensitivity(PLR, data).bounds(0.3, 0.3)
    assert bounds.upper_error > 1.3 * bounds.lower_error
    assert (bounds.lower_error, bounds.upper_error) == pytest.approx((lower, upper), rel=0.15)


def test_a_regression_with_the_confounder_is_the_bound_at_its_strength(data: ib.Dataset) -> None:
    rows = drawn()
    short = [np.ones(ROWS), *(rows[name] for name in ("x0", "x1", "x2"))]

    def left(name: str, *more: str) -> NDArray[np.float64]:
        by = np.column_stack([*short, *(rows[one] for one in more)])
        return np.asarray(sm.OLS(rows[name], by).fit().resid)

    r2_treatment = np.corrcoef(left("t"), left("hidden"))[0, 1] ** 2
    r2_outcome = np.corrcoef(left("y", "t"), left("hidden", "t"))[0, 1] ** 2
    found = ci.sensitivity(ci.OLS("y ~ t + x0 + x1 + x2"), data, "t").bounds(r2_treatment, r2_outcome)
    whole = ci.OLS("y ~ t + x0 + x1 + x2 + hidden", "classical").fit(data)
    assert found.lower == pytest.approx(whole["t"], rel=1e-9)
    assert found.lower_error == pytest.approx(whole.error("t"), rel=1e-9)
    assert found.interval[0] == pytest.approx(whole.interval()[1][0], rel=1e-9)


def test_a_regression_is_that_of_sensemakr(lake: ib.Lake) -> None:
    """By PySensemakr 0.0.8: Sensemakr(model, "treat", benchmark_covariates=..., kd=...) of the NSW data."""
    rows = lake.from_arrow(pa.Table.from_pandas(nsw_mixtape.load_pandas().data, preserve_index=False))
    found = ci.sensitivity(ci.OLS(NSW), rows, "treat")
    assert (found.estimate, found.error) == pytest.approx((1676.3426254025526, 638.6820148981176), rel=1e-9)
    assert found.partial_r2 == pytest.approx(0.015589888603561126, rel=1e-9)
    assert found.robustness_value() == pytest.approx(0.11817476170303554, rel=1e-9)
    assert found.robustness_value(level=0.95) == pytest.approx(0.031007680749602758, rel=1e-8)
    for columns, strength, expected in (
        (["educ"], 1, [0.002266891647, 0.006992777628, 1623.246557105105, 637.901263124041]),
        (["educ"], 3, [0.006800674942, 0.020978765823, 1516.689625509576, 634.837098818794]),
        (["re75"], 3, [0.013702490402, 0.001055818772, 1625.325052960967, 643.50376606174]),
        (["re74", "re75"], 2, [0.009921640674, 0.014827889463, 1513.965088870161, 637.831143554295]),
    ):
        one = found.benchmark(*columns, strength=strength)
        assert [one.r2_treatment, one.r2_outcome, one.lower, one.lower_error] == pytest.approx(expected, rel=1e-8)
    moved = found.bounds(0.1, 0.2)
    assert (moved.lower, moved.lower_error) == pytest.approx((-309.4004570458678, 602.8485063530829), rel=1e-9)


def test_robustness_values_are_the_published_ones() -> None:
    """Cinelli and Hazlett 2020, table 1: t = 4.18445 with 783 degrees of freedom."""
    assert robustness_value(4.18445, 783) == pytest.approx(0.139, abs=5e-4)
    assert robustness_value(4.18445, 783, level=0.95) == pytest.approx(0.076, abs=5e-4)
    assert robustness_value(-4.18445, 783, level=0.95) == pytest.approx(0.076257965386, rel=1e-6)  # PySensemakr 0.0.8
    assert robustness_value(150, 3, level=0.95) == pytest.approx(0.998632660944, rel=1e-9)
    assert robustness_value(1.5, 783, level=0.95) == 0
    with pytest.raises(ConfigError):
        robustness_value(4, 1)
    with pytest.raises(ConfigError):
        robustness_value(4, 10, level=95)


def test_contours_are_tidy(data: ib.Dataset) -> None:
    of_scores, of_regression = ci.sensitivity(PLR, data), ci.sensitivity(ci.OLS("y ~ t + x0 + x1 + x2"), data, "t")
    for found in (of_scores, of_regression):
        table = found.contour(points=3)
        assert table.column_names == ["r2_treatment", "r2_outcome", "estimate", "limit"]
        assert table.num_rows == 9
        last = table.to_pylist()[-1]
        bounds = found.bounds(last["r2_treatment"], last["r2_outcome"])
        assert (last["estimate"], last["limit"]) == (bounds.lower, bounds.interval[0])
        with pytest.raises(ConfigError):
            found.contour(points=1)
        assert "a confounder" in repr(found)
        assert "a confounder" in repr(bounds)


def test_shares_of_rows_change_no_digit_that_counts(lake: ib.Lake) -> None:
    values = []
    for files in (1, 3, 7):
        rows = pa.table({**drawn(), "part": np.arange(ROWS) % files})
        lake.write(f"n.s{files}", rows, "create", partition_by=["part"])
        bounds = ci.sensitivity(PLR, lake.table(f"n.s{files}")).bounds(0.1, 0.2)
        values.append([bounds.lower, bounds.upper, *bounds.interval])
    np.testing.assert_allclose(values, [values[0]] * 3, rtol=1e-10)


@pytest.mark.parametrize(
    ("formula", "treatment", "error"),
    [
        ("y ~ t + x0", "T", ColumnNotFound),
        ("y ~ t + x0", "y", ColumnNotFound),
        ("y ~ x0 + copy", "copy", PlanError),
        ("y ~ t + t:x0 + one", "one", PlanError),
        ("same ~ t + x0", "t", PlanError),
        ("one ~ t", "t", PlanError),
        ("y ~ t + text", "t", TypeMismatch),
        ("y ~ t + holes", "t", QueryError),
    ],
)
def test_what_cannot_be_judged_is_refused(
    data: ib.Dataset, formula: str, treatment: str, error: type[IceblinkError]
) -> None:
    odd = data.sql(
        "SELECT *, 2 * x0 AS copy, 1 AS one, 3 * t AS same, 'a' AS text, CASE WHEN t > 0 THEN t END AS holes FROM this"
    )
    with pytest.raises(error):
        ci.sensitivity(ci.OLS(formula), odd, treatment)


def test_sensitivity_reads_the_rows_that_the_fit_reads(data: ib.Dataset) -> None:
    gaps = data.sql("SELECT *, CASE WHEN id % 9 > 0 THEN id // 3 END AS home FROM this")
    kept = gaps.sql("SELECT * FROM this WHERE home IS NOT NULL")
    regression = ci.OLS("y ~ t + x0", cluster="home", missing="drop")
    found, whole = (ci.sensitivity(regression, rows, "t") for rows in (gaps, kept))
    assert found.estimate == pytest.approx(whole.estimate, rel=1e-12)
    holes = data.sql("SELECT * REPLACE (CASE WHEN id % 9 > 0 THEN y END AS y) FROM this")
    dropping = replace(PLR, missing="drop")
    left, without = (
        ci.sensitivity(dropping, rows) for rows in (holes, holes.sql("SELECT * FROM this WHERE id % 9 > 0"))
    )
    assert left.effect == pytest.approx(dropping.fit(holes)["t"], rel=1e-12)
    assert left.bounds(0.1, 0.1).interval == pytest.approx(without.bounds(0.1, 0.1).interval, rel=1e-12)


def test_what_leaves_no_room_is_refused(data: ib.Dataset) -> None:
    odd = data.sql("SELECT *, 2 * t + x0 AS told, 1.0 AS one FROM this")
    with pytest.raises(PlanError, match="nothing of the outcome"):
        ci.sensitivity(replace(PLR, outcome="told"), odd)
    with pytest.raises(PlanError, match="one is 1"):
        ci.sensitivity(replace(PLR, outcome="one"), odd)
    with pytest.raises(PlanError, match="have no unit"):
        ci.sensitivity(PLR, data.limit(4))
    with pytest.raises(ConfigError, match="which regressor"):
        ci.sensitivity(ci.OLS("y ~ t + x0"), data)


def test_what_an_estimator_has_not_is_refused(data: ib.Dataset) -> None:
    ask: Any = ci.sensitivity
    with pytest.raises(ConfigError, match="no folds"):
        ask(ci.OLS("y ~ t + x0"), data, "t", grouping=Written())
    with pytest.raises(ConfigError, match="is 't', not 'x0'"):
        ask(PLR, data, "x0")
    with pytest.raises(TypeMismatch, match="Logit is not known"):
        ask(ci.Logit("t ~ x0"), data)


def test_strengths_are_checked(data: ib.Dataset) -> None:
    of_scores, of_regression = ci.sensitivity(PLR, data), ci.sensitivity(ci.OLS("y ~ t + x0"), data, "t")
    wrong: list[dict[str, float]] = [
        {"r2_treatment": 1.0, "r2_outcome": 0.1},
        {"r2_treatment": 0.1, "r2_outcome": -0.1},
        {"r2_treatment": 0.1, "r2_outcome": 0.1, "level": 1.0},
    ]
    for found in (of_scores, of_regression):
        for arguments in wrong:
            with pytest.raises(ConfigError):
                found.bounds(**arguments)
        with pytest.raises(ConfigError):
            found.benchmark()
        with pytest.raises(ColumnNotFound):
            found.benchmark("x7")
    with pytest.raises(ConfigError):
        of_scores.bounds(0.1, 0.1, rho=2)
    with pytest.raises(ConfigError):
        of_regression.benchmark("x0", strength=0)
    with pytest.raises(PlanError, match="explains all"):
        of_regression.benchmark("x0", strength=100)
    with pytest.raises(PlanError):
        ci.sensitivity(PLR, data.limit(2))
    with pytest.raises(PlanError):
        ci.sensitivity(ci.OLS("y ~ t"), data.limit(1), "t")
    with pytest.raises(PlanError, match="no rows"):
        ci.sensitivity(ci.OLS("y ~ t"), data.limit(0), "t")


def test_e_values_are_the_published_ones() -> None:
    """VanderWeele and Ding 2017: breast feeding and respiratory death, risk ratio 3.9 (1.8 to 8.7)."""
    found = ci.e_value(3.9, (1.8, 8.7))
    assert found.estimate == pytest.approx(7.26, abs=5e-3)
    assert found.limit == pytest.approx(3.0, abs=5e-3)
    below = ci.e_value(1 / 3.9, (1 / 8.7, 1 / 1.8))
    assert (below.estimate, below.limit) == pytest.approx((found.estimate, found.limit))
    assert ci.e_value(1.2, (0.9, 1.6)).limit == 1.0
    assert ci.e_value(1.0).estimate == 1.0
    assert ci.e_value(4.0, scale="odds ratio") == ci.e_value(2.0)
    assert ci.e_value(4.0, scale="odds ratio", rare=True) == ci.e_value(4.0)
    assert ci.e_value(np.log(2) / 0.91, scale="standardized difference").estimate == pytest.approx(2 + 2**0.5)
    assert ci.e_value(4.0, scale="hazard ratio").estimate == pytest.approx(ci.e_value(0.75 / (1 - 0.5**0.5)).estimate)
    assert ci.e_value(4.0, null=2.0) == ci.e_value(2.0)
    wrong: list[dict[str, Any]] = [
        {"estimate": -1.0},
        {"estimate": np.nan, "scale": "standardized difference"},
        {"estimate": 1.0, "scale": "standardized difference", "null": np.nan},
        {"estimate": 2.0, "interval": (3.0, 4.0)},
        {"estimate": 2.0, "scale": "ratio"},
    ]
    for arguments in wrong:
        with pytest.raises(ConfigError):
            ci.e_value(**arguments)


def test_rosenbaum_bounds_are_the_published_ones() -> None:
    """Rosenbaum 2002, section 4.3: smoking and lung cancer, 110 and 12 pairs; he rounds a normal approximation."""
    found = ci.rosenbaum_bounds(110, 12).to_pydict()
    upper = dict(zip(found["gamma"], found["upper"], strict=True))
    lower = dict(zip(found["gamma"], found["lower"], strict=True))
    assert upper[1] == lower[1] < 1e-4
    assert upper[4] == pytest.approx(0.0036, abs=2e-3)
    assert upper[5] == pytest.approx(0.03, abs=1e-2)
    assert upper[6] == pytest.approx(0.1, abs=2e-2)
    assert lower[6] < lower[2] < lower[1]
    for wrong in ((0, 0), (-1, 5), (10.5, 3), (np.nan, 3)):
        with pytest.raises(ConfigError):
            ci.rosenbaum_bounds(*wrong)
    with pytest.raises(ConfigError):
        ci.rosenbaum_bounds(3, 1, gammas=[0.5])


def test_estimators_are_known_in_a_process_that_imported_no_more() -> None:
    code = """
from iceblink import causal as ci
from iceblink.errors import ConfigError
try:
    ci.sensitivity(ci.OLS("y ~ x"), None)
except ConfigError:
    print("no treatment is said")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "no treatment is said\n"
