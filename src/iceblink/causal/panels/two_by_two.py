"""Difference-in-differences of two groups before and after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from iceblink.causal.estimates import Estimates
from iceblink.causal.matrix import Number, floats
from iceblink.causal.passes import Missing
from iceblink.causal.regression.errors import Errors, Kind
from iceblink.causal.regression.ols import OLS
from iceblink.errors import ColumnNotFound, ConfigError, PlanError

if TYPE_CHECKING:
    from iceblink.dataset import Dataset


@dataclass(frozen=True)
class TwoByTwo:
    """The change of a treated group less that of a control group: the 2x2 difference-in-differences [1]_.

    The coefficient of ``treated:after`` in a regression on both and their product. Of a panel or of cross sections.

    Parameters
    ----------
    outcome : str
    treated, after : str
        Columns of 0 and 1, or of booleans: the group, and the time.
    covariates : sequence of str
        Terms of a formula that enter linearly.
    errors, cluster, weight, missing
        As of `OLS`.

    References
    ----------
    .. [1] Angrist, Pischke: Mostly Harmless Econometrics, 2009, equation 5.2.3.
    """

    outcome: str
    treated: str
    after: str
    covariates: Sequence[str] = ()
    errors: Kind = "HC1"
    cluster: str | Sequence[str] | None = None
    weight: str | None = None
    missing: Missing = "raise"

    def __post_init__(self) -> None:
        Errors.of(self.errors, self.cluster, "TwoByTwo")
        if isinstance(self.covariates, str):
            raise ConfigError("covariates is one text", "TwoByTwo", f"a list: [{self.covariates!r}]")

    def fit(self, data: Dataset) -> Estimates:
        """Estimate it. Eager: reads the data as often as `OLS`, after a pass that counts the four cells.

        Raises
        ------
        ColumnNotFound, TypeMismatch, QueryError
        PlanError
            A column has other values than 0 and 1, or one of the four cells is empty.
        """
        where = f"TwoByTwo of {self.outcome} by {self.treated} and {self.after}"
        for name in (self.treated, self.after):
            if name not in data.schema.names:
                raise ColumnNotFound.of(name, data.schema.names, where)
            Number(name).check(data.schema, where)
        cells = data.select(self.treated, self.after).distinct().limit(6).to_arrow().drop_null()
        pairs = zip(*(floats(column).astype(float) for column in cells.columns), strict=True)
        found = {(float(group), float(time)) for group, time in pairs}
        if found != {(group, time) for group in (0.0, 1.0) for time in (0.0, 1.0)}:
            raise PlanError(
                f"{self.treated} and {self.after} do not make four cells of 0 and 1",
                where,
                f"they have {', '.join(f'({group:g}, {time:g})' for group, time in sorted(found))}",
            )
        group, time = f"`{self.treated}`", f"`{self.after}`"
        terms = " + ".join((f"{group}:{time}", group, time, *self.covariates))
        model = OLS(f"`{self.outcome}` ~ {terms}", self.errors, self.cluster, self.weight, self.missing)
        return replace(model.fit(data), title=where)
