"""Absorbed effects are dummies that nobody sees: against dummies, and against printed numbers."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from causaldata import castle
from linearmodels.datasets import wage_panel
from numpy.typing import NDArray

import iceblink as ib
from iceblink import causal as ci
from iceblink.causal.regression import projections
from iceblink.causal.regression.projections import conjugate_gradients
from iceblink.errors import ColumnNotFound, ConfigError, PlanError, QueryError, TypeMismatch

Array = NDArray[np.float64]
WAGES = "lwage ~ expersq + married + union | nr + year"
NAMES = ("expersq", "married", "union")


@pytest.fixture(scope="module")
def wages(lake: ib.Lake) -> ib.Dataset:
    frame = wage_panel.load()[["nr", "year", "lwage", "expersq", "married", "union", "educ"]]
    return lake.from_arrow(pa.Table.from_pandas(frame, preserve_index=False))


def table(lake: ib.Lake, columns: dict[str, Any]) -> ib.Dataset:
    return lake.from_arrow(pa.table(columns))


def panel(seed: int, effects: int, rows: int = 400) -> dict[str, Any]:
    """Return unbalanced rows: an outcome, two regressors, an instrument, weights, effects that these depend on."""
    draw = np.random.default_rng(seed)
    keys = {f"f{at}": draw.integers(0, count, rows) for at, count in enumerate((60, 9, 5)[:effects])}
    base = sum(draw.normal(size=60)[key] for key in keys.values())
    z, hidden = draw.normal(size=rows) + base, draw.normal(size=rows)
    x = draw.normal(size=rows) + base
    d = z + hidden + draw.normal(size=rows)
    y = 0.5 * x - d + hidden + 3 * base + draw.normal(size=rows) * (1 + np.abs(x))
    return {"y": y, "x": x, "d": d, "z": z, "w": draw.uniform(0.5, 2, rows), **keys}


def dummies(keys: list[NDArray[np.int64]]) -> Array:
    return np.hstack([(key[:, np.newaxis] == np.unique(key)).astype(float) for key in keys])


def by_dummies(data: dict[str, Any], effects: int, cluster: str | None) -> tuple[Any, Any, Any]:
    """Return 2SLS of y on x and d by x and z with all dummies, and its classical or CR1 errors, by fixest's K."""
    keys = [data[f"f{at}"] for at in range(effects)]
    kept = np.ones(len(data["y"]), bool)
    while True:
        alone = [np.bincount(key[kept], minlength=100)[key] == 1 for key in keys]
        lonely = kept & np.logical_or.reduce(alone)
        if not lonely.any():
            break
        kept &= ~lonely
    root = np.sqrt(data["w"][kept])
    absorbed = dummies([key[kept] for key in keys]) * root[:, np.newaxis]

    def free(column: str) -> Array:
        values = data[column][kept] * root
        return np.asarray(values - absorbed @ np.linalg.lstsq(absorbed, values, rcond=1e-12)[0])

    y, x, d, z = map(free, "yxdz")
    right, by = np.column_stack([x, d]), np.column_stack([x, z])
    fitted = by @ np.linalg.lstsq(by, right)[0]
    values = np.linalg.lstsq(fitted, y)[0]
    residuals = y - right @ values
    bread = np.linalg.inv(fitted.T @ fitted)
    sizes = {f"f{at}": len(np.unique(key[kept])) for at, key in enumerate(keys)}
    count = kept.sum()
    if cluster is None:
        left = count - 2 - 1 - sum(size - 1 for size in sizes.values())
        return values, np.sqrt(np.diag(bread * (residuals @ residuals) / left)), kept
    groups = data[cluster][kept]
    left = count - 2 - 1 - sum(size - 1 for name, size in sizes.items() if name != cluster)
    sums = np.stack([(fitted * residuals[:, np.newaxis])[groups == one].sum(axis=0) for one in np.unique(groups)])
    factor = len(sums) / (len(sums) - 1) * (count - 1) / left
    return values, np.sqrt(np.diag(bread @ sums.T @ sums @ bread) * factor), kept


