"""What is asked of an observational study: which column plays which role."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from iceblink.causal.formula import Formula, Levels, Terms, Variable, explained, mentions
from iceblink.causal.observational.balance import Balance
from iceblink.causal.observational.study import Study
from iceblink.causal.passes import Missing, check_differ, check_missing
from iceblink.errors import ColumnNotFound, PlanError

if TYPE_CHECKING:
    from iceblink.dataset import Dataset

Side = str | Sequence[str]


@dataclass(frozen=True, eq=False)
class Problem:
    """Whose outcome, under which treatments, given which confounders.

    What estimators say of it is causal if, given the confounders, who is treated does not depend on what would become
    of them (no unmeasured confounder), if everybody could have had each treatment (overlap, of which `Propensity`
    reports), and if nobody's outcome depends on the treatment of others [1]_. No number can show the first.

    Lazy: names and formulas are checked here; `study`, which all estimators share, reads the data.

    Parameters
    ----------
    data : Dataset
    outcome : str
        A column of numbers, or an SQL expression.
    treatment : str
        A column of two values or a few: numbers, texts, true and false.
    confounders : str or sequence of str
        Terms as of `OLS`: ``age + I(age ** 2) + i(race)``, or a list of them.
    control : value of the treatment, optional
        What others are compared with. Default: the smallest value.
    treatment_model, outcome_model : str or sequence of str, optional
        Terms of either model, where it is not to have all confounders, or more than these.
    interactions : str or sequence of str, optional
        Terms of the model of the outcome whose slopes differ between arms: it is then one regression of all rows on the
        treatment, its terms, and products of these with the treatment, as in textbooks [2]_; ``()`` for no products.
        Default: all terms, so that each arm has a model of its own.
    weight : str, optional
        A column of sampling weights.
    cluster : str or sequence of str, optional
        Columns by which rows belong together; standard errors allow for it, with the factor G / (G - 1) of G clusters,
        and tests and intervals are t of G - 1 degrees of freedom.
    missing : {"raise", "drop"}
        What to do about rows that lack a value in any of these columns.

    Raises
    ------
    ColumnNotFound
    PlanError
        A formula cannot be read, the outcome or the treatment is among the confounders, or an interaction is no term
        of the model of the outcome.

    References
    ----------
    .. [1] Imbens, Rubin: Causal Inference for Statistics, Social, and Biomedical Sciences, 2015, chapters 1, 3 and 12.
    """

    data: Dataset
    outcome: str
    treatment: str
    confounders: Side
    control: object = None
    treatment_model: Side | None = None
    outcome_model: Side | None = None
    weight: str | None = None
    cluster: str | Sequence[str] | None = None
    missing: Missing = "raise"
    interactions: Side | None = None

    def __post_init__(self) -> None:
        names = self.data.schema.names
        for name in (self.treatment, *self._clusters, *((self.weight,) if self.weight else ())):
            if name not in names:
                raise ColumnNotFound.of(name, names, str(self))
        check_missing(self.missing, str(self))
        check_differ(self.outcome, self.treatment, str(self))
        for formula in self._formulas:
            if formula.absorbed or formula.instruments or not formula.terms:
                raise PlanError("confounders are terms, with neither bars nor tildes", str(self), "age + i(race)")
            if mentions(formula.terms, Variable(self.treatment, True)):
                raise PlanError(f"the treatment {self.treatment!r} is among its confounders", str(self), "leave it out")
            if mentions(formula.terms, formula.outcome):
                raise PlanError(
                    f"the outcome {self.outcome!r} is among the confounders", str(self), "what comes after is no cause"
                )

        model = self._formulas[2].terms
        for term in self._interactions or ():
            if term not in model:
                text = ":".join(factor.column if isinstance(factor, Levels) else factor.text for factor in term)
                raise PlanError(
                    f"the interaction {text!r} is no term of the model of the outcome",
                    str(self),
                    "name a term as it stands there: the treatment is multiplied with it",
                )

    def __repr__(self) -> str:
        return f"{self.outcome} by {self.treatment}"

    @cached_property
    def study(self) -> Study:
        """Its rows. Eager: two passes, done once for all estimators; raises what `Study.of` raises."""
        outcome, *_ = self._formulas
        sides = [formula.terms for formula in self._formulas]
        if self._interactions is not None:
            sides.append(self._interactions)
        return Study.of(
            self.data,
            outcome,
            sides,
            self.treatment,
            self.control,
            self.weight,
            self._clusters,
            self.missing,
            str(self),
        )

    def balance(self) -> Balance:
        """Compare the confounders of the arms as they are. Eager: reads nothing more than `study` has."""
        return Balance.of(self.study, str(self))

    @cached_property
    def _clusters(self) -> tuple[str, ...]:
        if self.cluster is None:
            return ()
        return (self.cluster,) if isinstance(self.cluster, str) else tuple(self.cluster)

    @cached_property
    def _formulas(self) -> tuple[Formula, Formula, Formula]:
        """The confounders, the model of the treatment and that of the outcome."""
        sides = [self.confounders, self.treatment_model, self.outcome_model]
        columns = self.data.schema.names
        every, treatment, outcome = (
            explained(self.outcome, self.confounders if side is None else side, columns) for side in sides
        )
        return every, treatment, outcome

    @cached_property
    def _interactions(self) -> Terms | None:
        if self.interactions is None:
            return None
        return explained(self.outcome, self.interactions, self.data.schema.names).terms if self.interactions else ()
