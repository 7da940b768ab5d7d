"""What cannot be judged or assigned is refused, where that can be before rows are read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import iceblink as ib
from iceblink import causal as ci
from iceblink.causal.policies import tree
from iceblink.errors import (
    ColumnNotFound,
    ConfigError,
    DuplicateColumn,
    IceblinkError,
    PlanError,
    QueryError,
    TypeMismatch,
)

COUNT = 40
ROWS: dict[str, Any] = {
    "id": np.arange(COUNT),
    "e": np.sin(np.arange(COUNT)),
    "y": np.cos(np.arange(COUNT) * 3),
    "t": np.arange(COUNT) % 2,
    "s": ["text"] * COUNT,
    "one": np.ones(COUNT),
    "all": np.ones(COUNT, int),
    "list": [[n % 2] for n in range(COUNT)],
    "zero": np.zeros(COUNT),
    "two": np.arange(COUNT) % 2 * 2,
    "bad": -np.ones(COUNT),
    "holes": pa.array([None if n == 5 else n / 2 for n in range(COUNT)]),
    "nothing": pa.nulls(COUNT, pa.float64()),
    "big": np.where(np.arange(COUNT) == 3, np.inf, 1.0),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ib.Dataset]:
    with ib.connect(tmp_path_factory.mktemp("lake")) as lake:
        yield lake.from_arrow(pa.table(ROWS))


SETTINGS: list[Any] = [
    lambda: ci.UpliftCurve("e", "y", "t", "id", bins=1),
    lambda: ci.TOC("e", "y", "id", bins=100_000),
    lambda: ci.Calibration("e", "y", groups=1),
    lambda: ci.BestLinearPredictor("e", "y", errors="HC9"),  # type: ignore[arg-type]
    lambda: ci.DoublyRobust("id", 1.5),
    lambda: ci.DoublyRobust("id", {0: 0.5, 1: 0.6}),
    lambda: ci.DoublyRobust("id", folds=1),
    lambda: ci.DoublyRobust("id", clip=0.5),
    lambda: ci.DoublyRobust("id", np.float32(2.0)),  # type: ignore[arg-type]
    lambda: ci.DoublyRobust("id", {0: 0.5, 1: np.float64(1.5)}),
    lambda: ci.Budget("e", -1, "id"),
    lambda: ci.Budget("e", float("nan"), "id"),
    lambda: ci.Budget("e", 1, "id", cost=-1),
    lambda: ci.PolicyTree(["e"], "y", depth=3),
    lambda: ci.PolicyTree([], "y"),
    lambda: ci.PolicyTree("e", "y"),
    lambda: ci.PolicyTree(["e", "e"], "y"),
    lambda: ci.PolicyTree(["e"], "y", bins=1),
    lambda: ci.PolicyTree(["e"], "y", min_leaf=0),
    lambda: ci.PolicyTree(["e"], {}),
    lambda: ci.PolicyValue({"a": "y"}, cost={"b": 1.0}),
    lambda: ci.PolicyValue("y", cost=float("inf")),
    lambda: ci.PolicyValue({1: "y"}),  # type: ignore[dict-item]
    lambda: ci.PolicyValue({"a": "y"}, nothing="a"),
    lambda: ci.PolicyTree(["e"], {1: "y", 2: "e"}),  # type: ignore[dict-item]
]


@pytest.mark.parametrize("make", SETTINGS)
def test_settings_are_checked_at_once(make: Any) -> None:
    with pytest.raises(ConfigError):
        make()


@pytest.mark.parametrize(
    ("judge", "error", "words"),
    [
        (ci.UpliftCurve("on", "y", "t", "id"), ColumnNotFound, "'one'"),
        (ci.UpliftCurve("e", "y", "t", "no"), ColumnNotFound, "no column"),
        (ci.UpliftCurve("e", "y", "t", []), PlanError, "no column"),
        (ci.UpliftCurve("e", "y", "t", "e"), TypeMismatch, "key"),
        (ci.UpliftCurve("s", "y", "t", "id"), TypeMismatch, "not a number"),
        (ci.UpliftCurve("e", "y", "s", "id"), TypeMismatch, "not a number"),
        (ci.UpliftCurve("e", "y", "two", "id"), PlanError, "two is 2"),
        (ci.UpliftCurve("e", "y", "one", "id"), PlanError, "no row has one 0"),
        (ci.UpliftCurve("e", "y", "zero", "id"), PlanError, "no row has zero 1"),
        (ci.UpliftCurve("holes", "y", "t", "id"), QueryError, "holes is missing in 1"),
        (ci.UpliftCurve("nothing", "y", "t", "id"), QueryError, "missing in 40"),
        (ci.UpliftCurve("e", "holes", "t", "id"), QueryError, "holes is missing in 1"),
        (ci.UpliftCurve("e", "y", "holes", "id"), QueryError, "holes is missing in 1"),
        (ci.TOC("big", "y", "id"), QueryError, "missing"),
        (ci.TOC("e", "nothing", "id"), QueryError, "missing in 40"),
        (ci.TOC("e", "s", "id"), TypeMismatch, "not a number"),
        (ci.BestLinearPredictor("one", "y"), PlanError, "the same in all rows"),
        (ci.BestLinearPredictor("e", "holes"), QueryError, "missing in 1"),
        (ci.BestLinearPredictor("e", "y", cluster="no"), ColumnNotFound, "no column"),
        (ci.Calibration("e", "holes"), QueryError, "missing in 1"),
        (ci.Calibration("e", "y", groups=40), PlanError, "single row"),
        (ci.GroupEffects("e", "y"), TypeMismatch, "no segments"),
        (ci.GroupEffects("list", "y"), TypeMismatch, "no segments"),
        (ci.TOC("e", "y", "all"), PlanError, "one unit"),
        (ci.UpliftCurve("e", "y", "t", "all"), PlanError, "one unit"),
        (ci.PolicyValue("y", "t", key="all"), PlanError, "one unit"),
        (ci.PolicyValue("y", "t", key="no"), ColumnNotFound, "no column"),
        (ci.PolicyValue({"a": "y"}, "s"), QueryError, "s is 'text'"),
        (ci.GroupEffects("no", "y"), ColumnNotFound, "no column"),
        (ci.GroupEffects([], "y"), PlanError, "no columns"),
        (ci.GroupEffects("id", "y"), PlanError, "single row"),
        (ci.GroupEffects("t", "holes"), QueryError, "missing in 1"),
        (ci.Budget("e", 1, "id", "bad"), QueryError, "negative"),
        (ci.Budget("holes", 1, "id"), QueryError, "missing in 1"),
        (ci.Budget("e", 1, "id", "holes"), QueryError, "missing in 1"),
        (ci.Budget("s", 1, "id"), TypeMismatch, "not a number"),
        (ci.Budget("e", 1, "e"), TypeMismatch, "key"),
        (ci.PolicyTree(["e", "s"], "y"), TypeMismatch, "not a number"),
        (ci.PolicyTree(["e", "no"], "y"), ColumnNotFound, "no column"),
        (ci.PolicyTree(["e", "holes"], "y"), QueryError, "missing in 1"),
        (ci.PolicyTree(["e"], "holes"), QueryError, "missing in 1"),
        (ci.PolicyTree(["e"], "y", cost="holes"), QueryError, "missing in 1"),
        (ci.PolicyValue("y", "two"), QueryError, "between 0 and 1"),
        (ci.PolicyValue("y", "holes"), QueryError, "between 0 and 1"),
        (ci.PolicyValue("y", "s"), TypeMismatch, "not a number"),
        (ci.PolicyValue({"a": "y"}, "t"), TypeMismatch, "not text"),
        (ci.PolicyValue("y", "no"), ColumnNotFound, "no column"),
        (ci.PolicyValue("nothing", "t"), QueryError, "missing in 40"),
    ],
)
def test_rows_are_checked(data: ib.Dataset, judge: Any, error: type[IceblinkError], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        judge.fit(data)
    assert caught.value.where


JUDGES: list[Any] = [
    ci.UpliftCurve("e", "y", "t", "id"), ci.TOC("e", "y", "id"), ci.BestLinearPredictor("e", "y"),
    ci.Calibration("e", "y"), ci.GroupEffects("t", "y"), ci.Budget("e", 1, "id"), ci.PolicyTree(["e"], "y"),
    ci.PolicyValue("y", "t"),
]  # fmt: skip


@pytest.mark.parametrize("judge", JUDGES)
def test_no_rows_are_refused(data: ib.Dataset, judge: Any) -> None:
    with pytest.raises(PlanError, match=r"no rows|fewer than two"):
        judge.fit(data.sql("SELECT * FROM this WHERE false"))


def test_one_row_is_judged_by_nothing(data: ib.Dataset) -> None:
    one = data.sql("SELECT * FROM this WHERE id = 3")
    for judge in JUDGES[:4]:
        with pytest.raises(PlanError):
            judge.fit(one)


def test_a_prediction_that_says_nothing_is_one_point(data: ib.Dataset) -> None:
    found = ci.UpliftCurve("one", "y", "t", "id").fit(data)
    assert found.shares.tolist() == [1.0]
    np.testing.assert_allclose(found.areas["AUUC above random"], 0.0, atol=1e-15)
    toc = ci.TOC("one", "y", "id").fit(data)
    np.testing.assert_allclose(toc.areas.values, 0.0, atol=1e-15)


def test_too_many_bins_are_refused(data: ib.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "MOST_CELLS", 1_000)
    ci.PolicyTree(["e", "id"], "y", bins=16).fit(data)
    with pytest.raises(PlanError, match="pairs of bins"):
        ci.PolicyTree(["e", "id"], "y").fit(data)


def test_names_that_are_taken_are_refused(data: ib.Dataset) -> None:
    for policy in (ci.Budget("e", 1, "id").fit(data), ci.PolicyTree(["e"], "y").fit(data)):
        with pytest.raises(DuplicateColumn):
            policy.assign(data, "t")
        with pytest.raises(ColumnNotFound):
            policy.assign(data.drop("e"))
    several = ci.PolicyTree(["e"], {"a": "y", "nothing": "t"}).fit(data)
    with pytest.raises(ConfigError):
        several.assign(data)
    with pytest.raises(ColumnNotFound):
        ci.TOC("e", "y", "id").fit(data).interval("gain")
