"""What is read off a graph is what paths and populations say."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import combinations

import networkx as nx
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from iceblink import causal as ci
from iceblink.causal.identification.separators import minimal_separators, separators
from iceblink.errors import ConfigError, IceblinkError, PlanError

Floats = NDArray[np.float64]
NAMES = "abcdef"
FEW = 8  # of each property; 600 were tried by hand


@st.composite
def graphs(draw: st.DrawFn) -> ci.Graph:
    """Draw a graph of up to six nodes, of which up to two are unobserved."""
    size = draw(st.integers(3, 6))
    pairs = list(combinations(NAMES[:size], 2))
    chosen = [pair for pair in pairs if draw(st.booleans())]
    assume(chosen)
    order = draw(st.permutations(NAMES[:size]))
    named = dict(zip(NAMES, order, strict=False))
    edges = [(named[a], named[b]) for a, b in chosen]
    nodes = sorted({name for edge in edges for name in edge})
    return ci.Graph(edges, unobserved=draw(st.lists(st.sampled_from(nodes), max_size=2, unique=True)))


def connected(graph: nx.DiGraph, first: str, second: str, given: Collection[str]) -> bool:
    """Look at every path, as the definition of d-separation has it."""
    for path in nx.all_simple_paths(graph.to_undirected(), first, second):
        for before, node, after in zip(path, path[1:], path[2:], strict=False):
            if graph.has_edge(before, node) and graph.has_edge(after, node):
                if not ({node} | nx.descendants(graph, node)) & set(given):
                    break
            elif node in given:
                break
        else:
            return True
    return False


def subsets(names: Collection[str]) -> Iterator[frozenset[str]]:
    for size in range(len(names) + 1):
        yield from map(frozenset, combinations(sorted(names), size))


def cut(graph: nx.DiGraph, nodes: Collection[str]) -> nx.DiGraph:
    left = graph.copy()
    left.remove_edges_from([edge for edge in graph.edges if edge[0] in nodes])
    return left


def least(sets: Collection[frozenset[str]]) -> set[frozenset[str]]:
    return {one for one in sets if not any(other < one for other in sets)}


def effects(graph: ci.Graph) -> Iterator[tuple[str, str]]:
    """Yield each treatment with each outcome that it has a way to."""
    for treatment in sorted(graph.observed):
        for outcome in sorted(nx.descendants(graph.directed, treatment) & graph.observed):
            yield treatment, outcome


class Population:
    """A linear model of a graph with drawn coefficients: covariances, regressions and effects, without any rows."""

    def __init__(self, graph: nx.DiGraph, seed: int) -> None:
        draw = np.random.default_rng(seed)
        self.at = {name: at for at, name in enumerate(graph)}
        self.direct = np.zeros((len(graph), len(graph)))
        for cause, effect in graph.edges:
            self.direct[self.at[effect], self.at[cause]] = draw.choice([-1, 1]) * draw.uniform(0.5, 1.5)
        self.total = np.linalg.inv(np.eye(len(graph)) - self.direct)
        self.covariance = self.total * draw.uniform(0.5, 2, len(graph)) @ self.total.T

    def effect(self, cause: str, outcome: str) -> float:
        return float(self.total[self.at[outcome], self.at[cause]])

    def slopes(self, outcome: str, on: Collection[str]) -> tuple[Floats, float]:
        """Return the slopes of a regression, and what it leaves."""
        places, to = [self.at[name] for name in on], self.at[outcome]
        found = np.linalg.solve(self.covariance[np.ix_(places, places)], self.covariance[places, to])
        return found, float(self.covariance[to, to] - found @ self.covariance[places, to])


@given(graph=graphs())
@settings(max_examples=FEW)
def test_separation_is_that_of_all_paths(graph: ci.Graph) -> None:
    for first, second in combinations(graph.nodes, 2):
        for one in subsets(set(graph.nodes) - {first, second}):
            assert graph.separated(first, second, one) != connected(graph.directed, first, second, one)


@given(graph=graphs())
@settings(max_examples=FEW)
def test_every_separator_is_found_once(graph: ci.Graph) -> None:
    for first, second in combinations(graph.nodes, 2):
        allowed = graph.observed - {first, second}
        every = [one for one in subsets(allowed) if not connected(graph.directed, first, second, one)]
        found = list(separators(graph.directed, first, second, allowed))
        assert sorted(map(sorted, found)) == sorted(map(sorted, every))
        minimal = list(minimal_separators(graph.directed, first, second, allowed))
        assert len(minimal) == len(set(minimal))
        assert set(minimal) == least(every)


@given(graph=graphs(), seed=st.integers(0, 2**32))
@settings(max_examples=FEW)
def test_backdoor_sets_are_those_of_the_criterion_and_give_the_effect(graph: ci.Graph, seed: int) -> None:
    population = Population(graph.directed, seed)
    for treatment, outcome in effects(graph):
        allowed = graph.observed - {treatment, outcome} - nx.descendants(graph.directed, treatment)
        back = cut(graph.directed, {treatment})
        every = [one for one in subsets(allowed) if not connected(back, treatment, outcome, one)]
        found = graph.identify(treatment, outcome, most=100)
        assert set(found.backdoor) == least(every)
        assert set(graph.backdoor_sets(treatment, outcome)) == set(every)
        variances = {}
        for one in every:
            by = [treatment, *sorted(one)]
            slopes, left = population.slopes(outcome, by)
            assert slopes[0] == pytest.approx(population.effect(treatment, outcome), rel=1e-8, abs=1e-10)
            variances[one] = left / (
                population.slopes(treatment, by[1:])[1]
                if by[1:]
                else population.covariance[population.at[treatment], population.at[treatment]]
            )
        if found.optimal is not None:
            assert variances[found.optimal] <= min(variances.values()) * (1 + 1e-9)
            assert set(found.confounders) == found.optimal
        elif graph.observed == set(graph.nodes):
            raise AssertionError("everything is observed, and there is no optimal set")


@given(graph=graphs(), seed=st.integers(0, 2**32))
@settings(max_examples=FEW)
def test_frontdoor_sets_are_those_of_the_criterion_and_give_the_effect(graph: ci.Graph, seed: int) -> None:
    population = Population(graph.directed, seed)
    for treatment, outcome in effects(graph):
        back = cut(graph.directed, {treatment})
        every = [
            one
            for one in subsets(graph.observed - {treatment, outcome})
            if 0 < len(one) <= 3
            and not nx.has_path(graph.directed.subgraph(set(graph.nodes) - one), treatment, outcome)
            and not any(connected(back, treatment, node, ()) for node in one)
            and not any(connected(cut(graph.directed, one), node, outcome, {treatment}) for node in one)
        ]
        found = graph.identify(treatment, outcome, most=100)
        assert set(found.frontdoor) == least(every)
        for mediators in map(sorted, every):
            first = np.array([population.slopes(one, [treatment])[0][0] for one in mediators])
            second = population.slopes(outcome, [treatment, *mediators])[0][1:]
            assert first @ second == pytest.approx(population.effect(treatment, outcome), rel=1e-7, abs=1e-9)


@given(graph=graphs(), seed=st.integers(0, 2**32))
@settings(max_examples=FEW)
def test_instruments_are_those_of_the_criterion_and_give_the_effect(graph: ci.Graph, seed: int) -> None:
    population = Population(graph.directed, seed)
    for treatment, outcome in effects(graph):
        back = cut(graph.directed, {treatment})
        allowed = graph.observed - {treatment, outcome} - nx.descendants(graph.directed, treatment)
        found = {one.name: one.given for one in graph.identify(treatment, outcome, most=100).instruments}
        for name in sorted(allowed):
            ancestors = nx.ancestors(graph.directed, name) | nx.ancestors(back, outcome)
            every = [
                one
                for one in subsets((allowed - {name}) & ancestors)
                if not connected(back, name, outcome, one) and connected(graph.directed, name, treatment, one)
            ]
            assert (name in found) == bool(every)
            if name in found:
                assert found[name] in every
                by = [name, *sorted(found[name])]
                ratio = population.slopes(outcome, by)[0][0] / population.slopes(treatment, by)[0][0]
                assert ratio == pytest.approx(population.effect(treatment, outcome), rel=1e-6, abs=1e-8)


@given(graph=graphs(), seed=st.integers(0, 2**32))
@settings(max_examples=FEW)
def test_what_a_graph_implies_holds_in_its_populations(graph: ci.Graph, seed: int) -> None:
    population = Population(graph.directed, seed)
    told = {frozenset((one.first, one.second)) for one in graph.implications()}
    for one in graph.implications():
        assert population.slopes(one.first, [one.second, *one.given])[0][0] == pytest.approx(0, abs=1e-9)
    for first, second in combinations(sorted(graph.observed), 2):
        rest = graph.observed - {first, second}
        possible = any(not connected(graph.directed, first, second, one) for one in subsets(rest))
        assert (frozenset((first, second)) in told) == possible


def test_a_text_is_read_as_dagitty_and_dot_write_it() -> None:
    told = ci.Graph(
        'dag { bb="0,0,1,1"\n "home town" [pos="0,1"]; gmv [outcome]; U [latent]; alone\n'
        '"home town" -> gmv <- U // a comment; with signs\n U -> "home town"; größe <-> gmv }'
    )
    assert set(told.directed.edges) == {
        ("home town", "gmv"),
        ("U", "gmv"),
        ("U", "home town"),
        ("U(größe, gmv)", "größe"),
        ("U(größe, gmv)", "gmv"),
    }
    assert told.observed == {"home town", "gmv", "größe", "alone"}
    again = ci.Graph(told.directed, unobserved=["U", "U(größe, gmv)"])
    assert again.observed == told.observed
    assert set(again.directed.edges) == set(told.directed.edges)
    shown = ci.Graph(repr(told))
    assert (set(shown.nodes), shown.observed) == (set(told.nodes), told.observed)
    assert set(shown.directed.edges) == set(told.directed.edges)


def test_comments_and_looks_draw_nothing() -> None:
    told = ci.Graph(
        """/* a graph
        of two lines */ digraph "shop" {
            graph [label="a, b"]; node [shape=circle, label="]"]; edge [color="#ff0000"]
            rankdir=LR; size = "7,5"  # effect -> of looks
            "a=b" -> b [label="x -> y"] // c -> d
            "# 1" -> b; node -> b; "edge" [pos="0,1"]
            latent /* or so */ -> b
        }"""
    )
    assert set(told.directed.edges) == {("a=b", "b"), ("# 1", "b"), ("node", "b"), ("latent", "b")}
    assert set(told.nodes) == {"a=b", "b", "# 1", "node", "edge", "latent"}
    hidden = ci.Graph("node -> b", unobserved=["node"])
    assert ci.Graph(repr(hidden)).observed == {"b"}


@pytest.mark.parametrize(
    ("edges", "unobserved", "words"),
    [
        ("a -> b, b -> c", (), "draws no graph"),
        ("a, b -> c", (), "draws no graph"),
        ("a -> {b c}", (), "draws no graph"),
        ("digraph { subgraph c { a -> b; } }", (), "draws no graph"),
        ("a = 1 -> b", (), "draws no graph"),
        ("a -> b [shape=circle", (), "draws no graph"),
        ("a -> b -> c -> a", (), "causes itself: "),
        ([("a", "a")], (), "causes itself"),
        ("a -> ", (), "draws no graph"),
        ("a -- b", (), "draws no graph"),
        ("-> b", (), "draws no graph"),
        ('"a" "b" -> c', (), "draws no graph"),
        ("", (), "no nodes"),
        ([], (), "no nodes"),
        ([("a", "b", "c")], (), "no edge"),
        ("age -> gmv", ["agee"], "did you mean 'age'"),
        (nx.Graph([("a", "b")]), (), "not directed"),
    ],
)
def test_what_is_no_graph_is_refused(edges: object, unobserved: list[str], words: str) -> None:
    with pytest.raises(PlanError, match=words):
        ci.Graph(edges, unobserved)


def test_one_unobserved_node_is_a_list_of_one() -> None:
    with pytest.raises(ConfigError, match="one text"):
        ci.Graph("income -> gmv", unobserved="income")


@pytest.mark.parametrize(
    ("treatment", "outcome", "words"),
    [
        ("coupon", "gmvv", "did you mean 'gmv'"),
        ("gmv", "coupon", "no way from"),
        ("gmv", "gmv", "no way from"),
        ("mood", "gmv", "unobserved"),
    ],
)
def test_what_is_no_effect_is_refused(treatment: str, outcome: str, words: str) -> None:
    graph = ci.Graph("coupon -> gmv; mood -> gmv", unobserved=["mood"])
    with pytest.raises(IceblinkError, match=words):
        graph.identify(treatment, outcome)
    with pytest.raises(PlanError, match="treatment and outcome"):
        graph.backdoor_sets("gmv", "gmv")
    with pytest.raises(PlanError):
        graph.separated("coupon", "coupon")
