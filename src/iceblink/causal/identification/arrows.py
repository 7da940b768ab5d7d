"""Graphs written as text: ``coupon -> gmv; age -> coupon; age -> gmv``, as in DOT and in dagitty."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from iceblink.errors import PlanError

TOKEN = re.compile(
    r'(?P<quoted>"[^"]*")|(?P<attributes>\[[^\]]*\])|(?P<arrow><->|->|<-)|(?P<end>[;\n]|//[^\n]*)'
    r'|(?P<name>(?:[^"\[\];\n<>/-]|/(?!/))+)|(?P<strange>.)'
)
WRAPPED = re.compile(r"\s*(?:strict\s+)?(?:digraph|dag)\b[^{]*\{(?P<inside>.*)\}\s*", re.DOTALL)
SETTING = re.compile(r"\s*[A-Za-z]+\s*=.*")
LATENT = re.compile(r"\b(?:latent|unobserved)\b")
HINT = 'coupon -> gmv; age -> coupon; "home town" -> gmv; income <-> gmv'


@dataclass(frozen=True)
class Drawing:
    """What a text draws.

    Parameters
    ----------
    nodes : tuple of str
        In the order of their first mention.
    edges : tuple of (str, str)
        From a cause to what it changes.
    joined : tuple of (str, str)
        Those that have a common cause which is not drawn.
    latent : tuple of str
        Those that are marked so.
    """

    nodes: tuple[str, ...]
    edges: tuple[tuple[str, str], ...]
    joined: tuple[tuple[str, str], ...]
    latent: tuple[str, ...]


def drawn(text: str) -> Drawing:
    """Read a text.

    Raises
    ------
    PlanError
        It draws no graph; the error shows the statement.
    """
    wrapped = WRAPPED.fullmatch(text)
    nodes: dict[str, None] = {}
    edges: dict[tuple[str, str], None] = {}
    joined: dict[tuple[str, str], None] = {}
    latent: dict[str, None] = {}
    for statement in _statements(wrapped["inside"] if wrapped else text):
        names = [token for kind, token in statement if kind == "name"]
        arrows = [token for kind, token in statement if kind == "arrow"]
        shape = [kind for kind, _ in statement if kind != "attributes"]
        if shape != ["name", *["arrow", "name"] * len(arrows)]:
            raise PlanError("this draws no graph", "".join(token for _, token in statement).strip(), HINT)
        nodes.update(dict.fromkeys(names))
        if any(kind == "attributes" and LATENT.search(token) for kind, token in statement):
            latent.update(dict.fromkeys(names if not arrows else ()))
        for left, arrow, right in zip(names, arrows, names[1:], strict=False):
            if arrow == "<->":
                joined[left, right] = None
            else:
                edges[(left, right) if arrow == "->" else (right, left)] = None
    return Drawing(tuple(nodes), tuple(edges), tuple(joined), tuple(latent))


def _statements(text: str) -> Iterator[list[tuple[str, str]]]:
    """Yield the tokens of each statement, names without their quotes."""
    statement: list[tuple[str, str]] = []
    for match in TOKEN.finditer(text + ";"):
        kind, token = str(match.lastgroup), match[0]
        if kind == "end":
            if statement and not SETTING.fullmatch("".join(part for _, part in statement)):
                yield statement
            statement = []
        elif kind == "quoted":
            statement.append(("name", token[1:-1]))
        elif kind != "name" or token.strip():
            statement.append((kind, token.strip()))
