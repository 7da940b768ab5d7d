"""What a catalog's database lists: namespaces, and where the metadata of each table and view is.

A change of several entries is one transaction, and each entry is changed only if it still is what it was: this decides
between servers and writers of all kinds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

from iceblink.lake.database import Database
from iceblink.lake.refused import duplicate_errors

Kind = Literal["TABLE", "VIEW"]
Levels = tuple[str, ...]

_HOLDS = "exists"
"""The property by which a namespace without others is listed; Java's catalog hides it, too."""

_KINDS = {"TABLE": "(iceberg_type IS NULL OR iceberg_type = 'TABLE')", "VIEW": "iceberg_type = 'VIEW'"}
_ENTRY = "catalog_name = :catalog AND table_namespace = :namespace AND table_name = :name"
_NAMESPACE = "catalog_name = :catalog AND namespace = :namespace"


class Key(NamedTuple):
    """A table or view as the database lists it."""

    namespace: str  # its levels, joined with dots
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}.{self.name}"


class Changed(Exception):
    """An entry is no more what a change was made from: nothing was changed."""


class Taken(Exception):
    """A name that was to be new is taken: nothing was changed."""


@dataclass(frozen=True)
class Swap:
    """One entry from one metadata file to the next.

    Parameters
    ----------
    key : Key
    before : str or None
        What must be listed; None if it must not be there yet.
    after : str
        What is to be listed; `before` again if it only has to be there still.
    """

    key: Key
    before: str | None
    after: str


class Refusals(Protocol):
    """Makes what is raised where something cannot be: whoever asks has words of his own for it."""

    def no_entry(self, kind: Kind, name: str) -> Exception: ...
    def no_namespace(self, levels: Levels) -> Exception: ...
    def entry_exists(self, name: str) -> Exception: ...
    def namespace_exists(self, levels: Levels) -> Exception: ...
    def not_empty(self, levels: Levels) -> Exception: ...
    def no_views(self) -> Exception: ...
    def overtaken(self) -> Exception: ...


class Statement(Protocol):
    """Runs a statement of a transaction, and returns how many rows it met."""

    def __call__(self, statement: str, **values: str) -> int: ...


