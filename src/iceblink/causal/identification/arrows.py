"""Graphs written as text: ``coupon -> gmv; age -> coupon; age -> gmv``, as in DOT and in dagitty."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from iceblink.errors import PlanError

QUOTED, ATTRIBUTES = r'"[^"]*"', r'\[(?:"[^"]*"|[^\]"])*\]'
TOKEN = re.compile(
    rf"(?P<quoted>{QUOTED})|(?P<attributes>{ATTRIBUTES})|(?P<arrow><->|->|<-)|(?P<end>[;\n])|(?P<equals>=)"
    r'|(?P<name>[^"\[\];\n<>={},-]+)|(?P<strange>.)'
)
COMMENT = re.compile(rf"({QUOTED}|{ATTRIBUTES})|//[^\n]*|#[^\n]*|/\*.*?\*/", re.DOTALL)
WRAPPED = re.compile(r"\s*(?:strict\s+)?(?:digraph|dag)\b[^{]*\{(?P<inside>.*)\}\s*", re.DOTALL)
LOOKS = {"graph", "node", "edge"}
"""DOT's words for how all of these look: they are no nodes where attributes stand behind them."""
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
    text = COMMENT.sub(lambda found: found[1] or " ", text)
    wrapped = WRAPPED.fullmatch(text)
    nodes: dict[str, None] = {}
    edges: dict[tuple[str, str], None] = {}
    joined: dict[tuple[str, str], None] = {}
    latent: dict[str, None] = {}
    for statement in _statements(wrapped["inside"] if wrapped else text):
        names = [token.strip('"') for kind, token in statement if kind in ("name", "quoted")]
        arrows = [token for kind, token in statement if kind == "arrow"]
        shape = ["name" if kind == "quoted" else kind for kind, _ in statement if kind != "attributes"]
        if shape != ["name", *["arrow", "name"] * len(arrows)]:
            raise PlanError("this draws no graph", " ".join(token for _, token in statement), HINT)
        nodes.update(dict.fromkeys(names))
        if not arrows and _is_latent(statement):
            latent.update(dict.fromkeys(names))
        for left, arrow, right in zip(names, arrows, names[1:], strict=False):
            if arrow == "<->":
                joined[left, right] = None
            else:
                edges[(left, right) if arrow == "->" else (right, left)] = None
    return Drawing(tuple(nodes), tuple(edges), tuple(joined), tuple(latent))


def _statements(text: str) -> Iterator[list[tuple[str, str]]]:
    """Yield the tokens of each statement that draws something."""
    statement: list[tuple[str, str]] = []
    for match in TOKEN.finditer(text + ";"):
        kind, token = str(match.lastgroup), match[0].strip()
        if kind == "end":
            if statement and not _is_setting(statement):
                yield statement
            statement = []
        elif kind != "name" or token:
            statement.append((kind, token))


def _is_setting(statement: list[tuple[str, str]]) -> bool:
    """Whether a statement says how a graph looks: ``rankdir=LR``, ``node [shape=circle]``."""
    kinds = [kind for kind, _ in statement]
    if kinds[:2] in (["name", "equals"], ["quoted", "equals"]):
        return "arrow" not in kinds
    return kinds[:2] == ["name", "attributes"] and statement[0][1].lower() in LOOKS and not _is_latent(statement)


def _is_latent(statement: list[tuple[str, str]]) -> bool:
    return any(kind == "attributes" and LATENT.search(token) for kind, token in statement)
