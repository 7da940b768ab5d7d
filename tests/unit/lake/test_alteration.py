"""Tables altered in place: against a model of their columns, in races, and with answers that are lost."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iceblink.errors import (
    ColumnNotFound,
    CommitConflict,
    CommitUnknown,
    ConfigError,
    DuplicateColumn,
    IceblinkError,
    PlanError,
    TableNotFound,
    TypeMismatch,
    WriteError,
)
from iceblink.lake.alteration import Alteration, altered
from iceblink.lake.catalog import Catalog
from iceblink.lake.change import change
from iceblink.lake.embedded import EmbeddedCatalog
from iceblink.lake.table import Table
from iceblink.types import show_field

SHAPE = {
    "id": "int not null",
    "price": "decimal(9,2)",
    "at": "struct<city: string, zip: struct<code: int, k: float>>",
    "points": "list<struct<x: float, y: float>>",
    "k": "string",
}


@pytest.fixture
def table(tmp_path: Path) -> Table:
    lake = Catalog.embedded(tmp_path / "läke")
    return lake.create("demo.t", SHAPE, partition_by=["k", "bucket(4, id)"], sort_by=["id"], properties={"a": "1"})


def columns(table: Table) -> dict[str, str]:
    return {field.name: show_field(field) for field in table.schema}


def test_all_kinds_of_changes_are_one_commit(table: Table) -> None:
    after = altered(
        table,
        Alteration(
            add={"at.zip.new": "long", "emb": "tensor<float>[2,3]", "points.element.z": pa.float64()},
            drop=("k", "at.zip.k"),
            rename={"at.city": "town", "id": "key"},
            types={"id": "long", "price": "decimal(12,2)", "points.element.x": "double"},
            optional=("id",),
            comments={"emb": "of the text", "price": "in €"},
            move={"emb": "first", "points.element.z": "after x", "price": "after emb"},
            partition_by=("bucket(8, key)", "truncate(2, price)"),
            sort_by=("-key",),
            properties={"a": None, "b": "2"},
        ),
    )
    assert columns(after) == {
        "emb": "tensor<float>[2,3]",
        "price": "decimal(12,2)",
        "key": "long",
        "at": "struct<town: string, zip: struct<code: int, new: long>>",
        "points": "list<struct<x: double, z: double, y: float>>",
    }
    assert (after.partition_by, after.sort_by) == (("bucket(8, key)", "truncate(2, price)"), ("key desc",))
    assert (after.properties.get("a"), after.properties["b"]) == (None, "2")
    assert (after.schema.field("emb").metadata or {})[b"doc"] == b"of the text"
    assert len(after.pyiceberg.metadata.metadata_log) == 1
    assert columns(after.refresh()) == columns(after)


def test_partition_fields_come_and_go_one_by_one(table: Table) -> None:
    after = altered(table, Alteration(add_partitions=("truncate(4, price)",), drop_partitions=("id_bucket",)))
    assert after.partition_by == ("k", "truncate(4, price)")
    after = altered(after, Alteration(add_partitions=("bucket(4, id)",), drop_partitions=("k", "truncate(4, price)")))
    assert after.partition_by == ("bucket(4, id)",)
    assert after.pyiceberg.spec().fields[0].field_id == table.pyiceberg.spec().fields[1].field_id


def test_in_format_version_1_a_partition_field_that_goes_leaves_a_void(tmp_path: Path) -> None:
    old = Catalog.embedded(tmp_path).create(
        "n.t", {"a": "int", "b": "int"}, ["a", "b"], properties={"format-version": "1"}
    )
    after = altered(old, Alteration(partition_by=("b", "bucket(2, a)")))
    assert after.partition_by == ("b", "bucket(2, a)")
    assert [(one.field_id, str(one.transform)) for one in after.pyiceberg.spec().fields] == [
        (1000, "void"),
        (1001, "identity"),
        (1002, "bucket[2]"),
    ]
    assert altered(after, Alteration(partition_by=("a",))).partition_by == ("a",)


MISTAKES: dict[str, tuple[Alteration, type[IceblinkError], str]] = {
    "a column that is not there": (Alteration(drop=("prise",)), ColumnNotFound, "did you mean 'price'"),
    "a field that is not there": (Alteration(rename={"at.cty": "c"}), ColumnNotFound, "did you mean 'at.city'"),
    "a parent that is not there": (Alteration(add={"to.city": "string"}), ColumnNotFound, "no column 'to'"),
    "a parent without fields": (Alteration(add={"price.x": "int"}), TypeMismatch, "has no fields"),
    "a name that is taken": (Alteration(add={"price": "int"}), DuplicateColumn, "already"),
    "a new name that is taken": (Alteration(rename={"id": "price"}), DuplicateColumn, "already"),
    "a type that is narrower": (Alteration(types={"price": "decimal(8,2)"}), TypeMismatch, "cannot become"),
    "another scale": (Alteration(types={"price": "decimal(12,3)"}), TypeMismatch, "more digits"),
    "another kind": (Alteration(types={"id": "string"}), TypeMismatch, "int and cannot become string"),
    "a struct": (Alteration(types={"at": "int"}), TypeMismatch, "cannot become int"),
    "no type": (Alteration(add={"x": "lnog"}), TypeMismatch, "did you mean 'long'"),
    "required": (Alteration(add={"x": "long not null"}), PlanError, "NOT NULL"),
    "made required": (Alteration(types={"price": "decimal(9,2) not null"}), PlanError, "cannot become required"),
    "partitions the table": (Alteration(drop=("k",)), PlanError, "partitions the table"),
    "sorts the table": (Alteration(drop=("id",), partition_by=()), PlanError, "sorts the table"),
    "the only field": (Alteration(drop=("points.element.x", "points.element.y")), PlanError, "drop the struct"),
    "an element": (Alteration(drop=("points.element",)), PlanError, "cannot be changed so"),
    "no place": (Alteration(move={"id": "last"}), ConfigError, "'first' or 'after id'"),
    "another struct": (Alteration(move={"at.city": "after id"}), ColumnNotFound, "at.id"),
    "no partition field": (Alteration(drop_partitions=("day(at)",)), TypeMismatch, "cannot apply"),
    "no such partition field": (Alteration(drop_partitions=("bucket(5, id)",)), ConfigError, "bucket\\(4, id\\)"),
    "twice": (Alteration(add_partitions=("k",)), ConfigError, "two partition fields"),
    "no property": (Alteration(properties={"aa": None}), ConfigError, "did you mean 'a'"),
    "an earlier version": (Alteration(properties={"format-version": "1"}), ConfigError, "format version 2"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_changes_nothing(table: Table, mistake: str) -> None:
    change, kind, said = MISTAKES[mistake]
    with pytest.raises(kind, match=said) as caught:
        altered(table, change)
    assert caught.value.where
    assert table.refresh().pyiceberg.metadata_location == table.pyiceberg.metadata_location


def test_all_columns_cannot_go(table: Table) -> None:
    with pytest.raises(PlanError, match="at least one column"):
        altered(table, Alteration(drop=tuple(SHAPE), partition_by=(), sort_by=()))


def test_nothing_to_change_is_no_commit_and_case_is_not_asked_for(table: Table) -> None:
    assert altered(table, Alteration()).pyiceberg.metadata_location == table.pyiceberg.metadata_location
    assert "preis" in columns(altered(table, Alteration(rename={"PRICE": "preis"})))


@dataclass
class Model:
    """The columns of a table as pairs of name and type."""

    columns: list[tuple[str, str]]

    def names(self) -> list[str]:
        return [name for name, _ in self.columns]


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_changes_in_a_row_leave_the_columns_of_the_model(tmp_path_factory: Any, data: st.DataObject) -> None:
    table = Catalog.embedded(tmp_path_factory.mktemp("lake")).create("n.t", {"a b": "int", "ü": "float"})
    model = Model([("a b", "int"), ("ü", "float")])
    wider = {"int": "long", "float": "double"}
    for step in range(data.draw(st.integers(1, 4))):
        names = model.names()
        add = data.draw(st.booleans())
        drop = data.draw(st.sampled_from([None, *names])) if len(names) > 1 else None
        rename = data.draw(st.sampled_from([None, *(name for name in names if name != drop)]))
        widen = data.draw(st.sampled_from([None, *(name for name in names if name != drop)]))
        widen = widen if widen and dict(model.columns)[widen] in wider else None
        first = data.draw(st.sampled_from([None, *(name for name in names if name != drop)]))
        table = altered(
            table,
            Alteration(
                add={f"n{step}": "int"} if add else {},
                drop=(drop,) if drop else (),
                rename={rename: f"r{step} é"} if rename else {},
                types={widen: wider[dict(model.columns)[widen]]} if widen else {},
                move={first: "first"} if first else {},
            ),
        )
        found = [(name, wider[kind] if name == widen else kind) for name, kind in model.columns if name != drop]
        found += [(f"n{step}", "int")] if add else []
        found.sort(key=lambda one: one[0] != first)
        model.columns = [(f"r{step} é" if name == rename else name, kind) for name, kind in found]
        assert list(columns(table).items()) == model.columns
    ids = [field.field_id for schema in table.pyiceberg.metadata.schemas for field in schema.fields]
    assert max(ids) <= table.pyiceberg.metadata.last_column_id


def test_all_of_those_who_change_at_once_have_their_change(table: Table, tmp_path: Path) -> None:
    def add(number: int) -> None:
        altered(Catalog.embedded(tmp_path / "läke").load("demo.t"), Alteration(add={f"c{number}": "int"}))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(add, range(5)))
    assert set(columns(table.refresh())) == {*SHAPE, *(f"c{number}" for number in range(5))}


def test_one_of_those_who_make_the_same_change_has_it(table: Table, tmp_path: Path) -> None:
    def drop(_: int) -> str:
        try:
            altered(Catalog.embedded(tmp_path / "läke").load("demo.t"), Alteration(drop=("price",)))
        except ColumnNotFound:
            return "gone"
        return "dropped"

    with ThreadPoolExecutor(4) as threads:
        assert sorted(threads.map(drop, range(4))) == ["dropped", "gone", "gone", "gone"]


@pytest.mark.parametrize(
    ("first", "then", "error"),
    [
        ({"drop": ("price",)}, {"partition_by": ("price",)}, ColumnNotFound),
        ({"drop": ("price",)}, {"sort_by": ("price",)}, ColumnNotFound),
        ({"partition_by": ("price",)}, {"drop": ("price",)}, PlanError),
        ({"sort_by": ("price",)}, {"drop": ("price",)}, PlanError),
        ({"properties": {"a": None}}, {"properties": {"a": None}}, ConfigError),
    ],
)
def test_what_others_change_between_look_and_commit_is_seen(
    table: Table,
    monkeypatch: pytest.MonkeyPatch,
    first: dict[str, Any],
    then: dict[str, Any],
    error: type[IceblinkError],
) -> None:
    really = EmbeddedCatalog.commit_table

    def overtaken(self: EmbeddedCatalog, *given: Any) -> Any:
        monkeypatch.setattr(EmbeddedCatalog, "commit_table", really)
        altered(table, Alteration(**first))
        return really(self, *given)

    monkeypatch.setattr(EmbeddedCatalog, "commit_table", overtaken)
    with pytest.raises(error):
        altered(table, Alteration(**then))
    expected = altered(
        table.catalog.create("demo.u", SHAPE, ["k", "bucket(4, id)"], ["id"], {"a": "1"}), Alteration(**first)
    )
    now = table.refresh()
    assert (columns(now), now.partition_by, now.sort_by, "a" in now.properties) == (
        columns(expected),
        expected.partition_by,
        expected.sort_by,
        "a" in expected.properties,
    )


def commits(monkeypatch: pytest.MonkeyPatch, *faults: str) -> None:
    """Let the next commits fail before or after they are made."""
    really, left = EmbeddedCatalog.commit_table, list(faults)

    def commit(self: EmbeddedCatalog, *given: Any) -> Any:
        fault = left.pop(0) if left else ""
        answer = None if fault == "before" else really(self, *given)
        if fault:
            raise ConnectionError("the line is dead")
        return answer

    monkeypatch.setattr(EmbeddedCatalog, "commit_table", commit)


@pytest.mark.parametrize("faults", [("before",), ("after",), ("before", "after")])
def test_a_commit_whose_answer_is_lost_is_made_once(
    table: Table, monkeypatch: pytest.MonkeyPatch, faults: tuple[str, ...]
) -> None:
    commits(monkeypatch, *faults)
    after = altered(table, Alteration(add={"new": "int"}, rename={"price": "preis"}))
    assert list(columns(after)) == ["id", "preis", "at", "points", "k", "new"]
    assert len(after.pyiceberg.metadata.schemas) == 2


def test_a_commit_that_cannot_be_looked_for_is_unknown(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    commits(monkeypatch, *["after"] * 50)
    really = EmbeddedCatalog.load_table
    loads = iter([0])

    def load(self: EmbeddedCatalog, identifier: Any) -> Any:
        if next(loads, None) is None:
            raise ConnectionError("the line is dead")
        return really(self, identifier)

    monkeypatch.setattr(EmbeddedCatalog, "load_table", load)
    with pytest.raises(CommitUnknown):
        change(table, lambda transaction: _set(transaction), lambda metadata: dict(metadata.properties), patience_s=0.2)


def test_a_catalog_that_never_answers_is_told(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: Any) -> Any:
        raise ConnectionError("the line is dead")

    monkeypatch.setattr(EmbeddedCatalog, "load_table", load)
    with pytest.raises(WriteError, match="the line is dead"):
        change(table, lambda transaction: _set(transaction), lambda metadata: metadata.refs, patience_s=0.1)


def _set(transaction: Any) -> None:
    transaction.set_properties({"x": "1"})


def test_a_table_that_is_gone_or_another_is_not_changed(table: Table) -> None:
    table.catalog.drop("demo.t")
    with pytest.raises(TableNotFound):
        altered(table, Alteration(properties={"x": "1"}))
    table.catalog.create("demo.t", {"id": "int"})
    with pytest.raises(CommitConflict, match="made anew"):
        altered(table, Alteration(properties={"x": "1"}))