class Listing:
    """The entries of one catalog in a database; every method asks it anew.

    All of them raise what `refusals` make, and the errors of the database as they are.

    Parameters
    ----------
    catalog : str
        Its name: a database may have several.
    database : Database
    refusals : Refusals
    """

    def __init__(self, catalog: str, database: Database, refusals: Refusals) -> None:
        self._catalog, self._database, self._refusals = catalog, database, refusals

    # tables and views

    @property
    def has_views(self) -> bool:
        """Whether the database says of an entry that it is a view."""
        return self._database.has_views

    def find(self, key: Key, kind: Kind) -> str | None:
        """Return where the metadata of an entry is, or None."""
        rows = self._found(key, kind)
        return str(rows[0][0]) if rows else None

    def location(self, key: Key, kind: Kind) -> str:
        """Return where the metadata of an entry is; raises `no_entry`."""
        return self.locations_of(key, kind)[0]

    def locations_of(self, key: Key, kind: Kind) -> tuple[str, str | None]:
        """Return where the metadata of an entry is, and where that before it was; raises `no_entry`."""
        rows = self._found(key, kind)
        if not rows:
            raise self._refusals.no_entry(kind, str(key))
        ((current, previous),) = rows
        return str(current), previous

    def _found(self, key: Key, kind: Kind) -> list[Any]:
        columns = "metadata_location, previous_metadata_location"
        query = f"SELECT {columns} FROM iceberg_tables WHERE {_ENTRY} AND {self._is(kind)}"
        return self._ask(query, **key._asdict())

    def names(self, levels: Levels, kind: Kind) -> list[str]:
        """Return the names of one namespace, sorted; raises `no_namespace`."""
        self.require(levels)
        where = f"catalog_name = :catalog AND table_namespace = :namespace AND {self._is(kind)}"
        rows = self._ask(f"SELECT table_name FROM iceberg_tables WHERE {where}", namespace=".".join(levels))
        return sorted(str(name) for (name,) in rows)

    def locations(self, kind: Kind | None = None) -> list[tuple[Key, str]]:
        """Return every entry of a kind, or of both, with where its metadata is."""
        where = "catalog_name = :catalog AND " + ("1 = 1" if kind is None else self._is(kind))
        rows = self._ask(f"SELECT table_namespace, table_name, metadata_location FROM iceberg_tables WHERE {where}")
        return [(Key(namespace, name), location) for namespace, name, location in rows]

    def lists(self, folder: str) -> bool:
        """Tell whether the metadata of any entry is in a folder."""
        return any((location or "").startswith(f"{folder}/") for _, location in self.locations())

    def swap(self, swaps: Iterable[Swap], kind: Kind) -> None:
        """Make all of these changes, or none.

        Raises
        ------
        Changed, Taken
        """
        with self._changing() as run:
            for swap in sorted(swaps, key=lambda one: one.key):  # in one order everywhere, or two would wait for ever
                if swap.before is None:
                    self._insert(run, swap, kind)
                    continue
                become = "metadata_location = :after, previous_metadata_location = :before"
                values = {**swap.key._asdict(), "before": swap.before}
                if swap.after == swap.before:
                    become = "metadata_location = :before"  # takes the lock, and changes nothing
                else:
                    values["after"] = swap.after
                where = f"{_ENTRY} AND metadata_location = :before AND {self._is(kind)}"
                if not run(f"UPDATE iceberg_tables SET {become} WHERE {where}", **values):
                    raise Changed(str(swap.key))

    def _insert(self, run: Statement, swap: Swap, kind: Kind) -> None:
        columns, values = "catalog_name, table_namespace, table_name, metadata_location", swap.key._asdict()
        marks = ":catalog, :namespace, :name, :after"
        self._is(kind)
        if self._database.has_views:
            columns, marks, values = f"{columns}, iceberg_type", f"{marks}, :kind", {**values, "kind": kind}
        run(f"INSERT INTO iceberg_tables ({columns}) VALUES ({marks})", **values, after=swap.after)

    def rename(self, before: Key, after: Key, kind: Kind) -> None:
        """Give an entry another name, in a namespace that is there.

        Raises `no_namespace`, `no_entry`, and `entry_exists` if the name is taken.
        """
        self.require(tuple(after.namespace.split(".")))
        become = "table_namespace = :new_namespace, table_name = :new_name"
        values = {**before._asdict(), "new_namespace": after.namespace, "new_name": after.name}
        try:
            with self._changing() as run:
                met = run(f"UPDATE iceberg_tables SET {become} WHERE {_ENTRY} AND {self._is(kind)}", **values)
        except Taken:
            raise self._refusals.entry_exists(str(after)) from None
        if not met:
            raise self._refusals.no_entry(kind, str(before))

    def remove(self, key: Key, kind: Kind) -> str:
        """Take an entry off the list and return where its metadata was; raises `no_entry`."""
        while True:
            location = self.location(key, kind)
            same = "(metadata_location = :location OR metadata_location IS NULL)"  # a damaged entry has none
            where = f"{_ENTRY} AND {same} AND {self._is(kind)}"
            with self._changing() as run:
                met = run(f"DELETE FROM iceberg_tables WHERE {where}", **key._asdict(), location=location)
            if met:  # else somebody committed to it meanwhile
                return location

    def _is(self, kind: Kind) -> str:
        if self._database.has_views:
            return _KINDS[kind]
        if kind == "VIEW":
            raise self._refusals.no_views()
        return "1 = 1"

    # namespaces

    def namespaces(self, outer: Levels = ()) -> list[Levels]:
        """Return the namespaces directly inside of `outer`, or those at the top, sorted; raises `no_namespace`."""
        if outer:
            self.require(outer)
        return sorted(one for one in self._all() if one[:-1] == outer)

    def _all(self) -> set[Levels]:
        """Return every namespace that is listed or holds something, with those around it."""
        query = (
            "SELECT table_namespace FROM iceberg_tables WHERE catalog_name = :catalog "
            "UNION SELECT namespace FROM iceberg_namespace_properties WHERE catalog_name = :catalog"
        )
        listed = [tuple(str(namespace).split(".")) for (namespace,) in self._ask(query)]
        return {namespace[:depth] for namespace in listed for depth in range(1, len(namespace) + 1)}

    def require(self, levels: Levels) -> None:
        """Raise `no_namespace` if there is no such namespace."""
        if levels not in self._all():
            raise self._refusals.no_namespace(levels)

    def has_namespace(self, levels: Levels) -> bool:
        """Tell whether there is such a namespace."""
        return levels in self._all()

    def create_namespace(self, levels: Levels, properties: Mapping[str, str]) -> None:
        """List a namespace; raises `namespace_exists`."""
        if self.has_namespace(levels):
            raise self._refusals.namespace_exists(levels)
        try:
            with self._changing() as run:
                for key, value in {**properties, _HOLDS: "true"}.items():
                    _set_property(run, ".".join(levels), key, value)
        except Taken:
            raise self._refusals.namespace_exists(levels) from None

    def properties(self, levels: Levels) -> dict[str, str]:
        """Return the properties of a namespace; raises `no_namespace`."""
        self.require(levels)
        query = f"SELECT property_key, property_value FROM iceberg_namespace_properties WHERE {_NAMESPACE}"
        rows = self._ask(query, namespace=".".join(levels))
        return {str(key): str(value) for key, value in rows if key != _HOLDS}

    def change_properties(
        self, levels: Levels, removals: Iterable[str], updates: Mapping[str, str]
    ) -> tuple[list[str], list[str]]:
        """Remove and set properties together; return those that were removed, and those that were not there.

        Raises `no_namespace`, and `overtaken` where others set the same ones.
        """
        self.require(levels)
        namespace = ".".join(levels)
        removed: list[str] = []
        missing: list[str] = []
        gone = sorted(set(removals) - {_HOLDS})
        delete = f"DELETE FROM iceberg_namespace_properties WHERE {_NAMESPACE} AND property_key = :key"
        try:
            with self._changing() as run:
                for key, value in {**updates, _HOLDS: "true"}.items():  # it stays listed when its last property goes
                    run(delete, namespace=namespace, key=key)
                    _set_property(run, namespace, key, value)
                for key in gone:
                    (removed if run(delete, namespace=namespace, key=key) else missing).append(key)
        except Taken:
            raise self._refusals.overtaken() from None
        return removed, missing

    def drop_namespace(self, levels: Levels) -> None:
        """Take a namespace off the list; raises `no_namespace`, and `not_empty` if it holds something."""
        namespace = ".".join(levels)
        self.require(levels)
        inside = "SELECT 1 FROM iceberg_tables WHERE catalog_name = :catalog AND table_namespace = :namespace"
        if self.namespaces(levels) or self._ask(inside, namespace=namespace):
            raise self._refusals.not_empty(levels)
        with self._changing() as run:  # what comes in meanwhile keeps the namespace listed
            run(f"DELETE FROM iceberg_namespace_properties WHERE {_NAMESPACE}", namespace=namespace)

    # the database

    def _ask(self, query: str, **values: str) -> list[Any]:
        return self._database.ask(query, {"catalog": self._catalog, **values})

    @contextmanager
    def _changing(self) -> Iterator[Statement]:
        """Begin a transaction; what is there already raises `Taken`."""
        try:
            with self._database.change() as run:
                yield lambda statement, **values: run(statement, {"catalog": self._catalog, **values})
        except duplicate_errors():
            raise Taken from None


def _set_property(run: Statement, namespace: str, key: str, value: str) -> None:
    statement = "INSERT INTO iceberg_namespace_properties VALUES (:catalog, :namespace, :key, :value)"
    run(statement, namespace=namespace, key=key, value=value)
