"""A table altered in place: columns, partitioning, sort order and properties change together, in one commit.

References
----------
.. [1] Iceberg table spec, "Schema Evolution", "Partition Evolution" and "Sorting".
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import pyarrow as pa
from pyiceberg.exceptions import ResolveError, ValidationError
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Transaction
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.update import (
    AssertCurrentSchemaId,
    AssertDefaultSortOrderId,
    AssertDefaultSpecId,
    TableRequirement,
    TableUpdate,
)
from pyiceberg.transforms import VoidTransform
from pyiceberg.types import (
    DecimalType,
    DoubleType,
    FloatType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    NestedField,
    StructType,
)

from iceblink.errors import ColumnNotFound, ConfigError, DuplicateColumn, PlanError, TypeMismatch, nearest
from iceblink.lake.change import change
from iceblink.lake.defaults import Value, asked_default, has_default, with_default
from iceblink.lake.format_version import PROPERTY, check_defaults, check_types, upgrade_asked
from iceblink.lake.replacement import order_updates, spec_updates
from iceblink.lake.schemas import Beside, arrow_type, iceberg_schema, tensor_properties
from iceblink.lake.table import Table
from iceblink.lake.tensors import PROPERTY as TENSOR
from iceblink.lake.tensors import stored_fixed
from iceblink.lake.transforms import parse_partition, parse_sort, show_partition, show_sort
from iceblink.lake.upgrade import stage_upgrade
from iceblink.types import parse_field, show_type, storable

ColumnType: TypeAlias = "str | pa.DataType | pa.Field"
"""A type in words, or Arrow's; a field for one with a comment inside."""


@dataclass(frozen=True)
class Alteration:
    """What of a table is to change; names are those before the change, of nested fields dotted (``"address.zip"``).

    Inside lists and maps a field is below ``element`` or ``value``: ``"points.element.x"``. A name that no column has
    stands for the one that differs in case alone.

    Parameters
    ----------
    add : mapping of str to type
        As in `Catalog.create`; at the end of the table, or of the struct that the name is in.
    drop : tuple of str
    rename : mapping of str to str
        From names before to last names after: ``{"address.zip": "postcode"}``.
    types : mapping of str to type
        What widens: int to long, float to double, a decimal to more digits before the point.
    optional : tuple of str
        Columns that may be null from now on.
    defaults : mapping of str to (str, number, bool, bytes or None)
        What columns have in rows that a write gives no value; of columns that are added, in rows that are there, too.
        None is null. Format version 3 has them.
    comments : mapping of str to str or None
    move : mapping of str to str
        ``"first"``, or ``"after id"``: within the same struct.
    partition_by, sort_by : tuple of str, optional
        Of new files, in the words of `Catalog.create`. Default: as they are.
    add_partitions, drop_partitions : tuple of str
        Partition fields to add to those there are, and to take away, which may also be called by their names.
    properties : mapping of str to str or None
        None takes one away. A later ``format-version`` upgrades the table.
    """

    add: Mapping[str, ColumnType] = field(default_factory=dict)
    drop: tuple[str, ...] = ()
    rename: Mapping[str, str] = field(default_factory=dict)
    types: Mapping[str, ColumnType] = field(default_factory=dict)
    optional: tuple[str, ...] = ()
    defaults: Mapping[str, Value | None] = field(default_factory=dict)
    comments: Mapping[str, str | None] = field(default_factory=dict)
    move: Mapping[str, str] = field(default_factory=dict)
    partition_by: tuple[str, ...] | None = None
    sort_by: tuple[str, ...] | None = None
    add_partitions: tuple[str, ...] = ()
    drop_partitions: tuple[str, ...] = ()
    properties: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def of_columns(self) -> bool:
        """Whether columns change."""
        changed = (self.add, self.drop, self.rename, self.types, self.optional, self.defaults, self.comments, self.move)
        return any(changed)


def altered(table: Table, to: Alteration) -> Table:
    """Make the change in one commit, and return the table after it.

    Eager. Tried again, and checked again, on top of what others committed meanwhile.

    Raises
    ------
    ColumnNotFound, DuplicateColumn, TypeMismatch
        A name or a type does not fit.
    PlanError, ConfigError
        A column that partitions or sorts the table cannot go; a word or a property cannot be.
    CommitConflict, CommitUnknown, TableNotFound, WriteError
    """
    return change(table, lambda transaction: _stage(transaction, to, table.name), _shape)


