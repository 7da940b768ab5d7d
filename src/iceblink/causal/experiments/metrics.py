"""What an experiment is judged by: means, conversions, ratios and quantiles of columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from iceblink.errors import ColumnNotFound, ConfigError, TypeMismatch
from iceblink.types import is_number, show_type

Adjustment = Literal["cuped", "lin"]


@dataclass(frozen=True)
class Fraction:
    """The mean of one column over that of another; without `bottom` the mean itself."""

    top: str
    bottom: str | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it is made of."""
        return (self.top,) if self.bottom is None else (self.top, self.bottom)


@dataclass(frozen=True)
class Mean:
    """The mean of a column of numbers.

    Parameters
    ----------
    column : str
    adjust : str or sequence of str
        Columns known before the experiment, which explain part of the variance.
    method : {"cuped", "lin"}
        How they are used. ``cuped`` [1]_ subtracts θ (x - its mean), with one θ for all arms; ``lin`` [2]_ fits a
        line in each arm, reads it at the mean of all arms, and has HC2 errors, for one more pass.
    name : str, optional
        Default: the column's.

    References
    ----------
    .. [1] Deng, Xu, Kohavi, Walker: Improving the sensitivity of online controlled experiments by utilizing
       pre-experiment data, WSDM 2013, § 3.2.
    .. [2] Lin: Agnostic notes on regression adjustments to experimental data, Annals of Applied Statistics 2013.
    """

    column: str
    adjust: str | Sequence[str] = ()
    method: Adjustment = "cuped"
    name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "adjust", _names(self.adjust))
        object.__setattr__(self, "name", self.name or self.column)
        if self.method not in ("cuped", "lin"):
            raise ConfigError(f"no method {self.method!r}", self.name, '"cuped" or "lin"')
        if self.column in self.adjust:
            raise ConfigError(f"{self.column} is adjusted by itself", self.name, "by what was known before")
        if self.method == "lin" and not self.adjust:
            raise ConfigError("there is nothing to adjust by", self.name, 'adjust="column", known before')

    @property
    def fraction(self) -> Fraction:
        """What is estimated."""
        return Fraction(self.column)

    @property
    def covariates(self) -> tuple[Fraction, ...]:
        """What it is adjusted by."""
        return tuple(Fraction(name) for name in self.adjust)


@dataclass(frozen=True)
class Conversion(Mean):
    """The share of rows in which a column is true, or 1 and not 0: a `Mean` whose values are checked."""


@dataclass(frozen=True)
class Ratio:
    """The sum of one column over the sum of another, as clicks over views: a row counts by its denominator.

    Its variance is that of the delta method [1]_; a covariate is used as in CUPED, by the linear parts of both ratios.

    Parameters
    ----------
    numerator, denominator : str
    adjust : (str, str), optional
        Numerator and denominator of a ratio known before the experiment.
    name : str, optional
        Default: ``numerator / denominator``.

    References
    ----------
    .. [1] Deng, Knoblich, Lu: Applying the delta method in metric analytics, KDD 2018, § 3 and 4.
    """

    numerator: str
    denominator: str
    adjust: Sequence[str] = ()
    name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "adjust", _names(self.adjust))
        object.__setattr__(self, "name", self.name or f"{self.numerator} / {self.denominator}")
        if len(self.adjust) not in (0, 2):
            raise ConfigError("a ratio is adjusted by a ratio", self.name, 'adjust=("clicks_before", "views_before")')

    @property
    def fraction(self) -> Fraction:
        """What is estimated."""
        return Fraction(self.numerator, self.denominator)

    @property
    def covariates(self) -> tuple[Fraction, ...]:
        """What it is adjusted by."""
        return (Fraction(*self.adjust),) if self.adjust else ()


@dataclass(frozen=True)
class Quantile:
    """A quantile of a column: the smallest value that at least this share of the rows do not exceed, exactly.

    Parameters
    ----------
    column : str
    share : float
        In (0, 1): 0.99 for the 99th percentile.
    name : str, optional
        Default: ``column at share``.
    """

    column: str
    share: float = 0.5
    name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or f"{self.column} at {self.share:g}")
        if not 0 < self.share < 1:
            raise ConfigError(f"share is {self.share}", self.name, "between 0 and 1: 0.99 is the 99th percentile")


Averaged = Mean | Ratio
Metric = Averaged | Quantile


def columns_of(metric: Metric) -> tuple[str, ...]:
    """Return the columns of a metric, each once."""
    if isinstance(metric, Quantile):
        return (metric.column,)
    parts = (metric.fraction, *metric.covariates)
    return tuple(dict.fromkeys(name for part in parts for name in part.columns))


def check_metric(metric: Metric, schema: pa.Schema, where: str) -> None:
    """Raise ColumnNotFound or TypeMismatch where a column cannot be what a metric takes it for."""
    for name in columns_of(metric):
        if name not in schema.names:
            raise ColumnNotFound.of(name, schema.names, where)
        kind = schema.field(name).type
        if not is_number(kind) and not pa.types.is_boolean(kind):
            raise TypeMismatch(f"column {name!r} is {show_type(kind)}, not a number", where, "cast it, or count it")


def _names(given: str | Sequence[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(dict.fromkeys(given))
