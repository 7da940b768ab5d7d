"""What every regression is asked for, and checks before it is given any data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from iceblink.causal.formula import Formula, parsed
from iceblink.causal.passes import Missing
from iceblink.causal.regression.errors import Errors, Kind
from iceblink.errors import ConfigError


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
        if self.no_leverage is not None and self.errors in ("HC2", "HC3"):
            raise ConfigError(f"{self.errors} {self.no_leverage}", name, "HC1 is its like here")
        self._check(parsed(self.formula))

    def _check(self, formula: Formula) -> None:
        """Refuse a formula with parts that this regression has not."""
