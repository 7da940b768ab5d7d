"""Clauses that are read, and would be lost on the way to the kernel: refused, or written where all that follows looks.

sqlglot reads the words of many engines; those that DuckDB's SQL lacks it leaves out when it writes, without an error.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache

from iceblink.errors import SqlError
from iceblink.plan.late import exp, sqlglot

_COMPUTES = frozenset({"with_", "where", "group", "having", "qualify", "windows", "order", "limit", "offset"})
_BESIDE = frozenset({"joins", "laterals", "pivots", "sample"})


def check_only(node: exp.Expression, understood: Collection[str], hint: str, where: str = "") -> None:
    """Raise SqlError if a node has a part that is not among `understood`, whatever it may be."""
    for part, value in node.args.items():
        if value and part not in understood:
            word = _WORDS.get(part, part.strip("_").upper())
            shown = value if isinstance(value, exp.Expression) else node
            raise SqlError(f"{type(node).__name__.upper()} takes no {word} here", where or shown.sql("duckdb"), hint)


def check_whole(tree: exp.Expression, text: str) -> None:
    """Raise SqlError if a statement has what DuckDB's SQL, as sqlglot writes it, would not have."""
    line, hint = text.strip().split("\n")[0], "DuckDB's SQL has no such clause"
    for node in tree.find_all(*_carried(), exp.Fetch):
        if isinstance(node, exp.Fetch):
            options = node.args.get("limit_options")
            if options is not None and (options.args.get("with_ties") or options.args.get("percent")):
                raise SqlError(
                    "FETCH takes no PERCENT and no WITH TIES here", line, "write QUALIFY rank() OVER (...) <= n"
                )
        else:
            parts = next(parts for kind, parts in _carried().items() if isinstance(node, kind))
            travels = isinstance(node, exp.Table) and node.args.get("when")
            check_only(node, parts, "write FOR VERSION AS OF 123" if travels else hint, line)
    try:
        tree.sql("duckdb", unsupported_level=sqlglot.ErrorLevel.RAISE)
    except sqlglot.errors.UnsupportedError as error:
        raise SqlError(str(error).rstrip(". "), line, hint) from None


_WORDS = {
    "cluster": "CLUSTER BY",
    "distribute": "DISTRIBUTE BY",
    "hints": "WITH (...)",
    "kind": "AS STRUCT or AS VALUE",
    "locks": "FOR UPDATE",
    "sample": "TABLESAMPLE",
    "when": "AT (...)",
}
"""What parts of sqlglot's nodes are in SQL, where that is not their name."""


@cache
def _carried() -> Mapping[type[exp.Expression], Collection[str]]:
    return {
        exp.Select: _COMPUTES | _BESIDE | {"expressions", "distinct", "from_"},
        exp.SetOperation: _COMPUTES | _BESIDE | {"this", "expression", "distinct", "by_name", "side", "kind", "on"},
        exp.Subquery: _COMPUTES | _BESIDE | {"this", "alias"},
        exp.Table: _BESIDE | {"this", "db", "catalog", "alias", "version", "ordinality"},
    }


def bare(tree: exp.Expression) -> exp.Expression:
    """Return what is in brackets that say nothing more."""
    while isinstance(tree, exp.Subquery) and {part for part, value in tree.args.items() if value} == {"this"}:
        tree = tree.this
    return tree


def unbracketed(tree: exp.Expression) -> exp.Expression:
    """Return a statement without clauses behind brackets: ``(q) LIMIT 1`` becomes ``SELECT * FROM (q) LIMIT 1``.

    What looks at a query, to push a condition into it or to cut it, looks at the SELECT in the brackets alone.
    """
    for one in reversed(list(tree.find_all(exp.Subquery, exp.Values))):  # from the inside out
        clauses = {part: value for part, value in one.args.items() if value and part in _COMPUTES}
        if not clauses:
            continue
        for part in clauses:
            one.set(part, None)
        inside = exp.Subquery(this=bare(one.this)) if isinstance(one, exp.Subquery) else one.copy()
        select = exp.select("*").from_(inside, copy=False)
        for part, value in clauses.items():
            select.set(part, value)
        if isinstance(one, exp.Subquery):
            one.set("this", select)
        elif one is tree:
            tree = select
        else:
            one.replace(exp.Subquery(this=select, alias=one.args.get("alias")))
    return tree