def _shape(metadata: TableMetadata) -> object:
    schema = metadata.schema()
    version = metadata.format_version
    return version, schema.fields, metadata.spec().fields, metadata.sort_order().fields, dict(metadata.properties)


def _stage(transaction: Transaction, to: Alteration, where: str) -> None:
    """Stage all of the change, checked against the metadata of the transaction."""
    asked = {key: value for key, value in to.properties.items() if value is not None}
    later = upgrade_asked(transaction.table_metadata.format_version, asked, where)
    if later is not None:
        stage_upgrade(transaction, later)
    now = transaction.table_metadata
    updates: tuple[TableUpdate, ...] = ()
    requirements: tuple[TableRequirement, ...] = ()
    schema, shapes = now.schema(), dict[str, str]()
    if to.of_columns:
        columns = _Columns(transaction, where)
        updates, requirements = columns.staged(to)
        schema, shapes = columns.schema, columns.shapes()
    partitions = _partition_words(to, now, where)
    if partitions is None:
        shown = show_partition(now.spec(), now.schema())
        _check_kept("partition", zip(shown, _live(now.spec()), strict=True), schema, where)
    else:
        more, also = spec_updates(now, parse_partition(partitions, schema))
        updates, requirements = updates + more, requirements + also
    if to.sort_by is None:
        shown = show_sort(now.sort_order(), now.schema())
        _check_kept("sort", zip(shown, now.sort_order().fields, strict=True), schema, where)
    else:
        more, also = order_updates(now, parse_sort(to.sort_by, schema))
        updates, requirements = updates + more, requirements + also
    given, gone = _properties(to.properties, now, where)
    if updates:
        transaction._apply(updates, (*requirements, *_same_shape(now)))
    if given | shapes:
        transaction.set_properties(given | shapes)
    if gone:
        transaction.remove_properties(*gone)


def _same_shape(now: TableMetadata) -> tuple[TableRequirement, ...]:
    """Return what must hold so that columns, partitioning and order still fit each other."""
    return (
        AssertCurrentSchemaId.model_validate({"current-schema-id": now.current_schema_id}),
        AssertDefaultSpecId.model_validate({"default-spec-id": now.default_spec_id}),
        AssertDefaultSortOrderId.model_validate({"default-sort-order-id": now.default_sort_order_id}),
    )


def _partition_words(to: Alteration, now: TableMetadata, where: str) -> Sequence[str] | None:
    if not to.add_partitions and not to.drop_partitions:
        return to.partition_by
    kept = dict(zip((one.name for one in _live(now.spec())), show_partition(now.spec(), now.schema()), strict=True))
    for word in to.drop_partitions:
        asked = kept.get(word) or show_partition(parse_partition([word], now.schema()), now.schema())[0]
        if asked not in kept.values():
            hint = nearest(word, {*kept, *kept.values()}, "partition fields")
            raise ConfigError(f"the table has no partition field {word!r}", where, hint)
        kept = {name: other for name, other in kept.items() if other != asked}
    return [*kept.values(), *to.add_partitions]


def _live(spec: PartitionSpec) -> list[Any]:
    return [one for one in spec.fields if not isinstance(one.transform, VoidTransform)]


def _check_kept(verb: str, fields: Iterable[tuple[str, Any]], schema: Schema, where: str) -> None:
    """Refuse if a column is gone by which files are partitioned or sorted."""
    for word, one in fields:
        if schema.find_column_name(one.source_id) is None:
            hint = f"give another {verb}_by in the same change, or change that first"
            raise PlanError(f"the column of {word!r} cannot be dropped: it {verb}s the table", where, hint)


def _properties(
    wanted: Mapping[str, str | None], now: TableMetadata, where: str
) -> tuple[dict[str, str], tuple[str, ...]]:
    given = {key: str(value) for key, value in wanted.items() if value is not None}
    gone = tuple(key for key, value in wanted.items() if value is None)
    for key in gone:
        if key not in now.properties:
            raise ConfigError(f"no property {key!r}", where, nearest(key, now.properties, "properties"))
        if key.startswith(TENSOR):
            raise ConfigError(f"{key!r} says what a column is", where, "cast the column, or drop it")
    given.pop(PROPERTY, None)  # not for the table to keep
    stored_fixed((), given)
    return given, gone


