"""Every result says where its numbers come from, and is read and computed with in the same ways."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import iceblink as ib
from iceblink import causal as ci
from iceblink.causal.panels.staggered import StaggeredPanel
from iceblink.causal.provenance import Provenance, Source
from iceblink.causal.result import Result
from iceblink.causal.sheet import Sheet
from iceblink.errors import ColumnNotFound

UNITS, PERIODS = 40, 4
ODD = "größe <b> & 'x'"
"""A name that SQL, formulas and HTML could each take for something else."""


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ib.Lake]:
    with ib.connect(tmp_path_factory.mktemp("lake")) as lake:
        draw = np.random.default_rng(1)
        unit, period = np.divmod(np.arange(UNITS * PERIODS), PERIODS)
        first = np.where(unit < 10, 2.0, np.where(unit < 20, 3.0, np.nan))
        x = draw.normal(size=len(unit))
        rows = {
            "id": np.arange(len(unit)),
            "unit": unit,
            "period": period,
            "first": pa.array(first, from_pandas=True),
            "post": (period >= np.nan_to_num(first, nan=99)).astype(int),
            "since2": ((period >= 2) & (unit < 10)).astype(int),
            "t": (draw.random(len(unit)) < 1 / (1 + np.exp(-x))).astype(int),
            "three": unit % 3,
            "x": x,
            ODD: draw.normal(size=len(unit)),
            "y": x + unit % 2 + draw.normal(size=len(unit)),
            "city": [f"<i>{n % 2}</i>" for n in unit],
        }
        lake.write("n.panel", pa.table(rows), "create")
        yield lake


def problem(data: ib.Dataset) -> ci.Problem:
    return ci.Problem(data, "y", "t", ["x", ODD])


def panel(data: ib.Dataset) -> StaggeredPanel:
    return ci.Staggered("y", "unit", "period", "first").read(data)


def experiment(data: ib.Dataset) -> ci.ABResult:
    return ci.ABTest("t", 0, [ci.Mean("y", adjust=ODD), ci.Mean("x")], segments="city").fit(data)


MADE: dict[str, Any] = {
    "OLS": lambda data: ci.OLS(f"y ~ x + `{ODD}` + i(city)").fit(data),
    "TwoStage": lambda data: ci.TwoStage("y ~ 1 | t ~ x").fit(data),
    "FixedEffects": lambda data: ci.FixedEffects("y ~ x | unit + period").fit(data),
    "Logit": lambda data: ci.Logit("t ~ x").fit(data),
    "Poisson": lambda data: ci.Poisson("period ~ x").fit(data),
    "LinearPLR": lambda data: ci.LinearPLR("y", "t", ["x", ODD], key="unit", folds=3, seed=5).fit(data),
    "PLR": lambda data: ci.PLR("y", "t", ["x", ODD], key="unit", folds=3, seed=5).fit(data),
    "PLIV": lambda data: ci.PLIV("y", "t", ["x"], "unit", instrument="three", folds=2).fit(data),
    "IRM": lambda data: ci.IRM("y", "t", ["x"], key="id", folds=2).fit(data),
    "LinearDML": lambda data: ci.LinearDML("y", "t", [], key="id", folds=2, modifiers=["x"]).fit(data),
    "ABTest": experiment,
    "IPW": lambda data: ci.IPW().fit(problem(data)),
    "NearestNeighbour": lambda data: ci.NearestNeighbour().fit(problem(data)),
    "CoarsenedMatching": lambda data: ci.CoarsenedMatching({"x": 2, ODD: 2}).fit(problem(data)),
    "EntropyBalancing": lambda data: ci.EntropyBalancing().fit(problem(data)),
    "Stratification": lambda data: ci.Stratification(2).fit(problem(data)),
    "Balance": lambda data: problem(data).balance(),
    "Balance, weighted": lambda data: ci.IPW().fit(problem(data)).balance(),
    "Scores": lambda data: ci.Propensity().fit(problem(data)),
    "Scores of three": lambda data: ci.Propensity().fit(ci.Problem(data, "y", "three", ["x", ODD])),
    "Overlap": lambda data: ci.Propensity().fit(problem(data)).overlap(),
    "TwoByTwo": lambda data: ci.TwoByTwo("y", "t", "since2").fit(data),
    "StaggeredPanel": panel,
    "GroupTimeEffects": lambda data: panel(data).group_time(),
    "aggregate": lambda data: panel(data).group_time().aggregate("dynamic"),
    "two_stage": lambda data: panel(data).two_stage(),
    "SyntheticControl": lambda data: ci.SyntheticControl("y", "unit", "period", "since2").fit(data),
    "SyntheticDiD": lambda data: ci.SyntheticDiD("y", "unit", "period", "since2", 3, seed=4).fit(data),
    "TLearner": lambda data: ci.TLearner("y", "three", ["x"]).fit(data),
    "RLearner": lambda data: ci.RLearner("y", "t", ["x", ODD], "id", folds=2, seed=5).fit(data),
    "UpliftTree": lambda data: ci.UpliftTree("since2", "t", ["x", "city"], "id", min_leaf=9, min_arm=2).fit(data),
    "CausalForest": lambda data: forest(data),
    "ATE of a forest": lambda data: forest(data).ate(data),
    "UpliftCurve": lambda data: ci.UpliftCurve("x", "y", "t", "id", bins=4).fit(data),
    "TOC": lambda data: ci.TOC("x", "y", "id", bins=4).fit(data),
    "GroupEffects": lambda data: ci.GroupEffects(["city", "period"], "y").fit(data),
    "difference": lambda data: ci.GroupEffects("period", "y").fit(data).difference("period=0", "period=1"),
    "Calibration": lambda data: ci.Calibration("x", "y", 3).fit(data),
    "BestLinearPredictor": lambda data: ci.BestLinearPredictor("x", "y").fit(data),
    "PolicyTree": lambda data: ci.PolicyTree(["x", ODD], "y", bins=4).fit(data),
    "Budget": lambda data: ci.Budget("x", 9, "id").fit(data),
    "PolicyValue": lambda data: ci.PolicyValue("y", "t").fit(data),
    "FrontDoor": lambda data: ci.FrontDoor("y", "t", ["x"]).fit(data),
    "Implications": lambda data: ci.Graph(f'"{ODD}" -> t; x -> t').check(data),
    "Refutation": lambda data: ci.refute(ci.OLS("y ~ t + x"), data, treatment="t", key="unit", draws=2),
    "RegressionSensitivity": lambda data: ci.sensitivity(ci.OLS("y ~ t + x"), data, "t"),
    "ScoreSensitivity": lambda data: ci.sensitivity(ci.LinearPLR("y", "t", ["x"], key="id", folds=2, seed=5), data),
}
TABLES = (StaggeredPanel, ci.GrownForest, ci.GrownUplift, ci.Spending, ci.FittedTree, ci.Refutation, ci.Implications,
          ci.RegressionSensitivity, ci.ScoreSensitivity, ci.LearnedEffects)  # fmt: skip
"""Results without one convention of errors for all of their numbers."""


def forest(data: ib.Dataset) -> ci.GrownForest:
    return ci.CausalForest("y", "t", [ODD], "id", trees=16, bag=2, depth=2, min_leaf=3, folds=2, seed=5).fit(data)


@pytest.fixture(scope="module")
def table(lake: ib.Lake) -> ib.Dataset:
    return lake.table("n.panel")


def made_of(name: str, table: ib.Dataset) -> Result:
    """Make a result of the table; controls of the synthetic ones are units that are never treated."""
    data = table.sql("SELECT * FROM this WHERE unit < 10 OR unit >= 20") if "Synthetic" in name else table
    made: Result = MADE[name](data)
    return made


@pytest.fixture(scope="module", params=MADE)
def result(request: pytest.FixtureRequest, table: ib.Dataset) -> Result:
    return made_of(request.param, table)


def test_a_result_names_the_table_and_the_snapshot_that_it_was_read_at(result: Result, lake: ib.Lake) -> None:
    snapshot = lake.sql("SELECT snapshot_id FROM n.panel.snapshots").to_pylist()[0]["snapshot_id"]
    assert result.provenance.sources == (Source("n.panel", snapshot),)
    assert f"data n.panel at snapshot {snapshot}" in result.summary()
    assert isinstance(result, TABLES) or result.provenance.conventions


def test_frames_hold_the_rows_of_the_arrow_table(result: Result) -> None:
    table = result.to_arrow()
    rows = table.select(list(result.keys)).to_pylist()
    assert len({tuple(row.values()) for row in rows}) == len(rows), "keys name a row"
    assert list(result.to_pandas().reset_index().columns) == [
        *result.keys,
        *(name for name in table.column_names if name not in result.keys),
    ]
    assert result.to_polars().to_arrow().num_rows == result.to_pandas().shape[0] == table.num_rows


class Cells(HTMLParser):
    """The tags of a text, and what stands between them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.cells: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.cells.append(data)