@pytest.mark.parametrize(
    ("settings", "errors"),
    [
        ({"errors": "classical"}, (0.000704, 0.018310, 0.019310)),
        ({"cluster": "nr"}, (0.000810, 0.021004, 0.022743)),
    ],
)
def test_the_wages_of_young_men(wages: ib.Dataset, settings: dict[str, Any], errors: tuple[float, ...]) -> None:
    found = ci.FixedEffects(WAGES, **settings).fit(wages)
    np.testing.assert_allclose(found.values, (-0.0051854977, 0.0466803754, 0.0800018541), rtol=1e-8, atol=5e-11)
    np.testing.assert_allclose(found.errors, errors, atol=5e-7)
    assert found.rows == 4360
    assert found.facts["absorbed"] == "nr (545) + year (8)"


def test_linearmodels_has_the_same_numbers(wages: ib.Dataset) -> None:
    from linearmodels import PanelOLS

    frame = wages.to_pandas().set_index(["nr", "year"])
    theirs = PanelOLS(frame.lwage, frame[list(NAMES)], entity_effects=True, time_effects=True).fit()
    ours = ci.FixedEffects(WAGES, "classical").fit(wages)
    np.testing.assert_allclose(ours.values, theirs.params, rtol=1e-9)
    np.testing.assert_allclose(ours.errors, theirs.std_errors, rtol=1e-9)
    assert ours.facts["within R²"] == pytest.approx(theirs.rsquared, rel=1e-9)


@pytest.mark.parametrize(("weight", "value", "error"), [(None, 0.069398, 0.055860), ("popwt", 0.075533, 0.033194)])
def test_the_castle_doctrine(lake: ib.Lake, weight: str | None, value: float, error: float) -> None:
    frame = castle.load_pandas().data[["homicide", "post", "sid", "year", "popwt"]]
    data = lake.from_arrow(pa.Table.from_pandas(frame, preserve_index=False))
    found = ci.FixedEffects("log(homicide) ~ post | sid + year", cluster="sid", weight=weight).fit(data)
    assert (found["post"], found.error("post")) == pytest.approx((value, error), abs=5e-7)


@pytest.mark.parametrize(
    ("few", "seed", "effects", "cluster"),
    [(64, 1, 1, "f0"), (64, 2, 2, None), (64, 3, 3, "f1"), (0, 2, 2, None), (0, 3, 3, "f1")],
)
def test_dummies_have_the_same_numbers(
    lake: ib.Lake, monkeypatch: pytest.MonkeyPatch, few: int, seed: int, effects: int, cluster: str | None
) -> None:
    monkeypatch.setattr(projections, "FEW_LEVELS", few)
    data = panel(seed, effects)
    formula = f"y ~ x | {' + '.join(f'f{at}' for at in range(effects))} | d ~ z"
    found = ci.FixedEffects(formula, "classical", cluster, weight="w").fit(table(lake, data))
    values, errors, kept = by_dummies(data, effects, cluster)
    assert (found.names, found.rows) == (("x", "d"), kept.sum())
    np.testing.assert_allclose(found.values, values, rtol=1e-9)
    np.testing.assert_allclose(found.errors, errors, rtol=1e-9)


def test_rows_alone_in_a_level_are_left_out_one_after_the_other(lake: ib.Lake) -> None:
    chain = [("a", 1), ("b", 1), ("b", 2), ("c", 2), ("c", 3), ("d", 3)]  # falls apart from both ends
    square = [("e", 5), ("e", 6), ("g", 6), ("g", 5), ("e", 5)]
    draw = np.random.default_rng(0)
    f, g = zip(*chain, *square, strict=True)
    keys = {"f": list(f), "g": list(g)}
    found = ci.FixedEffects("y ~ x | f + g", "classical").fit(
        table(lake, {**keys, "x": draw.normal(size=11), "y": draw.normal(size=11)})
    )
    assert (found.rows, found.facts["singletons left out"]) == (5, 6)
    assert found.facts["absorbed"] == "f (2) + g (2)"
    with pytest.raises(PlanError, match="no row is left"):
        ci.FixedEffects("y ~ x | f").fit(table(lake, {"f": [1, 2, 3], "x": [1.0, 2, 3], "y": [1.0, 2, 4]}))


def test_what_the_effects_explain_is_left_out_and_named(wages: ib.Dataset) -> None:
    with_it = ci.FixedEffects("lwage ~ educ + union + year:educ + i(year):educ | nr + year").fit(wages)
    assert "educ" in with_it.dropped
    assert "union" in with_it.names
    with pytest.raises(PlanError, match="explain all regressors"):
        ci.FixedEffects("lwage ~ educ | nr").fit(wages)


