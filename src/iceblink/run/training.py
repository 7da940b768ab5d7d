"""A table laid out for training: its tensors as bytes, its rows in a random order, in row groups of a window's size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from iceblink.casts import is_list_like
from iceblink.errors import ColumnNotFound, ConfigError, TypeMismatch, nearest
from iceblink.lake.codecs import CODEC_OF
from iceblink.lake.commit import Commit
from iceblink.lake.file_format import ROW_GROUP_ROWS
from iceblink.lake.format_version import check_writable
from iceblink.lake.replacement import Replacement, replaced
from iceblink.lake.table import Table
from iceblink.lake.tensors import STORAGE
from iceblink.plan.chance import shuffled
from iceblink.plan.nodes import Plan, Scan
from iceblink.run.data_files import written
from iceblink.run.session import Session
from iceblink.types import has_bytes, is_number, show_type

CODECS = {"lz4": "lz4", "zstd": "zstd", "none": "uncompressed"}
WHERE = "optimize"


@dataclass(frozen=True)
class TrainingLayout:
    """What `Lake.optimize` was asked for; see there."""

    embeddings: Mapping[str, int | tuple[int, ...]]
    row_group_rows: int
    codec: str
    seed: int
    shuffle: bool

    def __post_init__(self) -> None:
        if self.codec not in CODECS:
            raise ConfigError(f"no codec {self.codec!r}", WHERE, nearest(self.codec, CODECS, "codecs"))
        if self.row_group_rows < 1:
            raise ConfigError(f"row_group_rows is {self.row_group_rows}", WHERE, "one or more: 8192")


def laid_out(session: Session, name: str, layout: TrainingLayout) -> Scan:
    """Rewrite a table in one commit; see `Lake.optimize`."""
    table = session.catalog.load(name)
    check_writable(table)
    if layout.shuffle and table.sort_by:
        raise ConfigError(
            f"the table is sorted by {', '.join(table.sort_by)}: its rows cannot be shuffled",
            f"{WHERE} {name}",
            "shuffle=False keeps the order; a write with mode='replace' and no sort_by lets go of it",
        )
    to = _replacement(table, layout)
    made = replaced(table, to)
    plan: Plan = Scan.of(table)
    if layout.shuffle:
        plan = session.engine.query(*shuffled(plan, layout.seed))
    return Scan.of(Commit(made).replace(to, written(session, plan, made)).run())


def _replacement(table: Table, layout: TrainingLayout) -> Replacement:
    schema = table.schema
    for column, shape in layout.embeddings.items():
        if column not in schema.names:
            raise ColumnNotFound.of(column, schema.names, f"{WHERE} {table.name}, embeddings")
        field = schema.field(column)
        schema = schema.set(schema.names.index(column), field.with_type(_tensor(field, shape)))
    codecs = {f"{CODEC_OF}{field.name}": CODECS[layout.codec] for field in schema if has_bytes(field.type)}
    properties = {STORAGE: "fixed", ROW_GROUP_ROWS: str(layout.row_group_rows), **codecs}
    return Replacement(schema, table.partition_by, table.sort_by, properties)


def _tensor(field: pa.Field, shape: int | tuple[int, ...]) -> pa.DataType:
    """Return what an embedding becomes: lists of numbers are held to the shape when they are written."""
    sides = (shape,) if isinstance(shape, int) else tuple(shape)
    if not sides or min(sides) < 1:
        raise ConfigError(f"the shape of {field.name!r} is {shape}", f"{WHERE}, embeddings", "384, or (3, 224, 224)")
    inside = getattr(field.type, "value_type", None)
    tensor = isinstance(field.type, pa.FixedShapeTensorType) or is_list_like(field.type)
    if not tensor or not is_number(inside) or not has_bytes(pa.fixed_shape_tensor(inside, sides)):
        raise TypeMismatch(
            f"column {field.name!r} is {show_type(field.type)}, not lists of numbers",
            f"{WHERE}, embeddings",
            "name columns of list<float>, list<int> or the like",
        )
    return pa.fixed_shape_tensor(inside, sides)
