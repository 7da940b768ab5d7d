"""EconML's words for what fits into memory: ``fit(Y, T, X=None, W=None)`` and ``effect(X)``, on any estimator here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from inspect import signature
from numbers import Real
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
import pyarrow as pa

from iceblink.causal.distributions import t_quantile
from iceblink.causal.estimates import Estimates
from iceblink.causal.moments import Floats
from iceblink.errors import ColumnNotFound, ConfigError, PlanError, QueryError
from iceblink.lake.catalog import Catalog
from iceblink.lakehouse import Lake
from iceblink.run.local_engine import LocalEngine
from iceblink.run.session import Session

if TYPE_CHECKING:
    from iceblink.dataset import Dataset

WHERE = "OnArrays"


@dataclass(frozen=True)
class Roles:
    """How the columns are called that arrays became: by their own names where they have some.

    Parameters
    ----------
    outcome, treatment : str
        Else ``y`` and ``t``.
    modifiers, confounders : tuple of str
        Of X and of W; else ``x0``, ``x1``... and ``w0``, ``w1``...
    key : str
        The number of a row, which decides its fold.
    """

    outcome: str
    treatment: str
    modifiers: tuple[str, ...]
    confounders: tuple[str, ...]
    key: str

    @property
    def controls(self) -> tuple[str, ...]:
        """Modifiers and confounders."""
        return (*self.modifiers, *self.confounders)


class Estimator(Protocol):
    """What is fitted to a dataset."""

    def fit(self, data: Dataset) -> Any:
        """Return what it found."""


class OnArrays:
    """An estimator that takes arrays or data frames instead of a dataset with names.

    For code that was written for EconML, and for what is in memory anyway: rows are in this process, as a dataset in
    memory. Results are those of the estimator, whose conventions hold.

    Parameters
    ----------
    estimator : class or callable
        A class of estimators, as `LinearDML`, whose parameters have the names of roles: outcome, treatment, key if
        there is one, modifiers or features (X) and confounders (W); without the former, confounders are both. Or what
        makes an estimator of `Roles`: ``lambda c: ci.OLS(f"{c.outcome} ~ {c.treatment}")``.
    lake : Lake, optional
        On whose engine it runs. Default: one of its own, without any files.
    **settings
        Other parameters of the class, or of the callable: ``folds=3``.
    """

    def __init__(self, estimator: Callable[..., Estimator], lake: Lake | None = None, **settings: Any) -> None:
        self.estimator = estimator
        self.settings = settings
        self._given = lake
        self._fitted: tuple[Roles, Any] | None = None

    def fit(self, Y: Any, T: Any, X: Any = None, W: Any = None) -> Self:
        """Estimate. Eager.

        Parameters
        ----------
        Y, T : array (n,) or (n, 1), Series, or frame of one column
            Outcome and treatment.
        X, W : array (n, p) or (n,), or frame, optional
            What effects may differ by, and what else is controlled for.

        Raises
        ------
        PlanError
            Numbers of rows differ, there are none, or two columns have one name.
        ConfigError
            The estimator's class has no parameter for one of these, or the settings are not its own.
        IceblinkError
            What the estimator raises.
        """
        parts = [_columns(values, prefix) for values, prefix in ((Y, "y"), (T, "t"), (X, "x"), (W, "w"))]
        for part, what in zip(parts, ("Y", "T"), strict=False):
            if len(part) != 1:
                raise PlanError(f"{what} has {len(part)} columns", WHERE, "one: fit several one after the other")
        (outcome,), (treatment,), modifiers, confounders = map(tuple, parts)
        names = [name for part in parts for name in part]
        _check_names(names)
        key = _free("row", names)
        table = _table({name: column for part in parts for name, column in part.items()}, key)
        roles = Roles(outcome, treatment, modifiers, confounders, key)
        self._fitted = roles, self._estimator(roles).fit(self._lake.from_arrow(table))
        return self

    @property
    def roles(self) -> Roles:
        """What the columns are called. Raises ConfigError before `fit`."""
        return self._found[0]

    @property
    def result(self) -> Any:
        """What the estimator found: its result, by names. Raises ConfigError before `fit`."""
        return self._found[1]

    def effect(self, X: Any = None, T0: float = 0.0, T1: float = 1.0) -> Floats:
        """Return the effect (m,) on rows of a treatment T1 instead of T0; without X one number (1,).

        Parameters
        ----------
        X : array (m, p) or frame, optional
            Columns as those of `fit`; a frame's are found by their names.
        T0, T1 : float
            Of a treatment of arms the effect is that of one instead of the control, and these stay 0 and 1.

        Raises
        ------
        ConfigError
            It was not fitted, the estimator knows no effect of rows, T0 or T1 is no number, or they are others than 0
            and 1 of a treatment of arms.
        PlanError, ColumnNotFound
            X is not as it was in `fit`.
        """
        return self._degrees(T0, T1) * self._of_rows(X)[0]

    def const_marginal_effect(self, X: Any = None) -> Floats:
        """Return the effect (m,) of one more of the treatment; raises as `effect` does."""
        return self.effect(X)

    def ate(self, X: Any = None, T0: float = 0.0, T1: float = 1.0) -> float:
        """Return the mean effect on rows; raises as `effect` does."""
        return float(self.effect(X, T0, T1).mean())

    def effect_interval(
        self, X: Any = None, T0: float = 0.0, T1: float = 1.0, alpha: float = 0.05
    ) -> tuple[Floats, Floats]:
        """Return the bounds, each (m,), of intervals that hold the effect on a row with a probability of 1 - alpha.

        Of the normal distribution, or of Student's t with the degrees of freedom of a result that has them. Raises as
        `effect` does, and ConfigError where the estimator knows no standard errors.
        """
        degrees = self._degrees(T0, T1)
        values, errors = self._of_rows(X, errors=True)
        freedom = getattr(self.result, "freedom", np.inf)
        reach = t_quantile(1 - alpha / 2, freedom) * errors * abs(degrees)
        return degrees * values - reach, degrees * values + reach

    def summary(self) -> str:
        """Return the result's table. Raises ConfigError before `fit`."""
        return str(self.result.summary())

    def _estimator(self, roles: Roles) -> Estimator:
        if not isinstance(self.estimator, type):
            self._check_settings(roles)
            return self.estimator(roles, **self.settings)
        known, name = signature(self.estimator).parameters, self.estimator.__name__
        differing = next((one for one in ("modifiers", "features") if one in known), None)
        named: dict[str, Any] = {"outcome": roles.outcome, "treatment": roles.treatment}
        if differing is None:
            named["confounders"] = roles.controls
        else:
            named[differing] = roles.modifiers
            named |= {"confounders": roles.confounders} if roles.confounders or "confounders" in known else {}
        named |= {"key": roles.key} if "key" in known else {}
        if unknown := next((one for one in named if one not in known), None):
            raise ConfigError(f"{name} has no parameter {unknown!r}", WHERE, "give a function of roles: lambda c: ...")
        if twice := next((one for one in self.settings if one in named), None):
            raise ConfigError(f"{twice} is set, and follows from the arrays", WHERE, "leave it out, or give a function")
        self._check_settings(**named)
        made: Estimator = self.estimator(**named, **self.settings)
        return made

    def _check_settings(self, *roles: Any, **named: Any) -> None:
        """Raise ConfigError where the estimator cannot be called with these and the settings."""
        try:
            signature(self.estimator).bind(*roles, **named, **self.settings)
        except TypeError as error:
            name = getattr(self.estimator, "__name__", "the function")
            raise ConfigError(f"{name}: {error}", WHERE, "look at its parameters") from error

    def _degrees(self, T0: Any, T1: Any) -> float:
        """Return by how many degrees a treatment changes."""
        for name, given in (("T0", T0), ("T1", T1)):
            if not isinstance(given, Real):
                raise ConfigError(f"{name} is {given!r}", WHERE, "a number; of a treatment of arms leave it out")
        arms = getattr(self.result, "arms", None)
        if arms not in (None, (self.roles.treatment,)) and (T0, T1) != (0, 1):
            raise ConfigError(
                f"T0 is {T0} and T1 {T1}, of a treatment of arms", WHERE, "leave both out: an arm against the control"
            )
        return float(T1 - T0)

    @cached_property
    def _lake(self) -> Lake:
        if self._given is not None:
            return self._given
        return Lake(Session(Catalog("arrays", {"type": "in-memory"}), LocalEngine()))  # which opens no catalog

    @property
    def _found(self) -> tuple[Roles, Any]:
        if self._fitted is None:
            raise ConfigError("nothing was fitted yet", WHERE, "fit(Y, T, X=..., W=...)")
        return self._fitted

    def _of_rows(self, X: Any, errors: bool = False) -> tuple[Floats, Floats]:
        """Return effects (m,) and their standard errors, these as zeros where they are not asked for."""
        roles, result = self._found
        words = _words(result)
        if "data" not in words:
            return self._constant(X)
        if errors and "error" not in words:
            raise ConfigError(f"{type(result).__name__} knows no standard errors of rows", WHERE, "take effect(X)")
        if X is None and roles.modifiers:
            raise PlanError("effects differ by X, and none is given", WHERE, "effect(X)")
        table = pa.table({roles.key: [0]}) if X is None else _table(self._modifiers(X), roles.key)
        names = [_free(name, table.column_names) for name in (("effect", "error") if errors else ("effect",))]
        scored = result.effect(self._lake.from_arrow(table), *names).to_arrow()
        if names[0] not in scored.column_names:
            raise ConfigError("the treatment has several effects", WHERE, "keep two arms, or look at its result")
        found = [np.asarray(scored[name].to_numpy(), np.float64) for name in names]
        return found[0], found[1] if errors else np.zeros(len(found[0]))

    def _modifiers(self, X: Any) -> dict[str, Any]:
        """Return the columns of X as they were in `fit`; where that had none, all rows have one effect."""
        columns, names = _columns(X, "x"), self.roles.modifiers
        return _like(columns, names) if names else columns

    def _constant(self, X: Any) -> tuple[Floats, Floats]:
        """Return the treatment's coefficient for each row (m,), and its standard error."""
        roles, result = self._found
        if not isinstance(result, Estimates) or roles.treatment not in result.names:
            raise ConfigError(f"{type(result).__name__} says no effect of a row", WHERE, "look at its result")
        rows = 1 if X is None else len(_table(self._modifiers(X), roles.key))
        return np.full(rows, result[roles.treatment]), np.full(rows, result.error(roles.treatment))