def test_shares_of_rows_change_no_digit_that_counts(lake: ib.Lake, tmp_path: Path) -> None:
    whole = pa.table(panel(5, 2))
    found = []
    for files in (1, 3, 7):
        folder = tmp_path / str(files)
        folder.mkdir()
        ends = np.linspace(0, whole.num_rows, files + 1).astype(int)
        for begin, end in pairwise(ends):
            pq.write_table(whole.slice(begin, end - begin), folder / f"{begin:04}.parquet")
        data = lake.read_parquet(f"{folder}/*.parquet")
        fit = ci.FixedEffects("y ~ x + d | f0 + f1", cluster="f0").fit(data)
        found.append(np.concatenate([fit.values, fit.errors]))
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=1e-10)


def test_names_and_keys_of_any_kind(lake: ib.Lake) -> None:
    data = panel(6, 1)
    words = pa.array([None if key == 7 else f"Straße {key}" for key in data["f0"]])
    odd = {'the "y"': data["y"], "größe x": data["x"], "wo wohnt": words}
    with pytest.raises(QueryError, match="wo wohnt is missing"):
        ci.FixedEffects('`the "y"` ~ `größe x` | `wo wohnt`').fit(table(lake, odd))
    found = ci.FixedEffects('`the "y"` ~ `größe x` | `wo wohnt`', missing="drop").fit(table(lake, odd))
    known = data["f0"] != 7
    plain = {name: data[name][known] for name in ("y", "x", "f0")}
    same = ci.FixedEffects("y ~ x | f0").fit(table(lake, plain))
    np.testing.assert_allclose([*found.values, *found.errors], [*same.values, *same.errors], rtol=1e-10)
    assert found.names == ("größe x",)


def test_what_cannot_be_is_refused(lake: ib.Lake, wages: ib.Dataset) -> None:
    with pytest.raises(ColumnNotFound, match="did you mean 'year'"):
        ci.FixedEffects("lwage ~ union | nr + yaer").fit(wages)
    with pytest.raises(ColumnNotFound):
        ci.FixedEffects("lwage ~ union | nr", cluster="firm").fit(wages)
    with pytest.raises(TypeMismatch):
        ci.FixedEffects("y ~ x | f").fit(table(lake, {"y": [1.0], "x": ["a"], "f": [1]}))
    with pytest.raises(ConfigError):
        ci.FixedEffects("y ~ x | f", "HC2")
    with pytest.raises(PlanError, match="no fixed effects"):
        ci.FixedEffects("y ~ x")
    with pytest.raises(QueryError, match="above 0"):
        ci.FixedEffects("lwage ~ union | nr", weight="married").fit(wages)
    with pytest.raises(PlanError, match="too few"):
        ci.FixedEffects("y ~ x | f").fit(table(lake, {"y": [1.0, 2], "x": [1.0, 3], "f": [1, 1]}))
    nothing: dict[str, Any] = {"y": pa.array([None] * 9, "double"), "x": np.arange(9.0), "f": np.arange(9) % 3}
    with pytest.raises(QueryError, match="y is missing in 9 of 9 rows"):
        ci.FixedEffects("y ~ x | f").fit(table(lake, nothing))
    with pytest.raises(PlanError, match="no rows"):
        ci.FixedEffects("y ~ x | f", missing="drop").fit(table(lake, nothing))
    with pytest.raises(PlanError, match="no rows"):
        ci.FixedEffects("y ~ x | f").fit(table(lake, nothing).filter(ib._.f < 0))


def test_conjugate_gradients_solve_singular_systems() -> None:
    draw = np.random.default_rng(7)
    root = draw.normal(size=(30, 12))
    matrix = root @ root.T
    right = matrix @ draw.normal(size=(30, 3))
    right[:, 2] = 0.0
    found = conjugate_gradients(lambda v: matrix @ v, right, np.diag(matrix), np.full(3, 1e-20), "a test")
    np.testing.assert_allclose(matrix @ found, right, atol=1e-8)
    with pytest.raises(PlanError, match="not found"):
        conjugate_gradients(lambda v: matrix @ v, draw.normal(size=(30, 1)), np.diag(matrix), np.zeros(1), "a test")
