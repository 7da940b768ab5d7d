"""Sets of nodes that separate two others in a directed acyclic graph: the minimal ones, or all of them.

Minimal separators are ancestors of what they separate, so that they are those of an undirected graph: the ancestors'
moral graph, in which nodes that may not be used are replaced by links between their neighbours [1]_.

References
----------
.. [1] van der Zander, Liśkiewicz, Textor: Separators and adjustment sets in causal graphs: complete criteria and an
   algorithmic framework, Artificial Intelligence 2019, sections 4 and 5.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Set
from itertools import combinations
from typing import Any

from iceblink.causal.late import nx

Names = frozenset[str]


def minimal_separators(directed: Any, first: str, second: str, allowed: Set[str]) -> Iterator[Names]:
    """Yield each set of allowed nodes that separates two nodes, and of which no part does.

    Each is made of another, beginning with that next to `first`, by moving the separator past one of its nodes [1]_:
    a time that is polynomial in the nodes for each set.

    Parameters
    ----------
    directed : networkx.DiGraph
        Without cycles.
    first, second : str
    allowed : set of str

    References
    ----------
    .. [1] Shen, Liang: Efficient enumeration of all minimal separators in a graph, Theoretical Computer Science 1997.
    """
    links = _links(directed, first, second, allowed)
    if second in links[first]:
        return
    start = _facing(links, {first} | links[first], second)
    waiting, seen = deque([start]), {start}
    while waiting:
        separator = waiting.popleft()
        yield separator
        near = _component(links, separator, first)
        for node in sorted(separator - links[second]):
            moved = near | {node}
            beyond = _facing(links, moved | _around(links, moved), second)
            if beyond not in seen:
                seen.add(beyond)
                waiting.append(beyond)


def separators(directed: Any, first: str, second: str, allowed: Set[str]) -> Iterator[Names]:
    """Yield every set of allowed nodes that separates two nodes, small ones not before large ones.

    Sets are halved by a node that is in or out, and a half without a separator is left: between two sets lies a time
    that is polynomial in the nodes.
    """

    def among(inside: Names, maybe: Names) -> Iterator[Names]:
        ends = {first, second, *inside}
        ancestors = ends.union(*(nx.ancestors(directed, node) for node in ends))
        if not nx.is_d_separator(directed, {first}, {second}, inside | (maybe & ancestors)):
            return
        if not maybe:
            yield inside
            return
        node = min(maybe)
        yield from among(inside, maybe - {node})
        yield from among(inside | {node}, maybe - {node})

    yield from among(frozenset(), frozenset(allowed) - {first, second})


def _links(directed: Any, first: str, second: str, allowed: Set[str]) -> dict[str, set[str]]:
    """Return the neighbours of each node that may be used, and of both ends."""
    ancestors = {first, second} | nx.ancestors(directed, first) | nx.ancestors(directed, second)
    moral = nx.moral_graph(directed.subgraph(ancestors))
    links: dict[str, set[str]] = {node: set(moral[node]) for node in moral}
    for node in [node for node in links if node not in allowed and node not in (first, second)]:
        around = links.pop(node)
        for one in around:
            links[one].discard(node)
        for one, other in combinations(around, 2):
            links[one].add(other)
            links[other].add(one)
    return links


def _component(links: dict[str, set[str]], without: Set[str], start: str) -> set[str]:
    """Return what can be reached from a node when others are taken out."""
    found, waiting = {start}, [start]
    while waiting:
        for node in links[waiting.pop()] - found - without:
            found.add(node)
            waiting.append(node)
    return found


def _around(links: dict[str, set[str]], nodes: Set[str]) -> set[str]:
    return set().union(*(links[node] for node in nodes)) - nodes


def _facing(links: dict[str, set[str]], without: Set[str], second: str) -> Names:
    """Return the nodes around what can still be reached from `second`."""
    return frozenset(_around(links, _component(links, without, second)))