def test_a_notebook_shows_what_the_summary_says(result: Result) -> None:
    read, sheet = Cells(result._repr_html_()), result.sheet()
    assert read.tags <= {"div", "p", "b", "table", "thead", "tbody", "tr", "th", "td"}
    for cell in (*sheet.above, *sheet.head, *(cell for line in sheet.lines for cell in line), *sheet.below):
        assert not cell or cell in read.cells
    if not isinstance(result, ci.LearnedEffects):  # whose repr reads no rows
        assert repr(result) == result.summary()
    for line in result.summary().splitlines():
        assert line == line.rstrip()


def test_estimates_of_all_kinds_have_the_same_columns(table: ib.Dataset) -> None:
    shared = ["name", "estimate", "std_error", "statistic", "p_value", "lower", "upper"]
    for made in ("OLS", "IPW", "PLR", "two_stage", "SyntheticDiD"):
        assert made_of(made, table).to_arrow().column_names[:7] == shared
    assert set(shared[2:]) <= set(experiment(table).to_arrow().column_names)


def test_folds_and_seeds_are_told(table: ib.Dataset) -> None:
    for made in ("LinearPLR", "PLR"):
        found = MADE[made](table)
        assert (found.provenance.folds, found.provenance.seed) == (3, 5)
        assert found.provenance.conventions == (found.convention,)
        assert found.summary().endswith("folds 3, seed 5")
    for made in ("RLearner", "ATE of a forest", "ScoreSensitivity"):
        assert MADE[made](table).summary().endswith("folds 2, seed 5")
    assert MADE["Budget"](table).provenance.seed == MADE["Refutation"](table).provenance.seed == 0
    assert MADE["OLS"](table).provenance.seed is None