def _words(result: Any) -> tuple[str, ...]:
    """Return the parameters of a result's `effect`, which is of rows where the first is data."""
    effect = getattr(result, "effect", None)
    return tuple(signature(effect).parameters) if callable(effect) else ()


def _columns(values: Any, prefix: str) -> dict[str, Any]:
    """Return arrays (n,) by name: those of a frame, or of its series, else the prefix and a number."""
    if values is None:
        return {}
    if hasattr(values, "columns"):  # those of Arrow are the values
        names: Sequence[Any] = list(getattr(values, "column_names", values.columns))
        _check_names(list(map(str, names)))
        arrays = [np.asarray(values[name]) for name in names]
    else:
        array = np.asarray(values)
        if array.ndim not in (1, 2):
            raise PlanError(f"an array of {array.ndim} dimensions is no table", WHERE, "rows by columns")
        arrays = list((array if array.ndim == 2 else array[:, np.newaxis]).T)
        names = [getattr(values, "name", None)]
    if len(names) != len(arrays) or not all(isinstance(name, str) and name for name in names):
        single = prefix in ("y", "t") and len(arrays) == 1
        names = [prefix] if single else [f"{prefix}{at}" for at in range(len(arrays))]
    return dict(zip(names, arrays, strict=True))


def _check_names(names: Sequence[str]) -> None:
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise PlanError(f"two columns are called {twice!r}", WHERE, "rename one")


