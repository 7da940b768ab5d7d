"""Updates of a table as clients send them, made exact: ids are given by the catalog, and nothing is there twice.

PyIceberg applies what it is sent by its own client; others leave ids out, send what is there already, or mean "the one
added last".

References
----------
.. [1] Iceberg REST catalog, ``TableUpdate``; Iceberg table spec, "Schemas", "Partition Evolution", "Sorting".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pyiceberg.partitioning import PARTITION_FIELD_ID_START, PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import CommitTableRequest
from pyiceberg.table.metadata import TableMetadata, TableMetadataV3
from pyiceberg.table.sorting import SortOrder
from pyiceberg.table.update import (
    AddPartitionSpecUpdate,
    AddSchemaUpdate,
    AddSnapshotUpdate,
    AddSortOrderUpdate,
    AssignUUIDUpdate,
    RemovePropertiesUpdate,
    SetCurrentSchemaUpdate,
    SetDefaultSortOrderUpdate,
    SetDefaultSpecUpdate,
    SetPropertiesUpdate,
    TableRequirement,
    TableUpdate,
    UpgradeFormatVersionUpdate,
)

from iceblink.lake.served.refusal import Refusal
from iceblink.lake.served.requests import items, parsed
from iceblink.lake.upgrade import UpgradeToThird

WRITTEN_VERSIONS = (1, 2, 3)
"""Of the table format."""

LAST_ADDED = -1


def parse_commit(
    namespace: Sequence[str], name: str, body: Mapping[str, Any]
) -> tuple[tuple[TableRequirement, ...], tuple[TableUpdate, ...]]:
    """Return the requirements and the updates of a ``CommitTableRequest`` for a table of that name.

    Raises
    ------
    Refusal
        400: one of them is unknown or incomplete.
    """
    updates = items(body, "updates")
    for one in updates:
        if isinstance(one, dict) and one.get("action") == "add-spec":
            number_fields(one.get("spec"))
    sent = {
        "identifier": {"namespace": list(namespace), "name": name},
        "requirements": items(body, "requirements"),
        "updates": updates,
    }
    read = parsed(CommitTableRequest.model_validate, sent, "the commit")
    return read.requirements, read.updates


def number_fields(spec: Any) -> None:
    """Give fields of a partition spec that came without ids negative ones, to be replaced."""
    if not isinstance(spec, dict):
        return
    if spec.get("spec-id") is None:
        spec.pop("spec-id", None)
    fields = spec.get("fields")
    for place, field in enumerate(fields if isinstance(fields, list) else ()):
        if isinstance(field, dict) and field.get("field-id") is None:
            field["field-id"] = -1 - place


def exact(base: TableMetadata | None, updates: Sequence[TableUpdate]) -> tuple[TableUpdate, ...]:
    """Return the updates with every id said, and without those that change nothing.

    Parameters
    ----------
    base : TableMetadata or None
        What they are for; None for a table that they make.
    updates : sequence of TableUpdate

    Raises
    ------
    Refusal
        400 for what cannot be, 406 for a format version that is not written, 409 for a snapshot that others overtook:
        they took its sequence number, or the ids of its rows.
    """
    ids = _Ids(base)
    return tuple(made for update in updates for made in ids.exact(update))


class _Ids:
    def __init__(self, base: TableMetadata | None) -> None:
        self._base = base
        self._schemas: list[Schema] = [] if base is None else list(base.schemas)
        self._specs: list[PartitionSpec] = [] if base is None else list(base.partition_specs)
        self._orders: list[SortOrder] = [] if base is None else list(base.sort_orders)
        self._properties = set() if base is None else set(base.properties)
        self._last: dict[str, int] = {}
        self._third = isinstance(base, TableMetadataV3)
        self._next_row_id = (base.next_row_id or 0) if isinstance(base, TableMetadataV3) else 0

    def exact(self, update: TableUpdate) -> Iterator[TableUpdate]:
        match update:
            case AssignUUIDUpdate():
                if self._base is not None and update.uuid != self._base.table_uuid:
                    raise Refusal.bad("a table keeps its uuid")
                yield update
            case UpgradeFormatVersionUpdate():
                if update.format_version not in WRITTEN_VERSIONS:
                    raise Refusal.unsupported(f"tables of format version {update.format_version} cannot be written")
                if update.format_version < 3:
                    yield update
                else:
                    self._third = True
                    yield UpgradeToThird.model_validate({"format-version": 3})
            case AddSchemaUpdate():
                yield from self._add_schema(update)
            case SetCurrentSchemaUpdate():
                yield update.model_copy(update={"schema_id": self._meant("schema", update.schema_id)})
            case AddPartitionSpecUpdate():
                yield from self._add_spec(update.spec)
            case SetDefaultSpecUpdate():
                yield update.model_copy(update={"spec_id": self._meant("spec", update.spec_id)})
            case AddSortOrderUpdate():
                yield from self._add_order(update)
            case SetDefaultSortOrderUpdate():
                yield update.model_copy(update={"sort_order_id": self._meant("sort order", update.sort_order_id)})
            case SetPropertiesUpdate():
                self._properties |= set(update.updates)
                yield update
            case RemovePropertiesUpdate():
                there = [name for name in dict.fromkeys(update.removals) if name in self._properties]
                self._properties -= set(there)
                yield RemovePropertiesUpdate(removals=there)
            case AddSnapshotUpdate():
                self._check_order(update)
                if self._third:
                    self._take_row_ids(update)
                yield update
            case _:
                yield update

    def _meant(self, what: str, given: int) -> int:
        if given != LAST_ADDED:
            return given
        if what not in self._last:
            raise Refusal.bad(f"no {what} was added that could be meant by {LAST_ADDED}")
        return self._last[what]

    def _add_schema(self, update: AddSchemaUpdate) -> Iterator[TableUpdate]:
        schema = update.schema_
        same = [one.schema_id for one in self._schemas if one == schema]
        if not same:
            free = _free([one.schema_id for one in self._schemas], schema.schema_id)
            schema = schema.model_copy(update={"schema_id": free})
            self._schemas.append(schema)
            yield update.model_copy(update={"schema_": schema})
        self._last["schema"] = same[0] if same else schema.schema_id

    def _add_spec(self, spec: PartitionSpec) -> Iterator[TableUpdate]:
        there = [field for one in self._specs for field in one.fields]
        given = {(field.source_id, str(field.transform)): field.field_id for field in there}
        taken = {field.field_id for field in there}
        last = None if self._base is None else self._base.last_partition_id
        highest = max([*taken, PARTITION_FIELD_ID_START - 1, *([] if last is None else [last])])
        fields: dict[int, PartitionField] = {}
        for field in spec.fields:
            known, field_id = given.get((field.source_id, str(field.transform))), field.field_id
            if field_id < 0 or field_id in fields or (field_id != known and field_id in taken):
                field_id = known if known is not None and known not in fields else highest + 1
            fields[field_id] = field.model_copy(update={"field_id": field_id})
            highest = max(highest, field_id)
        same = [one.spec_id for one in self._specs if one.fields == tuple(fields.values())]
        if not same:
            free = _free([one.spec_id for one in self._specs], spec.spec_id)
            spec = PartitionSpec(*fields.values(), spec_id=free)
            self._specs.append(spec)
            yield AddPartitionSpecUpdate(spec=spec)
        self._last["spec"] = same[0] if same else spec.spec_id

    def _add_order(self, update: AddSortOrderUpdate) -> Iterator[TableUpdate]:
        order = update.sort_order
        same = [one.order_id for one in self._orders if one.fields == order.fields]
        if not same:
            taken = [one.order_id for one in self._orders]
            free = _free([0, *taken], order.order_id) if order.fields else 0  # 0 is the order of no order
            order = SortOrder(*order.fields, order_id=free)
            self._orders.append(order)
            yield update.model_copy(update={"sort_order": order})
        self._last["sort order"] = same[0] if same else order.order_id

    def _check_order(self, update: AddSnapshotUpdate) -> None:
        """Refuse a snapshot numbered before others committed, to a branch of their own perhaps: it can be made anew."""
        if self._base is None or self._base.format_version == 1 or update.snapshot.parent_snapshot_id is None:
            return
        number, last = update.snapshot.sequence_number, self._base.last_sequence_number
        if number is not None and number <= last:
            raise Refusal.conflict(f"sequence number {number} is taken: the last one is {last}")

    def _take_row_ids(self, update: AddSnapshotUpdate) -> None:
        """Let a snapshot have the row ids that it says, if they are the next ones: no two rows may share one."""
        first, count = update.snapshot.first_row_id, update.snapshot.added_rows
        if first is None or count is None or count < 0:
            raise Refusal.bad("a snapshot of format version 3 says 'first-row-id' and 'added-rows'")
        if first < self._next_row_id:
            raise Refusal.conflict(f"row id {first} is taken: the next one is {self._next_row_id}")
        if first > self._next_row_id:
            raise Refusal.bad(f"'first-row-id' is {first}, and the table's next row id is {self._next_row_id}")
        self._next_row_id += count


def _free(taken: Sequence[int], wanted: int) -> int:
    """Return an id that is not taken: the wanted one if it can be, else the next after all others."""
    return max(taken, default=-1) + 1 if wanted in taken or wanted < 0 else wanted
