"""What all learners are told: which column is the outcome, the treatment, a feature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from numbers import Real
from typing import TYPE_CHECKING

from iceblink.causal.constant import check_columns_vary
from iceblink.causal.formula import Formula, Terms, Variable, explained, mentions
from iceblink.causal.learners.propensity import Assignment, Chances, ModelledChances, known
from iceblink.causal.learners.setting import Setting
from iceblink.causal.matrix import Matrix, Number
from iceblink.causal.models.fitted import Fitted, Model
from iceblink.causal.models.target import Target
from iceblink.causal.observational.study import arms_of, membership
from iceblink.causal.passes import Grouping, Missing, check_differ, check_missing
from iceblink.causal.regression.design import Design, complete
from iceblink.errors import ColumnNotFound, ConfigError, PlanError

if TYPE_CHECKING:
    from iceblink.dataset import Dataset


@dataclass(frozen=True)
class Learner:
    """The roles of columns; each learner documents them."""

    outcome: str
    treatment: str
    features: str | Sequence[str]
    _: KW_ONLY
    control: object = None
    missing: Missing = "raise"

    def __post_init__(self) -> None:
        if not self.features:
            raise ConfigError("there are no features", self.title, "without them there is one effect: OLS, or ABTest")
        check_missing(self.missing, self.title)
        check_differ(self.outcome, self.treatment, self.title)

    @property
    def title(self) -> str:
        """Which learner it is, of what."""
        return f"{type(self).__name__} of {self.outcome} by {self.treatment}"

    def setting(
        self, data: Dataset, chances: Sequence[str] = (), keys: Sequence[str] = (), clusters: Sequence[str] = ()
    ) -> Setting:
        """Check names and types, and count the arms. Eager: a pass over the treatment, and one for each category.

        Parameters
        ----------
        data : Dataset
        chances : sequence of str
            Columns of chances, which are numbers and may not be missing.
        keys : sequence of str
            Other columns that are needed.
        clusters : sequence of str
            Columns that may not be missing, of any type.

        Raises
        ------
        ColumnNotFound, TypeMismatch, SqlError
        PlanError
            The features are no terms, or have the outcome or the treatment among them; there are fewer than
            two arms, more than 20, or one has a single row.
        QueryError
            The treatment is missing in some rows.
        """
        names = data.schema.names
        for name in (self.outcome, self.treatment, *chances, *keys, *clusters):
            if name not in names:
                raise ColumnNotFound.of(name, names, self.title)
        for name in chances:
            Number(name).check(data.schema, f"{self.title}, propensity")
        terms = self._terms(data)
        design = Design.of(data, Formula(Variable(self.outcome, True), terms, True), self.title)
        data, features = design.data, Matrix(design.matrix.terms[1:])
        if self.missing == "drop":
            data = complete(data, (self.outcome, self.treatment, *features.inputs, *chances, *clusters))
        arms = arms_of(data, self.treatment, self.control, None, self.title)
        check_columns_vary(data, {self.outcome: "there is nothing to explain"}, self.title)
        return Setting(data, self.outcome, arms, terms, features, self.title)

    def nuisances(
        self,
        setting: Setting,
        outcomes: Sequence[tuple[Model, Target]],
        propensity: Assignment,
        folds: Grouping | None = None,
    ) -> tuple[tuple[Fitted, ...], Chances]:
        """Fit models of outcomes and of chances, those of equal models together. Eager.

        Raises
        ------
        ConfigError
            The propensity that is known is not one of all arms.
        QueryError, PlanError
            As of the models.
        """
        if isinstance(propensity, str | float | Real | Mapping):
            return setting.fit(outcomes, folds), known(propensity, setting.arms, self.title)
        *fits, chances = setting.fit([*outcomes, (propensity, membership(setting.arms))], folds)
        return tuple(fits), ModelledChances(chances)

    def _terms(self, data: Dataset) -> Terms:
        """Read the features."""
        formula = explained(self.outcome, self.features, data.schema.names)
        if formula.absorbed or formula.instruments or not formula.terms:
            raise PlanError("features are terms, with neither bars nor tildes", self.title, "age + i(city)")
        for role, column in (("outcome", self.outcome), ("treatment", self.treatment)):
            if mentions(formula.terms, Variable(column, True)):
                raise PlanError(f"the {role} {column!r} is among the features", self.title, "leave it out")
        return formula.terms