def test_sources_are_each_named_once_in_the_order_of_the_plan(lake: ib.Lake, tmp_path: Any) -> None:
    lake.write("n.other", {"unit": [0, 1]}, "create")
    other, panel = lake.table("n.other"), lake.table("n.panel")
    memory, files = lake.from_arrow({"unit": [0, 1, 2]}), str(tmp_path / "files")
    joined = other.join(panel, "unit").join(memory, "unit").join(other.select("unit"), "unit")
    assert [one.name for one in Provenance.of(joined).sources] == ["n.other", "n.panel", "3 rows in memory"]
    other.write_parquet(files)
    beside = lake.sql(f"SELECT p.* FROM n.panel p JOIN read_parquet('{files}') AS f USING (unit), range(2)")
    assert [one.name for one in Provenance.of(beside).sources] == [
        "n.panel",
        f"READ_PARQUET('{files}')"[:99] + "…" * (len(files) > 85),
        "RANGE(0, 2)",
    ]
    (read,) = Provenance.of(lake.read_parquet(files).filter(ib._.unit > 0)).sources
    assert read.name.startswith("SELECT * FROM READ_PARQUET")
    assert read.snapshot is None
    stream = lake.from_arrow(pa.RecordBatchReader.from_batches(pa.schema([]), []))
    assert Provenance.of(stream).lines == ("data a stream, read once",)
    assert Provenance().lines == ()


def test_an_older_snapshot_is_named_as_such(lake: ib.Lake) -> None:
    rows = {"y": [1.0, 2.0, 4.0], "x": [0.0, 1.0, 3.0]}
    first = lake.write("n.grows", rows, "create")
    then = ci.OLS("y ~ x").fit(first).provenance
    now = ci.OLS("y ~ x").fit(lake.write("n.grows", {"y": [3.0], "x": [1.0]})).provenance
    again = ci.OLS("y ~ x").fit(lake.table("n.grows", snapshot=then.sources[0].snapshot))
    assert again.provenance == then != now
    assert again.values[1] == pytest.approx(1.0)


def test_the_p_value_of_a_synthetic_control_is_its_rank(table: ib.Dataset) -> None:
    found = made_of("SyntheticControl", table)
    assert isinstance(found, ci.Estimates)
    assert found.to_arrow()["p_value"].to_pylist() == [found.facts["p by rank"]]


