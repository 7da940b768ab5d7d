"""The names in a statement, said in full: what is left out is what ``USE`` has set."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from iceblink.plan.statements import kinds
from iceblink.run.session import Session


def in_full(session: Session, statement: kinds.Statement) -> kinds.Statement:
    """Return the statement with full names of tables, views and namespaces."""
    said: Any = statement
    names = _names(session, said)
    return replace(said, **names) if names else statement


def _names(session: Session, said: Any) -> dict[str, str | None]:
    match said:
        case kinds.CreateNamespace() | kinds.DropNamespace():
            return {"name": session.full_namespace(said.name)}
        case kinds.ShowTables() | kinds.ShowViews():
            return {"namespace": _listed(session, said.namespace, session.place.namespace)}
        case kinds.ShowNamespaces():
            return {"inside": _listed(session, said.inside, "")}
        case kinds.RenameTable():
            before = session.full_name(said.name)
            return {"name": before, "new": _renamed(session, before, said.new)}
    name = getattr(said, "name", None)
    return {} if name is None else {"name": session.full_name(name)}


def _listed(session: Session, asked: str | None, here: str) -> str | None:
    """Return the namespace or catalog that is listed: the one asked for, or the one in use; None for all."""
    if asked is None:
        return session.place.inside(here) if here else session.place.catalog or None
    return asked if asked in session.catalog.others else session.full_namespace(asked)


def _renamed(session: Session, before: str, new: str) -> str:
    """Return the new name of a table: in its own namespace, or in another one of its catalog."""
    if "." not in new:
        return f"{before.rpartition('.')[0]}.{new}"
    head, _, rest = new.partition(".")
    others = session.catalog.others
    if head in others and "." in rest:
        return new
    catalog = before.partition(".")[0]
    own = catalog in others and before.count(".") > 1
    return f"{catalog}.{new}" if own else new
