"""How standard errors are estimated, by the names of the field."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from iceblink.causal.estimates import Estimates
from iceblink.causal.provenance import Provenance
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
        self,
        title: str,
        data: Dataset,
        residuals: Residuals,
        facts: dict[str, Any],
        *,
        variance: float | None = None,
        normal: bool = False,
        absorbed: int = 0,
    ) -> Estimates:
        """Return a fit with its errors. Eager: reads the data once more, unless the errors are classical.

        Parameters
        ----------
        title : str
        data : Dataset
        residuals : Residuals
        facts : dict
            What else is known of it.
        variance : float, optional
            What the bread is multiplied with for classical errors. Default: the residuals' mean square.
        normal : bool
            Whether the coefficients are taken to be normally distributed, instead of by Student's t.
        absorbed : int
            How many coefficients were estimated that the fit does not have.
        """
        fit = residuals.fit
        rows, left = fit.rows, fit.rows - len(fit.coefficients) - absorbed
        freedom: float = left
        if self.clusters:
            meat, groups = clustered_meat(data, residuals, self.clusters)
            covariance = fit.bread @ meat @ fit.bread * (groups / (groups - 1) * (rows - 1) / left)
            convention, freedom = f"CR1 by {', '.join(self.clusters)} ({groups:,})", groups - 1
        elif self.kind == "classical":
            covariance, convention = fit.bread * (fit.squares / left if variance is None else variance), self.kind
        else:
            meat = robust_meat(data, residuals, self.kind)
            covariance = fit.bread @ meat @ fit.bread * (rows / left if self.kind == "HC1" else 1.0)
            convention = self.kind
        return Estimates(
            title=title,
            names=fit.names,
            values=fit.values,
            covariance=fit.to_columns @ covariance @ fit.to_columns.T,
            convention=convention,
            rows=rows,
            freedom=np.inf if normal else freedom,
            dropped=fit.dropped,
            facts=facts,
            provenance=Provenance.of(data),
        )