def test_scores_are_those_of_a_logit(table: ib.Dataset) -> None:
    found = MADE["Scores"](table).to_pandas()["coefficient"].xs("1")
    logit = ci.Logit(f"t ~ x + `{ODD}`").fit(table)
    np.testing.assert_allclose(found.to_numpy(), logit.values, rtol=1e-6)
    assert list(found.index) == list(logit.names)


def test_a_panel_is_the_means_of_its_cohorts(table: ib.Dataset) -> None:
    found = panel(table).to_arrow().to_pylist()
    rows = table.to_pylist()
    for row in found:
        mine = [one["y"] for one in rows if (one["first"], one["period"]) == (row["first_treated"], row["period"])]
        assert row["mean"] == pytest.approx(np.mean(mine))
        assert row["units"] == len(mine)


def test_a_learner_tells_averages_and_coefficients(table: ib.Dataset) -> None:
    found = MADE["RLearner"](table)
    told = found.to_pandas().loc["1"]
    assert told.loc["ATE", "estimate"] == found.ate()["ATE"]
    assert told.loc["x", "std_error"] == found.coefficients().error("x")


def test_an_effect_without_noise_has_no_error(lake: ib.Lake) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rounded = ci.Estimates("exact", ("t", "zero"), np.array([1.0, 0.0]), np.diag([-1e-19, 0.0]), "HC0", 9)
        assert list(rounded.errors) == [0, 0]
        assert rounded.p_values[0] == 0
        assert "exact" in rounded.summary()
        draw = np.random.default_rng(0)
        x, t = draw.normal(size=60), np.arange(60) % 2
        exact = lake.from_arrow({"id": np.arange(60), "x": x, "t": t, "y": x + t})
        for seed in range(3):
            found = ci.PLR("y", "t", ["x"], "id", folds=2, seed=seed).fit(exact)
            assert found["t"] == pytest.approx(1)
            assert 0 <= found.error("t") < 1e-6
    with pytest.warns(RuntimeWarning):  # no rounding: such a covariance is wrong, and says so
        assert np.isnan(ci.Estimates("wrong", ("t",), np.ones(1), -np.eye(1), "HC0", 9).errors[0])


@pytest.mark.parametrize("made", ["UpliftCurve", "TOC", "Calibration", "GroupEffects", "ScoreSensitivity"])
def test_a_result_draws_itself(table: ib.Dataset, made: str) -> None:
    ax = MADE[made](table).plot()
    assert ax.get_xlabel()
    assert ax.lines or ax.collections


def test_a_drawing_is_of_the_numbers(table: ib.Dataset) -> None:
    toc, calibration = MADE["TOC"](table), MADE["Calibration"](table)
    np.testing.assert_array_equal(toc.plot().lines[-2].get_ydata(), toc.values["TOC"])
    np.testing.assert_array_equal(calibration.plot().lines[-1].get_xdata(), calibration.predicted)
    marked = MADE["RegressionSensitivity"](table).plot(benchmarks=["x"])
    assert "x" in [text.get_text() for text in marked.texts]
    with pytest.raises(ColumnNotFound):
        toc.plot(name="gain")


def test_a_sheet_without_lines_is_its_head() -> None:
    sheet = Sheet(("nothing <found>",), ("", "mean"), ())
    assert sheet.text() == "nothing <found>\n  mean"
    assert "<found>" not in sheet.html()


def test_words_under_a_table_end_at_a_hundred_letters_and_cells_hide_what_is_no_number() -> None:
    made = ci.Estimates("a title", ("a", "b"), np.array([30.0, -1e-9]), np.diag([1.0, np.nan]), "word " * 40, 9_999)
    first, head, *lines = made.summary().splitlines()
    assert (first, head.split()[:3]) == ("a title", ["estimate", "std.", "error"])
    assert [line.split()[0] for line in lines[:2]] == ["a", "b"]
    assert "<1e-16" in lines[0]
    assert "nan" not in made.summary()
    assert len(lines[2:]) > 1
    assert max(map(len, lines)) <= 100
    assert " ".join(lines[2:]) == f"rows 9,999, errors {('word ' * 40).strip()}"


def test_curves_and_their_areas_have_one_title(table: ib.Dataset) -> None:
    found = ci.UpliftCurve("x", "y", "t", "id").fit(table)
    assert found.summary().count(found.title) == found._repr_html_().count(found.title) == 1
