"""Several catalogs under one roof: the first as if it were alone, the others by their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from iceblink.errors import CatalogError, ConfigError
from iceblink.lake.catalog import Catalog
from iceblink.lake.table import Table

Described = str | Path | Mapping[str, Any]
"""A folder, or PyIceberg properties."""


def opened(described: Sequence[str] | Mapping[str, Described]) -> dict[str, Catalog]:
    """Open catalogs by name.

    Parameters
    ----------
    described : sequence of str, or mapping of str to (str, Path or mapping)
        Names in PyIceberg's own configuration; or names of your own, and of each a folder or PyIceberg properties.

    Raises
    ------
    ConfigError
        None is given, or a name has a dot.
    CatalogError
        One cannot be opened.
    """
    if isinstance(described, str) or not described:
        raise ConfigError(f"{described!r} names no catalogs", "connect", "catalogs=['prod', 'dev']")
    dotted = [name for name in described if not name or "." in name]
    if dotted:
        raise ConfigError(f"{dotted[0]!r} cannot name a catalog", "connect", "choose a name without a dot")
    if not isinstance(described, Mapping):
        return {name: Catalog.configured(name) for name in described}
    return {name: _opened(name, how) for name, how in described.items()}


def _opened(name: str, how: Described) -> Catalog:
    if isinstance(how, Mapping):
        return Catalog.of(**{"name": name, **how})
    return Catalog.embedded(how)


class Catalogs(Catalog):
    """The first of several catalogs, through which the others are reached: ``prod.ns.t`` is ``ns.t`` of ``prod``.

    Each method is that of the catalog which the name belongs to. A name belongs to a catalog if it begins with that
    one's name and goes on with a namespace and a table; else to the first.

    Parameters
    ----------
    first : Catalog
        Names without a catalog are looked up here.
    others : mapping of str to Catalog
        By the names that tables begin with; the first may be among them.
    """

    def __init__(self, first: Catalog, others: Mapping[str, Catalog]) -> None:
        super().__init__(first.name, first.properties, first.folder, first.prefix)
        self._first = first
        self._others = {name: other.named(name) for name, other in others.items()}
        self._own = {name for name, other in others.items() if other is first}

    def __reduce__(self) -> tuple[Any, ...]:
        own = dict.fromkeys(self._own, self._first)
        return Catalogs, (self._first, self._others | own)

    def __repr__(self) -> str:
        others = ", ".join(f"{name}={catalog!r}" for name, catalog in self._others.items() if name not in self._own)
        return f"{self._first!r}, {others}" if others else repr(self._first)

    def holding(self, name: str) -> Catalog:
        """Return the catalog that a table's name is looked up in."""
        head, _, rest = name.partition(".")
        return self._others[head] if head in self._others and "." in rest else self._first

    @property
    def others(self) -> list[str]:
        """The names that tables of other catalogs begin with; the first's, too, if it has one here."""
        return list(self._others)

    def _of_namespace(self, name: str) -> Catalog:
        head, _, rest = name.partition(".")
        return self._others[head] if head in self._others and rest else self._first

    # namespaces

    def namespaces(self) -> list[str]:
        """Return every namespace; those of the first catalog, then those of the others with their names before."""
        return [name for catalog in self._each() for name in catalog.namespaces()]

    def create_namespace(self, name: str) -> None:
        """Make a namespace; one that is there already is no error."""
        self._of_namespace(name).create_namespace(name)

    def drop_namespace(self, name: str) -> None:
        """Remove a namespace; errors as `Catalog.drop_namespace`."""
        self._of_namespace(name).drop_namespace(name)

    # tables

    def tables(self, namespace: str | None = None) -> list[str]:
        """Return full table names: of one namespace, of one catalog if its name is given, or of all."""
        if namespace is None:
            return [name for catalog in self._each() for name in catalog.tables()]
        if namespace in self._others:
            return self._others[namespace].tables()
        return self._of_namespace(namespace).tables(namespace)

    def create(self, name: str, schema: Any, *arguments: Any, **options: Any) -> Table:
        """Make an empty table, as `Catalog.create`."""
        return self.holding(name).create(name, schema, *arguments, **options)

    def stage(self, name: str, schema: Any, *arguments: Any, **options: Any) -> Table:
        """Return a table that the first commit makes, as `Catalog.stage`."""
        return self.holding(name).stage(name, schema, *arguments, **options)

    def unstage(self, table: Table) -> None:
        """Remove what a table that certainly was not committed left."""
        table.catalog.unstage(table)

    def load(self, name: str) -> Table:
        """Return a table as it is now, as `Catalog.load`."""
        return self.holding(name).load(name)

    def exists(self, name: str) -> bool:
        """Tell whether there is a table of that name."""
        return self.holding(name).exists(name)

    def rename(self, old: str, new: str) -> Table:
        """Give a table another name in its catalog.

        Raises
        ------
        TableNotFound, TableExists
        CatalogError
            The new name is in another catalog.
        """
        catalog = self.holding(old)
        if catalog is not self.holding(new):
            hint = f"write it there, and drop it here: lake.write({new!r}, lake.table({old!r}), mode='create')"
            raise CatalogError(f"{old!r} and {new!r} are in different catalogs", "rename", hint)
        return catalog.rename(old, new)

    def drop(self, name: str, purge: bool | None = None) -> None:
        """Remove a table, as `Catalog.drop`."""
        self.holding(name).drop(name, purge)

    def _each(self) -> list[Catalog]:
        return [self._first, *(catalog for name, catalog in self._others.items() if name not in self._own)]
