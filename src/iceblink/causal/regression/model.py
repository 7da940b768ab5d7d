"""What every regression is asked for, and checks before it is given any data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from iceblink.causal.formula import Formula, parsed
from iceblink.causal.matrix import Number
from iceblink.causal.passes import Missing
from iceblink.causal.regression.design import Design, complete
from iceblink.causal.regression.errors import Errors, Kind
from iceblink.errors import ColumnNotFound, ConfigError

if TYPE_CHECKING:
    from iceblink.dataset import Dataset


@dataclass(frozen=True)
class Regression:
    """A formula, and how it is estimated; what the parameters mean is said by each regression.

    Raises
    ------
    ConfigError, PlanError
    """

    formula: str
    errors: Kind = "HC1"
    cluster: str | Sequence[str] | None = None
    weight: str | None = None
    missing: Missing = "raise"

    no_leverage: ClassVar[str | None] = "is for least squares"
    """Why HC2 and HC3, which need the leverage of each row, are refused; None where they are not."""

    def __post_init__(self) -> None:
        name = type(self).__name__
        Errors.of(self.errors, self.cluster, name)
        if self.missing not in ("raise", "drop"):
            raise ConfigError(f"missing is {self.missing!r}", name, 'it is "raise" or "drop"')
        if self.no_leverage is not None and self.errors in ("HC2", "HC3"):
            raise ConfigError(f"{self.errors} {self.no_leverage}", name, "HC1 is its like here")
        self._check(parsed(self.formula))

    def _designed(self, data: Dataset, where: str) -> Design:
        """Bring the formula and a dataset together, and check what else is named. As eager as `Design.of`.

        Raises
        ------
        ColumnNotFound, TypeMismatch, PlanError
        """
        design = Design.of(data, parsed(self.formula), where)
        clusters = Errors.of(self.errors, self.cluster, where).clusters
        weights = () if self.weight is None else (self.weight,)
        schema = design.data.schema
        for name in (*clusters, *weights):
            if name not in schema.names:
                raise ColumnNotFound.of(name, schema.names, where)
        for name in weights:
            Number(name).check(schema, where)
        if clusters and self.missing == "drop":  # a cluster all of whose rows lack a value is none
            return replace(design, data=complete(design.data, (*design.matrix.inputs, *clusters, *weights)))
        return design

    def _check(self, formula: Formula) -> None:
        """Refuse a formula with parts that this regression has not."""
