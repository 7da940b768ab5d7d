"""What an object says of itself: the schema it promises for its input, and the CPUs that a call takes."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from iceblink.dataset import Dataset
from iceblink.errors import BatchContractBroken, ColumnNotFound, FunctionError, PlanError
from iceblink.lakehouse import connect
from iceblink.plan.function import pure_python


class Doubled:
    """Adds twice the column `name`; counts its calls."""

    cpus = 0.25

    def __init__(self, name: str) -> None:
        self.name = name
        self.calls = 0

    def output_schema(self, schema: pa.Schema) -> pa.Schema:
        if self.name not in schema.names:
            raise ColumnNotFound.of(self.name, schema.names, "Doubled")
        return schema.append(pa.field("double", schema.field(self.name).type))

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        self.calls += 1
        column = batch[self.name]
        return batch.append_column("double", pa.array([2 * value for value in column.to_pylist()], column.type))


@pytest.fixture
def rows(tmp_path: Path) -> Dataset:
    return connect(str(tmp_path)).from_arrow(pa.table({"x": pa.array([1, 2], pa.int32())}))


def test_the_promised_schema_is_known_without_a_call_and_kept(rows: Dataset) -> None:
    target = Doubled("x")
    doubled = rows.map_batches(target)
    assert doubled.schema == pa.schema({"x": pa.int32(), "double": pa.int32()})
    assert target.calls == 0
    assert doubled.to_pylist() == [{"x": 1, "double": 2}, {"x": 2, "double": 4}]


def test_promises_go_through_a_chain(rows: Dataset) -> None:
    chain = rows.map_batches(Doubled("x")).rename(y="double").map_batches(Doubled("y"))
    assert chain.to_pylist()[1] == {"x": 2, "y": 4, "double": 8}


def test_a_column_that_is_not_there_is_found_where_it_is_written(rows: Dataset) -> None:
    with pytest.raises(ColumnNotFound):
        rows.map_batches(Doubled("y"))


def test_a_promise_that_is_not_kept_is_a_broken_contract(rows: Dataset) -> None:
    class Boast(Doubled):
        def output_schema(self, schema: pa.Schema) -> Any:
            return {"x": "int", "triple": "int"}

    with pytest.raises(BatchContractBroken, match="'triple' is missing"):
        rows.map_batches(Boast("x")).count()


def test_an_error_in_output_schema_is_told_with_its_name(rows: Dataset) -> None:
    class Wrong(Doubled):
        def output_schema(self, schema: pa.Schema) -> pa.Schema:
            return schema.field("nothing")

    with pytest.raises(PlanError, match="output_schema failed: KeyError"):
        rows.map_batches(Wrong("x"))


def test_what_the_user_declares_goes_before_the_promise(rows: Dataset) -> None:
    wide = rows.map_batches(Doubled("x"), schema={"x": "int", "double": "long"})
    assert wide.to_arrow().schema.field("double").type == pa.int64()


def test_a_class_is_not_asked_for_its_instances_are_made_in_workers(rows: Dataset) -> None:
    with pytest.raises(FunctionError, match="missing 1 required positional argument"):
        rows.map_batches(Doubled).count()


@pure_python
def counted(row: dict[str, Any]) -> dict[str, Any]:
    return {"x": sum(range(row["x"])), "process": os.getpid()}


@pure_python
class Counted:
    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return counted(row)


class SaysSo(Doubled):
    pure_python = True


@pytest.mark.parametrize("target", [counted, functools.partial(counted), Counted, Counted(), SaysSo("x")])
def test_what_is_declared_pure_python_runs_in_processes_unless_it_is_told_not_to(rows: Dataset, target: Any) -> None:
    plans: list[Any] = [rows.map(target, processes=processes).plan for processes in (None, False)]
    assert [plan.function.pool.processes for plan in plans] == [True, False]
    assert "process for pure Python" in rows.map(target, workers=1, schema={"x": "int"}).explain()
    assert "1 thread\n" in rows.map(target, workers=1, schema={"x": "int"}, processes=False).explain()


def test_nothing_else_does(rows: Dataset) -> None:
    plan: Any = rows.map(lambda row: row).plan
    assert not plan.function.pool.processes


def test_pure_python_gives_the_same_rows(rows: Dataset) -> None:
    made = rows.map(counted, schema={"x": "long", "process": "long"}).to_arrow()
    assert made["x"].to_pylist() == [0, 1]
    assert os.getpid() not in made["process"].to_pylist()


def test_the_cpus_of_an_object_are_a_default(rows: Dataset) -> None:
    plans: list[Any] = [rows.map_batches(Doubled("x"), cpus=cpus).plan for cpus in (None, 1.0)]
    assert [plan.function.pool.cpus for plan in plans] == [0.25, 1.0]
