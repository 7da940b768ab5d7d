"""By which columns an effect can be estimated, as a graph has it: backdoor, frontdoor, instruments."""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass
from itertools import combinations, islice
from typing import Any

from iceblink.causal.identification.separators import Names, minimal_separators
from iceblink.causal.late import nx

MOST_MEDIATORS = 3
"""Frontdoor sets are looked for up to this size."""


@dataclass(frozen=True)
class Instrument:
    """A column that changes the treatment, and the outcome only by it, given others.

    Parameters
    ----------
    name : str
    given : frozenset of str
    """

    name: str
    given: Names

    def __str__(self) -> str:
        return f"{self.name} given {shown(self.given)}" if self.given else self.name


def shown(names: Set[str]) -> str:
    """Return a set as people write it."""
    return f"{{{', '.join(sorted(names))}}}"


def without_effects(directed: Any, *nodes: str) -> Any:
    """Return a graph without the edges that go out of some nodes."""
    cut = directed.copy()
    cut.remove_edges_from([edge for node in nodes for edge in directed.out_edges(node)])
    return cut


def adjustable(directed: Any, treatment: str, outcome: str, observed: Set[str]) -> Names:
    """Return the nodes that may be in a backdoor set: observed, and not changed by the treatment."""
    return frozenset(observed - {treatment, outcome} - nx.descendants(directed, treatment))


def is_backdoor(directed: Any, treatment: str, outcome: str, observed: Set[str], names: Set[str]) -> bool:
    """Return whether a set fulfils the backdoor criterion [1]_.

    References
    ----------
    .. [1] Pearl: Causality, 2009, definition 3.3.1.
    """
    fit = names <= adjustable(directed, treatment, outcome, observed)
    return fit and nx.is_d_separator(without_effects(directed, treatment), {treatment}, {outcome}, set(names))


def backdoor_sets(directed: Any, treatment: str, outcome: str, observed: Set[str], most: int) -> tuple[Names, ...]:
    """Return the minimal backdoor sets, small ones first, at most some."""
    cut, allowed = without_effects(directed, treatment), adjustable(directed, treatment, outcome, observed)
    found = islice(minimal_separators(cut, treatment, outcome, allowed), most)
    return tuple(sorted(found, key=lambda one: (len(one), sorted(one))))


def optimal_set(directed: Any, treatment: str, outcome: str, observed: Set[str]) -> Names | None:
    """Return the backdoor set by which a linear model's effect has the least asymptotic variance [1]_.

    The parents of all that lies on the way from the treatment to the outcome, without what the treatment changes: no
    other backdoor set is better, whatever the coefficients. None where one of them is unobserved.

    References
    ----------
    .. [1] Henckel, Perković, Maathuis: Graphical criteria for efficient total effect estimation via adjustment in
       causal linear models, JRSS B 2022, definition 3.12 and theorem 3.13.
    """
    between = nx.descendants(directed, treatment) & (nx.ancestors(directed, outcome) | {outcome})
    forbidden = {treatment, *between}.union(*(nx.descendants(directed, node) for node in between))
    found = frozenset(parent for node in between for parent in directed.predecessors(node)) - forbidden
    return found if is_backdoor(directed, treatment, outcome, observed, found) else None


def frontdoor_sets(directed: Any, treatment: str, outcome: str, observed: Set[str], most: int) -> Iterator[Names]:
    """Yield the minimal frontdoor sets [1]_ of up to three nodes, small ones first, at most some.

    References
    ----------
    .. [1] Pearl: Causality, 2009, definition 3.3.3.
    """
    cut = without_effects(directed, treatment)
    free = [
        node for node in sorted(observed - {treatment, outcome}) if nx.is_d_separator(cut, {treatment}, {node}, set())
    ]
    found: list[Names] = []
    for size in range(1, MOST_MEDIATORS + 1):
        for chosen in combinations(free, size):
            names = frozenset(chosen)
            if any(smaller <= names for smaller in found):
                continue
            rest = directed.subgraph(set(directed) - names)
            if nx.has_path(rest, treatment, outcome):
                continue
            if nx.is_d_separator(without_effects(directed, *chosen), set(chosen), {outcome}, {treatment}):
                found.append(names)
                yield names
                if len(found) == most:
                    return


def instruments(directed: Any, treatment: str, outcome: str, observed: Set[str], most: int) -> Iterator[Instrument]:
    """Yield the instruments, each with the smallest set that it needs to be given of the first `most` found [1]_.

    Given a set without anything that the treatment changes, an instrument is connected with the treatment, and
    separated from the outcome when the treatment has no effects. Sets of ancestors only are tried.

    References
    ----------
    .. [1] Brito, Pearl: Generalized instrumental variables, UAI 2002, definition 1; van der Zander, Textor,
       Liśkiewicz: Efficiently finding conditional instruments for causal inference, IJCAI 2015.
    """
    cut, allowed = without_effects(directed, treatment), adjustable(directed, treatment, outcome, observed)
    for name in sorted(allowed):
        sets = islice(minimal_separators(cut, name, outcome, allowed - {name}), most)
        valid = [given for given in sets if not nx.is_d_separator(directed, {name}, {treatment}, set(given))]
        if valid:
            yield Instrument(name, min(valid, key=lambda one: (len(one), sorted(one))))
