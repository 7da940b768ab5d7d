"""Which column is a cause of which: a directed acyclic graph, and what can be read off it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, islice
from typing import TYPE_CHECKING, Any

from iceblink.causal.identification.arrows import Drawing, drawn
from iceblink.causal.identification.criteria import (
    adjustable,
    backdoor_sets,
    frontdoor_sets,
    instruments,
    optimal_set,
    without_effects,
)
from iceblink.causal.identification.identified import Identification
from iceblink.causal.identification.implications import Implications, Independence, checked
from iceblink.causal.identification.separators import Names, minimal_separators, separators
from iceblink.causal.late import nx
from iceblink.causal.passes import Missing
from iceblink.causal.whole import check_whole
from iceblink.errors import ConfigError, PlanError, nearest

if TYPE_CHECKING:
    from iceblink.dataset import Dataset

Edges = str | Iterable[tuple[str, str]] | Any


@dataclass(frozen=True, eq=False)
class Graph:
    """What is believed of causes: nodes are columns, an edge goes from a cause to what it changes.

    What is not drawn is the stronger belief: two nodes without an edge have no direct effect on each other, and two
    without a common ancestor nothing in common that is not drawn.

    Parameters
    ----------
    edges : str, iterable of (str, str), or networkx.DiGraph
        As text: ``coupon -> gmv; age -> coupon``, a statement a line or between semicolons, names with signs in double
        quotes. ``a <-> b`` are two with an unobserved common cause. DOT and dagitty's own notation can be read, where
        ``U [latent]`` marks what is unobserved; comments and looks are skipped, lists and blocks of nodes refused.
    unobserved : sequence of str
        Nodes that are no columns.

    Raises
    ------
    ConfigError
        `unobserved` is one text.
    PlanError
        The text draws no graph, something causes itself, or an unobserved node is not in it.
    """

    edges: Edges
    unobserved: Sequence[str] = ()

    def __post_init__(self) -> None:
        if isinstance(self.unobserved, str):
            raise ConfigError("unobserved is one text", "Graph", f"a list: [{self.unobserved!r}]")
        if not len(self.directed):
            raise PlanError("the graph has no nodes", "Graph", 'Graph("coupon -> gmv; age -> gmv")')
        if not nx.is_directed_acyclic_graph(self.directed):
            circle = [cause for cause, _ in nx.find_cycle(self.directed)]
            raise PlanError(
                f"{circle[0]!r} causes itself: {' -> '.join([*circle, circle[0]])}",
                "Graph",
                "what changes over time is a column for each time",
            )
        for name in self.unobserved:
            self._check(name)

    @cached_property
    def directed(self) -> Any:
        """It as a networkx.DiGraph, unobserved common causes of ``a <-> b`` as nodes ``U(a, b)``. Not to be changed."""
        drawing = self._drawing
        graph = nx.DiGraph()
        graph.add_nodes_from(drawing.nodes)
        graph.add_edges_from(drawing.edges)
        for pair in drawing.joined:
            graph.add_edges_from((_common(pair), node) for node in pair)
        return graph

    @property
    def nodes(self) -> tuple[str, ...]:
        return tuple(self.directed)

    @cached_property
    def observed(self) -> Names:
        """The nodes that are columns."""
        hidden = {*self.unobserved, *self._drawing.latent, *map(_common, self._drawing.joined)}
        return frozenset(self.nodes) - hidden

    def __repr__(self) -> str:
        """Return it as a text that draws it."""
        hidden = sorted(set(self.nodes) - self.observed)
        alone = [node for node in self.nodes if node in self.observed and not self.directed.degree(node)]
        latent = [f"{_quoted(node)} [latent]" for node in hidden]
        edges = [f"{_quoted(cause)} -> {_quoted(effect)}" for cause, effect in self.directed.edges]
        return "; ".join([*latent, *map(_quoted, alone), *edges])

    def separated(self, first: str | Iterable[str], second: str | Iterable[str], given: Iterable[str] = ()) -> bool:
        """Return whether two nodes, or sets of nodes, are d-separated given others [1]_.

        Then they are independent given these in whatever data the graph makes.

        Raises
        ------
        PlanError
            A name is not in the graph, or stands on two sides.

        References
        ----------
        .. [1] Pearl: Causality, 2009, definition 1.2.3.
        """
        sides = [{one} if isinstance(one, str) else set(one) for one in (first, second, given)]
        for name in set().union(*sides):
            self._check(name)
        if sum(map(len, sides)) != len(set().union(*sides)):
            raise PlanError("a node stands on two sides", f"separated({first!r}, {second!r}, {given!r})", "")
        return bool(nx.is_d_separator(self.directed, *sides))

    def identify(self, treatment: str, outcome: str, most: int = 20) -> Identification:
        """Say how the total effect of a treatment on an outcome can be estimated.

        Parameters
        ----------
        treatment, outcome : str
        most : int
            How many sets are listed of a kind.

        Raises
        ------
        PlanError
            A name is not in the graph, or unobserved; the treatment has no way to the outcome, so that the graph
            says that there is no effect.
        """
        where = f"the effect of {treatment} on {outcome}"
        for name in (treatment, outcome):
            self._check(name)
            if name not in self.observed:
                raise PlanError(f"{name!r} is unobserved", where, "both are to be columns")
        check_whole(where, most=most)
        if most < 1:
            raise ConfigError(f"most is {most}", where, "how many sets are listed: 1 or more")
        if treatment == outcome or not nx.has_path(self.directed, treatment, outcome):
            raise PlanError(
                f"there is no way from {treatment!r} to {outcome!r}", where, "then the graph says: no effect"
            )
        roles = (self.directed, treatment, outcome, self.observed)
        return Identification(
            treatment=treatment,
            outcome=outcome,
            backdoor=backdoor_sets(*roles, most),
            optimal=optimal_set(*roles),
            frontdoor=tuple(frontdoor_sets(*roles, most)),
            instruments=tuple(instruments(*roles, most)),
        )

    def backdoor_sets(self, treatment: str, outcome: str, most: int = 100) -> tuple[Names, ...]:
        """Return all backdoor sets, not only the minimal ones, in no order that means anything; at most some.

        Raises
        ------
        PlanError
            A name is not in the graph, or is both.
        """
        for name in (treatment, outcome):
            self._check(name)
        if treatment == outcome:
            raise PlanError(f"{treatment!r} is treatment and outcome", "backdoor_sets", "name two nodes")
        cut = without_effects(self.directed, treatment)
        allowed = adjustable(self.directed, treatment, outcome, self.observed)
        return tuple(islice(separators(cut, treatment, outcome, allowed), most))

    def implications(self) -> tuple[Independence, ...]:
        """Return what the graph says that data can contradict: for each pair without an edge what separates it.

        Pairs that nothing observed separates are not among them.
        """
        found = []
        for first, second in combinations(sorted(self.observed), 2):
            if self.directed.has_edge(first, second) or self.directed.has_edge(second, first):
                continue
            allowed = self.observed - {first, second}
            sets = islice(minimal_separators(self.directed, first, second, allowed), 20)
            smallest = min(sets, key=lambda one: (len(one), sorted(one)), default=None)
            if smallest is not None:
                found.append(Independence(first, second, smallest))
        return tuple(found)

    def check(self, data: Dataset, level: float = 0.05, missing: Missing = "raise") -> Implications:
        """Hold what the graph implies against data, by partial correlations. Eager: one scan.

        Parameters
        ----------
        data : Dataset
            With a column of numbers for each observed node.
        level : float
            The chance, of all tests together, that a true graph is contradicted (Holm).
        missing : {"raise", "drop"}

        Raises
        ------
        ColumnNotFound, TypeMismatch, QueryError
        PlanError
            The graph implies nothing, or there are too few rows.
        """
        return checked(self.implications(), data, level, missing)

    @cached_property
    def _drawing(self) -> Drawing:
        if isinstance(self.edges, str):
            return drawn(self.edges)
        if isinstance(self.edges, nx.Graph):
            if not self.edges.is_directed():
                raise PlanError("the graph is not directed", "Graph", "causes need a networkx.DiGraph")
            return Drawing(
                tuple(map(str, self.edges)), tuple((str(a), str(b)) for a, b, *_ in self.edges.edges), (), ()
            )
        pairs = [tuple(edge) for edge in self.edges]
        for pair in pairs:
            if len(pair) != 2 or not all(isinstance(name, str) for name in pair):
                raise PlanError(f"{pair!r} is no edge", "Graph", 'a cause and what it changes: ("age", "gmv")')
        return Drawing(tuple(dict.fromkeys(name for pair in pairs for name in pair)), tuple(pairs), (), ())

    def _check(self, name: str) -> None:
        if name not in self.directed:
            raise PlanError(f"the graph has no {name!r}", "Graph", nearest(name, self.nodes, "nodes"))


def _quoted(name: str) -> str:
    return name if name.isidentifier() else f'"{name}"'


def _common(pair: tuple[str, str]) -> str:
    return f"U({', '.join(pair)})"