def _free(name: str, names: Sequence[str]) -> str:
    """Return a name that is none of some."""
    while name in names:
        name += "_"
    return name


def _like(columns: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Return columns by the names that they had in `fit`: theirs, or by their order where they have none."""
    if len(columns) > len(names):
        raise PlanError(f"X has {len(columns)} columns", WHERE, f"{len(names)} as in fit: {', '.join(names)}")
    if set(names) <= set(columns):
        return {name: columns[name] for name in names}
    if list(columns) == [f"x{at}" for at in range(len(names))]:
        return dict(zip(names, columns.values(), strict=True))
    missing = next(name for name in names if name not in columns)
    raise ColumnNotFound.of(missing, list(columns), WHERE)


def _table(columns: dict[str, Any], key: str) -> pa.Table:
    """Return columns beside the numbers of rows. Raises PlanError and QueryError."""
    sizes = {name: len(column) for name, column in columns.items()}
    if len(set(sizes.values())) > 1:
        raise PlanError("columns have different numbers of rows", WHERE, str(sizes))
    rows = next(iter(sizes.values()))
    if not rows:
        raise PlanError("there are no rows", WHERE, "look at the arrays")
    try:
        arrays = {name: pa.array(column, from_pandas=True) for name, column in columns.items()}
    except (pa.ArrowException, TypeError) as error:
        raise QueryError(str(error).splitlines()[0], WHERE, "give each column one type") from error
    return pa.table({**arrays, key: np.arange(rows)})
