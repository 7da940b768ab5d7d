"""Ray datasets of ours, and ours of theirs."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.data.extensions import ArrowTensorType, ArrowTensorTypeV2

from iceblink.errors import FunctionError, IceblinkError, SchemaMismatch, TypeMismatch
from iceblink.neighbours.ray_datasource import IceblinkDatasource
from iceblink.plan.nodes import Plan
from iceblink.run.local_engine import LocalEngine
from iceblink.run.parts import TASK_BYTES, Parts
from iceblink.run.ray.joining import Membership
from iceblink.run.ray.ray_engine import RayEngine
from iceblink.types import conform

TASKS_A_CPU = 2


def to_ray(plan: Plan, engine: LocalEngine, tasks: int | None, options: dict[str, Any]) -> ray.data.Dataset:
    """Return a Ray dataset of the rows of `plan`; see `Dataset.to_ray`."""
    if isinstance(engine, RayEngine):
        engine.backend().close()  # it joins its cluster, if it had nothing to do there yet
    elif not ray.is_initialized():
        Membership(engine.settings)  # for the life of this process
    if (parts := Parts.of(plan, engine.settings)) is not None:
        count = tasks or len(parts.by_bytes(int(TASKS_A_CPU * ray.cluster_resources().get("CPU", 1))))
        source = IceblinkDatasource(plan, engine.settings, parts)
        return ray.data.read_datasource(source, override_num_blocks=count, **options)
    with closing(engine.batches(plan)) as batches:
        blocks = [ray.put(block) for block in _blocks((batch.data for batch in batches), plan.schema)]
    return ray.data.from_arrow_refs(blocks)


def _blocks(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.Table]:
    """Yield tables of at most `TASK_BYTES` or one batch; an empty one when there are no rows."""
    held: list[pa.RecordBatch] = []
    size, yielded = 0, False
    for batch in batches:
        if held and size + batch.nbytes > TASK_BYTES:
            yield pa.Table.from_batches(held, schema)
            held, size, yielded = [], 0, True
        held.append(batch)
        size += batch.nbytes
    if held or not yielded:
        yield pa.Table.from_batches(held, schema)


def from_ray(dataset: Any) -> tuple[pa.Schema, Callable[[], pa.RecordBatchReader]]:
    """Return the schema of a Ray dataset, and what runs it and streams its rows.

    Raises
    ------
    TypeMismatch
        It is no Ray dataset, or a column has pickled Python objects or tensors of several shapes.
    """
    if not isinstance(dataset, ray.data.Dataset):
        raise TypeMismatch(f"{type(dataset).__name__} is no ray.data.Dataset", "from_ray")
    with _said_plainly():
        found = dataset.schema()
    if found is None:
        raise SchemaMismatch("the Ray dataset has no rows and says no schema", "from_ray")
    fields = [pa.field(name, _arrow_type(name, dtype)) for name, dtype in zip(found.names, found.types, strict=True)]
    schema = pa.schema(fields)
    return schema, lambda: pa.RecordBatchReader.from_batches(schema, _rows(dataset, schema))


def _arrow_type(name: str, dtype: Any) -> pa.DataType:
    if isinstance(dtype, ArrowTensorType | ArrowTensorTypeV2):
        return pa.fixed_shape_tensor(dtype.value_type, dtype.shape)
    if not isinstance(dtype, pa.DataType) or isinstance(dtype, pa.ExtensionType):
        raise TypeMismatch(
            f"column {name!r} is {dtype}", "from_ray", "give it one Arrow type in the last step of the Ray dataset"
        )
    return dtype


def _rows(dataset: ray.data.Dataset, schema: pa.Schema) -> Generator[pa.RecordBatch, None, None]:
    """Run it, one block after the other, each held to the schema."""
    with _said_plainly():
        for number, block in enumerate(dataset.iter_batches(batch_format="pyarrow", batch_size=None)):
            where = f"block {number} of the Ray dataset"
            for batch in block.to_batches():
                yield conform(_plain(batch), schema, where)


@contextmanager
def _said_plainly() -> Iterator[None]:
    """Raise what Ray says of blocks that do not go together, and what failed in its tasks, as errors of ours."""
    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        hint = "give all blocks one schema in the last step of the Ray dataset"
        raise SchemaMismatch(f"its blocks have different schemas: {error}", "from_ray", hint) from error
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, IceblinkError):
            raise cause from error
        told = [line for line in str(error).splitlines() if re.match(r"\w[\w.]*(Error|Exception)\b.*: ", line)]
        raise FunctionError((told or [type(error).__name__])[0], "a task of the Ray dataset") from error


def _plain(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return tensors of Ray as those of Arrow, without a copy of their values."""
    arrays = []
    for field, array in zip(batch.schema, batch.columns, strict=True):
        if isinstance(field.type, ArrowTensorType | ArrowTensorTypeV2):
            dtype = pa.fixed_shape_tensor(field.type.value_type, field.type.shape)
            array = pa.ExtensionArray.from_storage(dtype, array.storage.cast(dtype.storage_type))
        arrays.append(array)
    return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)
