"""How standard errors are estimated, by the names of the field."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from iceblink.causal.estimates import Estimates
from iceblink.causal.regression.sandwich import Residuals, clustered_meat, robust_meat
from iceblink.errors import ConfigError, nearest

if TYPE_CHECKING:
    from iceblink.dataset import Dataset

Kind = Literal["classical", "HC0", "HC1", "HC2", "HC3"]
KINDS = ("classical", "HC0", "HC1", "HC2", "HC3")


@dataclass(frozen=True)
class Errors:
    """Standard errors of a linear model: of a kind, or clustered by columns."""

    kind: Kind
    clusters: tuple[str, ...]

    @classmethod
    def of(cls, kind: Kind, cluster: str | Sequence[str] | None, where: str) -> Errors:
        """Read what a user says. Raises ConfigError."""
        if kind not in KINDS:
            raise ConfigError(f"no errors {kind!r}", where, nearest(kind, KINDS, "errors"))
        return cls(kind, () if cluster is None else (cluster,) if isinstance(cluster, str) else tuple(cluster))

    def estimates(
        self, title: str, data: Dataset, residuals: Residuals, absorbed: int = 0, nested: bool = False, **facts: object
    ) -> Estimates:
        """Return a fit with its errors. Eager: reads the data once more, unless the errors are classical.

        Parameters
        ----------
        title : str
        data : Dataset
        residuals : Residuals
        absorbed : int
            Coefficients that were taken out before.
        nested : bool
            Whether clusters are made of whole groups of those; they then cost no degree of freedom, as in fixest.
        **facts
        """
        fit = residuals.fit
        rows = fit.rows
        left = rows - len(fit.coefficients) - absorbed
        freedom: float = left
        if self.clusters:
            meat, groups = clustered_meat(data, residuals, self.clusters)
            spent = len(fit.coefficients) + (1 if nested else absorbed)
            covariance = fit.bread @ meat @ fit.bread * (groups / (groups - 1) * (rows - 1) / (rows - spent))
            convention, freedom = f"CR1 by {', '.join(self.clusters)} ({groups:,})", groups - 1
        elif self.kind == "classical":
            covariance, convention = fit.bread * (fit.squares / left), self.kind
        else:
            meat = robust_meat(data, residuals, self.kind)
            covariance = fit.bread @ meat @ fit.bread * (rows / left if self.kind == "HC1" else 1.0)
            convention = self.kind
        turned = fit.to_columns
        return Estimates(
            title, fit.names, fit.values, turned @ covariance @ turned.T, convention, rows, freedom, fit.dropped, facts
        )
