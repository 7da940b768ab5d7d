"""Published and printed numbers, on data that ships in packages."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from causaldata import nsw_mixtape
from linearmodels.datasets import card, mroz

import iceblink as ib
from iceblink.causal.regression.errors import KINDS, Kind
from iceblink.causal.regression.ols import OLS
from iceblink.causal.regression.two_stage import TwoStage


def kept(lake: ib.Lake, frame: Any) -> ib.Dataset:
    return lake.from_arrow(pa.Table.from_pandas(frame, preserve_index=False))


REGIONS = " + ".join(f"reg{number}" for number in range(662, 670))
CARD = f"lwage ~ exper + expersq + black + smsa + south + smsa66 + {REGIONS}"
COVARIATES = "age + educ + black + hisp + marr + nodegree + re74 + re75"


@pytest.mark.parametrize(
    ("kind", "error"),
    list(zip(KINDS, [632.853392, 669.315322, 670.824491, 670.9965444673, 672.682147], strict=True)),
)
def test_the_national_supported_work_demonstration(lake: ib.Lake, kind: Kind, error: float) -> None:
    found = OLS("re78 ~ treat", errors=kind).fit(kept(lake, nsw_mixtape.load_pandas().data))
    assert found["treat"] == pytest.approx(1794.3423818501, rel=1e-12)
    assert found.error("treat") == pytest.approx(error, rel=1e-8)


def test_its_covariates(lake: ib.Lake) -> None:
    data = kept(lake, nsw_mixtape.load_pandas().data)
    found = OLS(f"re78 ~ treat + {COVARIATES}").fit(data)
    assert found["treat"] == pytest.approx(1676.3426254029, rel=1e-11)
    assert found.error("treat") == pytest.approx(676.7336974791, rel=1e-11)
    centred = data.mutate(**{name: ib._[name] - ib._[name].mean() for name in COVARIATES.split(" + ")})
    lin = OLS(f"re78 ~ treat + {COVARIATES} + {' + '.join(f'treat:{name}' for name in COVARIATES.split(' + '))}", "HC2")
    found = lin.fit(centred)
    assert found["treat"] == pytest.approx(1621.5830818964, rel=1e-10)
    assert found.error("treat") == pytest.approx(694.7215691213, rel=1e-10)


def test_the_return_of_schooling_by_nearness_of_a_college(lake: ib.Lake) -> None:
    data = kept(lake, card.load())
    least = OLS(CARD.replace("~", "~ educ +"), "classical").fit(data)
    assert least["educ"] == pytest.approx(0.0746932508, rel=1e-8)
    assert least.error("educ") == pytest.approx(0.0034983456, rel=1e-8)
    for kind, error in (("classical", 0.0549636679), ("HC0", 0.0539995214)):
        found = TwoStage(f"{CARD} | educ ~ nearc4", kind).fit(data)  # type: ignore[arg-type]
        assert found["educ"] == pytest.approx(0.1315037755, rel=1e-8)
        assert found.error("educ") == pytest.approx(error, rel=1e-8)


def test_the_wages_of_married_women(lake: ib.Lake) -> None:
    data = kept(lake, mroz.load().dropna())
    least = OLS("lwage ~ educ", "classical").fit(data)
    assert (least["educ"], least.error("educ")) == pytest.approx((0.1086486645, 0.0143998), rel=1e-5)
    found = TwoStage("lwage ~ 1 | educ ~ fatheduc", "classical").fit(data)
    assert (found["educ"], found.error("educ")) == pytest.approx((0.0591734741, 0.0351418), rel=1e-6)
    found = TwoStage("lwage ~ exper + expersq | educ ~ motheduc + fatheduc", "classical").fit(data)
    assert (found["educ"], found.error("educ")) == pytest.approx((0.0613966276, 0.0314367), rel=1e-6)
    assert found.facts["Sargan"] == pytest.approx(0.378071, rel=1e-5)
    assert found.facts["p of Sargan"] == pytest.approx(0.538637, rel=1e-5)


def test_shares_of_rows_change_no_digit_that_counts(lake: ib.Lake) -> None:
    frame = card.load()
    values = []
    for files in (1, 3, 7):
        name = f"n.t{files}"
        parts = frame.assign(part=np.arange(len(frame)) % files)
        rows = pa.Table.from_pandas(parts, preserve_index=False)
        lake.write(name, rows, "create", partition_by=["part"])
        found = OLS(CARD.replace("~", "~ educ +"), cluster="age").fit(lake.table(name))
        values.append(np.concatenate([found.values, found.errors]))
    for other in values[1:]:
        np.testing.assert_allclose(other, values[0], rtol=1e-10)