class _Columns:
    """The columns of a table, and what PyIceberg is told of their change."""

    def __init__(self, transaction: Transaction, where: str) -> None:
        self._now = transaction.table_metadata
        self._update = transaction.update_schema()
        self._where = where
        self._added: dict[str, pa.Field] = {}
        self.schema: Schema = self._now.schema()

    def staged(self, to: Alteration) -> tuple[tuple[TableUpdate, ...], tuple[TableRequirement, ...]]:
        """Return the updates that make the change."""
        try:
            gone = [self._path(name) for name in to.drop]
            self._check_some_stay(gone, to)
            for path in gone:
                self._update.delete_column(path)
            for name, new in to.rename.items():
                self._rename(self._path(name), new, gone, [self._path(other) for other in to.rename])
            for name, kind in to.types.items():
                self._widen(self._path(name), kind)
            for name in to.optional:
                self._update.make_column_optional(self._path(name))
            for name, kind in to.add.items():
                self._add(name, kind, to.comments.get(name), to.defaults.get(name), gone)
            for name, value in to.defaults.items():
                if name not in to.add:
                    self._default(self._path(name), value)
            for name, comment in to.comments.items():
                if name not in to.add:
                    self._update.update_column(self._path(name), doc=comment or "")
            for name, place in to.move.items():
                self._move(name, place)
            self.schema = self._update._apply()
            return self._update._commit()
        except (ValueError, ResolveError, ValidationError) as error:
            if isinstance(error, PlanError | ConfigError):
                raise
            raise PlanError(f"the columns cannot be changed so: {error}", self._where) from error

    def shapes(self) -> dict[str, str]:
        """Return the properties that say which of the added columns are tensors."""
        top = [one for path, one in self._added.items() if path == one.name]
        return tensor_properties(pa.schema(top), self.schema)

    def _path(self, name: str) -> str:
        """Return the name as the table has it."""
        names = self._now.schema().column_names
        if name in names:
            return name
        same = [other for other in names if other.lower() == name.lower()]
        if len(same) != 1:
            raise ColumnNotFound.of(name, [*names, *self._added], self._where)
        return same[0]

    def _found(self, path: str) -> NestedField:
        return self._now.schema().find_field(path)

    def _siblings(self, path: str) -> dict[str, str]:
        """Return the fields beside the one of that path, its own among them: last names by paths."""
        parent = self._parent(path)
        fields = self._struct(parent).fields if parent else self._now.schema().fields
        return {f"{parent}.{one.name}" if parent else one.name: one.name for one in fields}

    def _parent(self, path: str) -> str:
        top = any(one.name == path for one in self._now.schema().fields)  # its name may have dots
        return "" if top else path.rpartition(".")[0]

    def _struct(self, path: str) -> StructType:
        kind = self._found(path).field_type
        if isinstance(kind, ListType):
            kind = kind.element_type
        elif isinstance(kind, MapType):
            kind = kind.value_type
        if not isinstance(kind, StructType):
            raise TypeMismatch(f"{path!r} is {self._shown(kind)}, which has no fields", self._where)
        return kind

    def _check_some_stay(self, gone: Collection[str], to: Alteration) -> None:
        grown = {name.rpartition(".")[0].lower() for name in to.add}
        for path in gone:
            parent = self._parent(path)
            if parent.lower() not in grown and set(self._siblings(path)) <= set(gone):
                what = f"struct {parent!r} would have no fields" if parent else "a table has at least one column"
                raise PlanError(what, self._where, "drop the struct" if parent else "add another in the same change")

    def _rename(self, path: str, new: str, gone: Collection[str], renamed: Collection[str]) -> None:
        if not new:
            raise PlanError("a column has no name", self._where, "give each column a name")
        taken = {name for other, name in self._siblings(path).items() if other not in {*gone, *renamed}}
        if new in taken:
            raise DuplicateColumn(f"there is a column {new!r} already", self._where, "drop or rename it as well")
        self._update.rename_column(path, new)

    def _widen(self, path: str, kind: ColumnType) -> None:
        found, wanted = self._found(path), self._field(path, kind)
        (stored,) = iceberg_schema(storable(pa.schema([wanted]), (), self._now.format_version >= 3)).fields
        if f"{TENSOR}{found.field_id}" in self._now.properties or not _widens(found.field_type, stored.field_type):
            raise TypeMismatch(
                f"{path!r} is {self._shown(found.field_type)} and cannot become {show_type(wanted.type)}",
                self._where,
                "int becomes long, float double, a decimal one of more digits; for all else add a column, or replace "
                "the table",
            )
        if found.optional and not wanted.nullable:
            hint = "rows that are there may have nulls: replace the table by rows without them"
            raise PlanError(f"{path!r} cannot become required", self._where, hint)
        self._update.update_column(path, field_type=stored.field_type)

    def _default(self, path: str, value: Value | None) -> None:
        found = self._found(path)
        wanted = with_default(pa.field(path, arrow_type(found.field_type, Beside())), value)
        check_defaults(pa.schema([wanted]), str(self._now.format_version))
        self._update.set_default_value(path, asked_default(wanted, found.field_type))

    def _add(
        self, name: str, kind: ColumnType, comment: str | None, default: Value | None, gone: Collection[str]
    ) -> None:
        parent, _, last = name.rpartition(".")
        path = f"{self._path(parent)}.{last}" if parent else last
        wanted = with_default(self._field(last, kind), default)
        check_defaults(pa.schema([wanted]), str(self._now.format_version))
        if not wanted.nullable and not has_default(wanted):
            hint = "rows that are there have no value for it: leave NOT NULL out, or give a DEFAULT"
            raise PlanError(f"column {name!r} cannot be added as required", self._where, hint)
        if path in self._added or (path in self._now.schema().column_names and path not in gone):
            raise DuplicateColumn(f"there is a column {path!r} already", self._where, "choose another name")
        if parent:
            self._struct(self._path(parent))
        fixed = stored_fixed([last], self._now.properties)
        stored = storable(pa.schema([wanted]), fixed, self._now.format_version >= 3)
        (new,) = iceberg_schema(stored, fixed).fields
        if parent and tensor_properties(stored, Schema(new)):
            raise TypeMismatch(f"{name!r} cannot be a tensor: these are columns, not fields", self._where)
        value, said = asked_default(wanted, new.field_type), comment or new.doc
        place = tuple(path.split(".")) if parent else (path,)
        self._update.add_column(place, new.field_type, said, not wanted.nullable, value)
        self._added[path] = stored.field(0)

    def _move(self, name: str, place: str) -> None:
        path = name if name in self._added else self._path(name)
        if place == "first":
            self._update.move_first(path)
            return
        word, _, other = place.partition(" ")
        if word != "after" or not other:
            raise ConfigError(f"no place {place!r}", self._where, "write 'first' or 'after id'")
        parent = self._parent(path)
        after = other if "." in other or not parent else f"{parent}.{other}"
        self._update.move_after(path, after if after in self._added else self._path(after))

    def _field(self, name: str, kind: ColumnType) -> pa.Field:
        if isinstance(kind, pa.Field):
            return kind
        made = parse_field(name, kind) if isinstance(kind, str) else pa.field(name, kind)
        check_types(pa.schema([made]), str(self._now.format_version))
        return made

    def _shown(self, kind: IcebergType) -> str:
        return show_type(arrow_type(kind, Beside()))


def _widens(now: IcebergType, to: IcebergType) -> bool:
    match now, to:
        case (IntegerType(), LongType()) | (FloatType(), DoubleType()):
            return True
        case DecimalType() as one, DecimalType() as other:
            return one.scale == other.scale and one.precision <= other.precision
        case _:
            return bool(now == to and now.is_primitive)


def without_missing(table: Table, to: Alteration) -> Alteration:
    """Return the change without the columns to drop and properties to take away that the table does not have."""
    names = {name.lower() for name in table.iceberg_schema.column_names}
    properties = {key: value for key, value in to.properties.items() if value is not None or key in table.properties}
    return replace(to, drop=tuple(name for name in to.drop if name.lower() in names), properties=properties)


def without_present(table: Table, to: Alteration) -> Alteration:
    """Return the change without the columns to add that the table has."""
    names = {name.lower() for name in table.iceberg_schema.column_names}
    return replace(to, add={name: kind for name, kind in to.add.items() if name.lower() not in names})
