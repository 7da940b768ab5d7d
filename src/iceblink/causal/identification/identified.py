"""How an effect can be estimated, in words, as sets of columns, and as what estimators take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from iceblink.causal.identification.criteria import Instrument, shown
from iceblink.causal.identification.front_door import FrontDoor
from iceblink.causal.identification.separators import Names
from iceblink.causal.observational.problem import Problem
from iceblink.causal.regression.two_stage import TwoStage
from iceblink.errors import PlanError

if TYPE_CHECKING:
    from iceblink.dataset import Dataset


@dataclass(frozen=True)
class Identification:
    """What a graph says of how an effect can be estimated.

    Parameters
    ----------
    treatment, outcome : str
    backdoor : tuple of frozenset of str
        The minimal sets of confounders, small ones first. An empty set: nothing confounds.
    optimal : frozenset of str or None
        The set of confounders with the least variance; None where one of them is unobserved.
    frontdoor : tuple of frozenset of str
        The minimal sets of mediators.
    instruments : tuple of Instrument
    """

    treatment: str
    outcome: str
    backdoor: tuple[Names, ...]
    optimal: Names | None
    frontdoor: tuple[Names, ...]
    instruments: tuple[Instrument, ...]

    @property
    def identified(self) -> bool:
        """Whether the effect follows from the graph by a backdoor or a frontdoor, without a model of either side.

        Instruments need one more belief: a linear effect, or a treatment that they only move one way.
        """
        return bool(self.backdoor or self.frontdoor)

    @property
    def confounders(self) -> list[str]:
        """The columns to adjust for: the optimal set, or else the smallest.

        Raises
        ------
        PlanError
            No set of observed columns will do.
        """
        chosen = self.optimal if self.optimal is not None else next(iter(self.backdoor), None)
        if chosen is None:
            raise PlanError("no observed columns close every back door", self._title, self._instead())
        return sorted(chosen)

    def problem(self, data: Dataset, **roles: Any) -> Problem:
        """Return the observational study with these confounders. Lazy.

        Parameters
        ----------
        data : Dataset
        **roles
            What else `Problem` takes; ``confounders`` if it is to be another set.

        Raises
        ------
        PlanError
            There is no backdoor set, or nothing confounds. Also what `Problem` raises.
        """
        chosen = roles.pop("confounders", None) or self.confounders
        if not chosen:
            raise PlanError(
                "nothing confounds", self._title, f"compare means: OLS('{self.outcome} ~ {self.treatment}')"
            )
        return Problem(data, self.outcome, self.treatment, chosen, **roles)

    def two_stage(self, instrument: str | None = None, **options: Any) -> TwoStage:
        """Return two-stage least squares by an instrument, with the columns that it needs to be given.

        Parameters
        ----------
        instrument : str, optional
            One of `instruments`. Default: the first that needs the fewest others.
        **options
            What else `TwoStage` takes.

        Raises
        ------
        PlanError
            There is no instrument, or none of this name.
        """
        wanted = [one for one in self.instruments if instrument in (None, one.name)]
        if not wanted:
            names = ", ".join(one.name for one in self.instruments) or "none"
            raise PlanError(f"{instrument or 'nothing'} is no instrument", self._title, f"instruments: {names}")
        chosen = min(wanted, key=lambda one: len(one.given))
        given = " + ".join(map(_term, sorted(chosen.given))) or "1"
        formula = f"{_term(self.outcome)} ~ {given} | {_term(self.treatment)} ~ {_term(chosen.name)}"
        return TwoStage(formula, **options)

    def front_door(self, **options: Any) -> FrontDoor:
        """Return the linear frontdoor estimator by the smallest set of mediators.

        Raises
        ------
        PlanError
            There is none.
        """
        if not self.frontdoor:
            raise PlanError("no observed mediators are a frontdoor", self._title, self._instead())
        return FrontDoor(self.outcome, self.treatment, sorted(self.frontdoor[0]), **options)

    def summary(self) -> str:
        """Return it in words."""
        lines = [self._title]
        if self.backdoor:
            lines.append(f"  adjust for      {' or '.join(map(shown, self.backdoor))}")
            lines.append(f"  optimal         {'partly unobserved' if self.optimal is None else shown(self.optimal)}")
        else:
            lines.append("  adjust for      no observed columns close every back door")
        if self.frontdoor:
            lines.append(f"  by mediators    {' or '.join(map(shown, self.frontdoor))}")
        if self.instruments:
            lines.append(f"  by instruments  {' or '.join(map(str, self.instruments))}")
        if not (self.identified or self.instruments):
            lines.append("  not identified by a backdoor, by a frontdoor of up to three mediators, or by instruments")
        return "\n".join(lines)

    __repr__ = summary

    @property
    def _title(self) -> str:
        return f"the effect of {self.treatment} on {self.outcome}"

    def _instead(self) -> str:
        ways = {
            "two_stage()": self.instruments,
            "front_door()": self.frontdoor,
            "problem(data)": self.backdoor,
        }
        found = [way for way, sets in ways.items() if sets]
        return f"use {' or '.join(found)}" if found else "measure more, or doubt an edge"


def _term(name: str) -> str:
    """Return a column's name as a formula has it."""
    return name if name.isidentifier() else f"`{name}`"
