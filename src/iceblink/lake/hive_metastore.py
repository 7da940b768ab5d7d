"""A Hive metastore: PyIceberg's catalog, with what a lake needs of it besides.

PyIceberg has one connection for all threads, takes the first of several addresses whether it answers or not, waits for
a lock for seconds at a time and then leaves the queue, and removes no files.
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from hive_metastore.ThriftHiveMetastore import Client
from hive_metastore.ttypes import (
    CheckLockRequest,
    InvalidObjectException,
    InvalidOperationException,
    LockResponse,
    LockState,
)
from pyiceberg.catalog import URI, MetastoreCatalog
from pyiceberg.catalog.hive import HiveCatalog
from pyiceberg.exceptions import BadRequestError, CommitFailedException, WaitingForLockException
from pyiceberg.table import CommitTableResponse, StagedTable, Table
from pyiceberg.table.update import TableRequirement, TableUpdate
from pyiceberg.typedef import EMPTY_DICT, Identifier, Properties
from thrift.transport.TTransport import TTransportException

from iceblink.errors import CatalogError

LOCK_S = 30.0
"""How long a commit waits in the queue for a table's lock [s]; whoever leaves the queue is last in it the next time."""
ASKED_S = 0.1
"""About how often it asks whether it is its turn [s]."""
_SETTING = "; it lets Iceberg change columns with hive.metastore.disallow.incompatible.col.type.changes=false"
_NAME = re.compile(r"[A-Za-z0-9_]+")


class HiveMetastore(HiveCatalog):
    """PyIceberg's catalog of a Hive metastore, for any number of threads.

    Parameters
    ----------
    name : str
    properties : str
        As PyIceberg has them. ``uri`` may have several addresses, ``thrift://a:9083,thrift://b:9083``: each time the
        first that answers is taken.
    """

    def __init__(self, name: str, **properties: str) -> None:
        super().__init__(name, **properties)
        self._client: Any = _Connections(properties)

    def create_namespace(self, namespace: str | Identifier, properties: Properties = EMPTY_DICT) -> None:
        """Make a database; CatalogError when Hive takes no such name."""
        _check(self.identifier_to_tuple(namespace), "a namespace of one part")
        super().create_namespace(namespace, properties)

    def rename_table(self, from_identifier: str | Identifier, to_identifier: str | Identifier) -> Table:
        """Give a table another name; CatalogError when Hive takes no such name."""
        _check(self.identifier_to_tuple(to_identifier), "namespace.table")
        return super().rename_table(from_identifier, to_identifier)

    def _create_staged_table(self, identifier: str | Identifier, *arguments: Any, **named: Any) -> StagedTable:
        _check(self.identifier_to_tuple(identifier), "namespace.table")
        return super()._create_staged_table(identifier, *arguments, **named)

    def commit_table(
        self, table: Table, requirements: tuple[TableRequirement, ...], updates: tuple[TableUpdate, ...]
    ) -> CommitTableResponse:
        """Commit; BadRequestError when the metastore says a "no" that stays one."""
        try:
            return super().commit_table(table, requirements, updates)
        except (InvalidObjectException, InvalidOperationException) as error:
            said = " ".join(error.message.split())
            raise BadRequestError(said + _SETTING * ("incompatible" in said)) from error

    def _wait_for_lock(self, database_name: str, table_name: str, lockid: int, open_client: Client) -> LockResponse:
        deadline = time.monotonic() + LOCK_S
        while (answer := open_client.check_lock(CheckLockRequest(lockid=lockid))).state == LockState.WAITING:
            if time.monotonic() > deadline:
                raise WaitingForLockException(f"others hold the lock of {database_name}.{table_name}")
            time.sleep(ASKED_S * random.uniform(0.5, 1.5))
        if answer.state != LockState.ACQUIRED:
            raise CommitFailedException(f"the lock of {database_name}.{table_name} was not given: {answer.state}")
        return answer

    def purge_table(self, identifier: str | Identifier) -> None:
        """Remove a table with its files, as PyIceberg's other catalogs do."""
        MetastoreCatalog.purge_table(self, identifier)


def _check(identifier: Identifier, form: str) -> None:
    if len(identifier) > form.count(".") + 1 or not all(_NAME.fullmatch(part) for part in identifier):
        hint = f"Hive wants {form}, of letters A to Z, digits and _; it makes small letters of large ones"
        raise CatalogError(f"{'.'.join(identifier)!r} is no name in a Hive metastore", "", hint)


class _Connections:
    """Stands where PyIceberg has its one connection: each ``with`` has one of its own."""

    def __init__(self, properties: Mapping[str, str]) -> None:
        self._properties = properties
        self._open = threading.local()

    def __enter__(self) -> Client:
        failure: Exception | None = None
        for uri in self._properties[URI].split(","):
            connection: Any = HiveCatalog._create_hive_client({**self._properties, URI: uri.strip()})
            try:
                client = connection.__enter__()
            except TTransportException as error:
                failure = error
                continue
            self._open.stack = [*getattr(self._open, "stack", []), connection]
            return client
        assert failure is not None
        raise failure

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        *self._open.stack, connection = self._open.stack
        connection.__exit__(kind, error, trace)
