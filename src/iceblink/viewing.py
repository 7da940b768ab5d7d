"""The words of a lake about views: queries that its catalog keeps by name."""

from __future__ import annotations

from collections.abc import Mapping

from iceblink.dataset import Dataset
from iceblink.lake.late import views
from iceblink.plan.sql import QueryText
from iceblink.run.session import Session
from iceblink.run.viewing import created_view


class Viewing:
    """Views in Iceberg's format: in embedded lakes, SQL databases and REST catalogs."""

    session: Session

    def create_view(
        self, name: str, query: str, *, replace: bool = False, properties: Mapping[str, str] | None = None
    ) -> Dataset:
        """Keep a query under a name; it is read as a table is, and runs anew each time.

        Eager: the query is checked, and its columns are kept. Names of tables in it are looked up in the catalog of the
        view unless they begin with another one's. Rows are those that its tables have when it is read.

        Parameters
        ----------
        name : str
            ``namespace.view``; the namespace is made if absent.
        query : str
            SQL.
        replace : bool
            Whether a view of that name becomes this one.
        properties : mapping of str to str, optional
            Such as ``comment``.

        Returns
        -------
        Dataset
            The view.

        Raises
        ------
        TableExists
            The name is taken.
        TypeMismatch
            A column is of a type that Iceberg does not have.
        CatalogError
            The catalog has no views.
        SqlError, TableNotFound, ColumnNotFound
        """
        made = created_view(self.session, name, QueryText(query), None, properties)
        views.create_view(self.session.catalog, made, replace)
        return Dataset(self.session.table(name), self.session)

    def drop_view(self, name: str) -> None:
        """Remove a view. Raises TableNotFound."""
        views.drop_view(self.session.catalog, name)

    def views(self, namespace: str | None = None) -> list[str]:
        """Return the full names of views, of one namespace or of all. Raises NamespaceNotFound."""
        inside = self.session.catalog.namespaces() if namespace is None else [namespace]
        return [name for one in inside for name in views.view_names(self.session.catalog, one)]
