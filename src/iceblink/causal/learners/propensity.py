"""The chance of each arm given a row's features: as it was drawn by, or by models of who had what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from iceblink.causal.matrix import floats
from iceblink.causal.models.classes import chances_of_all
from iceblink.causal.models.fitted import Fitted, Model, predictions
from iceblink.causal.moments import Floats
from iceblink.causal.observational.study import Arms
from iceblink.errors import ConfigError, QueryError

Share = float | str
"""A chance that is the same for all rows, or a column of chances."""
Assignment = Model | Share | Mapping[Any, Share]
"""A model of who has which treatment, or what is known of it.

A model is one of binary targets, or of classes where there are more arms than two: one model of all arms, whose chances
add up to 1; of `Logistic` it is multinomial regression. A number or the name of a column is the chance of not being a
control, of two arms; of more a mapping says the chance of each arm: the control has what others leave if it is not
named.
"""


class Chances(Protocol):
    """Says how likely each arm was; it pickles."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns of the table that it looks at."""

    def of(self, batch: pa.RecordBatch) -> Floats:
        """Return the chance (J, n) of each arm for each row of a batch, those of a row adding up to 1."""


def against(chances: Floats, arm: int) -> Floats:
    """Return the chance (n,) of an arm among those who have it or are controls."""
    return np.asarray(chances[arm] / (chances[0] + chances[arm]))


@dataclass(frozen=True, eq=False)
class ModelledChances:
    """Chances that a model of all arms says."""

    fit: Fitted

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.fit.inputs

    def of(self, batch: pa.RecordBatch) -> Floats:
        return chances_of_all(predictions([self.fit], batch))


@dataclass(frozen=True)
class KnownChances:
    """Chances that were decided on.

    Parameters
    ----------
    arms : Arms
    shares : tuple of (float, str or None)
        Of each arm, the control first; None for what the others leave.
    """

    arms: Arms
    shares: tuple[Share | None, ...]

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(share for share in self.shares if isinstance(share, str)))

    def of(self, batch: pa.RecordBatch) -> Floats:
        """Return the chances (J, n), NaN where a column lacks one.

        Raises
        ------
        QueryError
            One is not between 0 and 1, or those of a row do not add up to 1.
        """
        found = np.empty((len(self.shares), batch.num_rows))
        for at, share in enumerate(self.shares):
            if share is not None:
                found[at] = floats(batch.column(share)) if isinstance(share, str) else share
        for at, share in enumerate(self.shares):
            if share is None:
                found[at] = 1.0 - np.delete(found, at, axis=0).sum(axis=0)
        where = f"the propensity of {self.arms.column}"
        outside = (found <= 0) | (found >= 1)
        if outside.any():
            at, row = (int(places[0]) for places in np.nonzero(outside))
            raise QueryError(
                f"a row has {self.arms.names[at]} with a chance of {found[at, row]:g}",
                where,
                "of who could not have had each treatment nothing is learnt: leave them out by a filter",
            )
        total = found.sum(axis=0)
        if (np.abs(total - 1) > 1e-6).any():
            raise QueryError(
                f"the chances of a row's arms add up to {total[np.abs(total - 1) > 1e-6][0]:g}", where, "they are all"
            )
        return found


def known(propensity: Share | Mapping[Any, Share], arms: Arms, where: str) -> KnownChances:
    """Read what is known of the chances.

    Raises
    ------
    ConfigError
        An arm's chance is not said, or is none.
    """
    values = arms.levels.to_pylist()
    if not isinstance(propensity, Mapping):
        if len(arms) > 2:
            hint = "{" + ", ".join(f"{value!r}: ..." for value in values) + "}"
            raise ConfigError(f"one propensity is given for {len(arms)} arms", where, hint)
        shares: list[Share | None] = [None, propensity]
    else:
        for value in propensity:
            if value not in values:
                shown = ", ".join(map(repr, values))
                raise ConfigError(f"no row has {arms.column} {value!r}", f"{where}, propensity", f"it has {shown}")
        shares = [propensity.get(value) for value in values]
        if lacking := [value for value, share in zip(values[1:], shares[1:], strict=True) if share is None]:
            raise ConfigError(
                f"the propensity of {arms.column} {lacking[0]!r} is not said",
                where,
                "only the control has what is left",
            )
    numbers = [float(share) for share in shares if share is not None and not isinstance(share, str)]
    for share in numbers:
        if not 0 < share < 1:
            raise ConfigError(
                f"a propensity is {share:g}", where, "it is a chance between 0 and 1, and neither of both"
            )
    total = float(sum(numbers))
    if (len(numbers) == len(shares) and abs(total - 1) > 1e-9) or (None in shares and total >= 1):
        raise ConfigError(f"the propensities add up to {total:g}", where, "those of all arms add up to 1")
    return KnownChances(arms, tuple(shares))


def columns_of(propensity: Assignment) -> tuple[str, ...]:
    """Return the columns of chances that a propensity names."""
    shares = propensity.values() if isinstance(propensity, Mapping) else [propensity]
    return tuple(share for share in shares if isinstance(share, str))
