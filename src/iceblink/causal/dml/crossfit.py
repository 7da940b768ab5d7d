"""What all estimators of double machine learning ask of their user, and how they come by their nuisances."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from iceblink.causal.constant import check_columns_vary
from iceblink.causal.dml.repeats import Groupings, check_repeats, folds_of
from iceblink.causal.formula import Formula, Terms, Variable, as_sql, explained, mentions
from iceblink.causal.matrix import Matrix, can_be_number
from iceblink.causal.models.fitted import Model
from iceblink.causal.models.target import Target
from iceblink.causal.models.task import Task
from iceblink.causal.passes import Folds, Grouping, Missing, check_differ, check_missing, several
from iceblink.causal.provenance import Provenance
from iceblink.causal.regression.design import Design, complete, quoted
from iceblink.causal.whole import check_whole_fields
from iceblink.errors import ColumnNotFound, ConfigError, PlanError, TypeMismatch
from iceblink.types import show_type

if TYPE_CHECKING:
    from iceblink.dataset import Dataset

Asked = list[tuple[Model, Target]]
"""Nuisances: what is to be learnt, and by which model."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """A dataset whose columns are checked.

    Parameters
    ----------
    data : Dataset
        With a column for each expression.
    task : Task
        Features and folds of the nuisances, without targets.
    folds : tuple of Grouping
        Of each repeat; those of the task are the first.
    """

    data: Dataset
    task: Task
    folds: tuple[Grouping, ...]

    def repeats(self) -> Iterator[Prepared]:
        """Yield it with the folds of each repeat."""
        for folds in self.folds:
            yield replace(self, task=replace(self.task, folds=folds))


@dataclass(frozen=True)
class CrossFit:
    """Roles of columns, and folds; what `PLR` says of these parameters is true of all.

    Parameters
    ----------
    outcome, treatment : str
    confounders : str or sequence of str
    key : str or sequence of str
    folds : int
    seed : int
    cluster : str or sequence of str, optional
    missing : {"raise", "drop"}
    repeats : int
    """

    outcome: str
    treatment: str
    confounders: str | Sequence[str]
    key: str | Sequence[str]
    folds: int = field(default=5, kw_only=True)
    seed: int = field(default=0, kw_only=True)
    cluster: str | Sequence[str] | None = field(default=None, kw_only=True)
    missing: Missing = field(default="raise", kw_only=True)
    repeats: int = field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        name = type(self).__name__
        check_whole_fields(self, name)
        if self.folds < 2:
            raise ConfigError(f"folds is {self.folds}", name, "two or more: a model is judged by rows it has not seen")
        if not any((self.confounders, *self._more)):
            raise ConfigError("there are no confounders", name, "of a random treatment, compare means: OLS")
        check_repeats(self.repeats, name)
        check_missing(self.missing, name)
        check_differ(self.outcome, self.treatment, name)

    @property
    def title(self) -> str:
        return f"{type(self).__name__} of {self.outcome} by {self.treatment}"

    @property
    def _clusters(self) -> tuple[str, ...]:
        return () if self.cluster is None else several(self.cluster)

    @property
    def _more(self) -> tuple[str | Sequence[str], ...]:
        """Terms that are features of the nuisances beside the confounders."""
        return ()

    @property
    def _roles(self) -> tuple[str, ...]:
        """Columns that no feature may be, and that have to be there."""
        return (self.treatment,)

    @property
    def _by_degrees(self) -> bool:
        """Whether the treatment is a number, instead of one of a few values."""
        return True

    def _prepared(self, data: Dataset, grouping: Groupings | None) -> Prepared:
        """Check columns, and make features of the confounders.

        Raises
        ------
        ColumnNotFound, TypeMismatch, SqlError
        ConfigError
            Not as many groupings are given as there are repeats.
        PlanError
            A term cannot be read, the outcome or the treatment is a confounder, or the outcome does not vary.
        """
        names = data.schema.names
        own = Folds.by(self._clusters or self.key, self.folds, self.seed)
        folds = folds_of(own, self.repeats, grouping, self.title)
        keys = () if grouping else several(self.key)  # looked for even where clusters decide the folds
        expected = (self.outcome,) if self.outcome.isidentifier() else ()  # else it is an expression
        for name in (*expected, *self._roles, *self._clusters, *keys, *(one for by in folds for one in by.inputs)):
            if name not in names:
                raise ColumnNotFound.of(name, names, self.title)
        if self._by_degrees and not can_be_number(kind := data.schema.field(self.treatment).type):
            what = f"the treatment {self.treatment!r} is {show_type(kind)}, not a number"
            raise TypeMismatch(what, self.title, "of a few values: IRM, or LinearDML(discrete=True)")
        sides = (self.confounders, *self._more)
        terms = tuple(dict.fromkeys(term for side in sides for term in terms_of(side, names, self.title)))
        outcome = Variable(self.outcome, True) if self.outcome in names else Variable(as_sql(self.outcome), False)
        roles = ((outcome, "outcome"), *((Variable(name, True), "treatment or the instrument") for name in self._roles))
        for variable, role in roles:
            if mentions(terms, variable):
                raise PlanError(f"the {role} {variable.text!r} is among the confounders", self.title, "leave it out")
        design = self._design(data, terms)
        found, features = design.data, Matrix(design.matrix.terms[1:])
        if self.missing == "drop":
            found = complete(found, (*design.matrix.inputs, *self._roles, *self._clusters))
        check_columns_vary(found, {self.outcome: "there is nothing to explain"}, self.title)
        return Prepared(found, Task(features, (), folds[0], self.title), folds)

    def _design(self, data: Dataset, terms: Terms) -> Design:
        """Bring some terms and a dataset together, with a column for an outcome that is an expression."""
        if self.outcome not in data.schema.names:
            data = data.sql(f"SELECT *, {as_sql(self.outcome)} AS {quoted(self.outcome)} FROM this")
        return Design.of(data, Formula(Variable(self.outcome, True), terms, True), self.title)

    def _facts(self, prepared: Prepared, **more: object) -> dict[str, object]:
        return more if isinstance(prepared.task.folds, Folds) else {"folds": "given", **more}

    def _provenance(self, prepared: Prepared) -> Provenance:
        """Return where estimates come from; folds that were given have no seed."""
        folds = prepared.task.folds
        if isinstance(folds, Folds):
            return Provenance.of(prepared.data, folds=folds.count, seed=folds.seed)
        return Provenance.of(prepared.data)


def terms_of(side: str | Sequence[str], names: Sequence[str], where: str) -> Terms:
    """Read terms as of `OLS`: a column, ``age + I(age ** 2)``, or a list of either.

    Raises
    ------
    PlanError
    """
    if not side:
        return ()
    formula = explained("y", side, names)
    if formula.absorbed or formula.instruments or not formula.terms:
        raise PlanError("confounders are terms, with neither bars nor tildes", where, "age + i(race)")
    return formula.terms
