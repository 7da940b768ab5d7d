"""New values in the types of their columns: cast where every value survives, refused where none can."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import pyarrow as pa
import pyarrow.types as pt

from iceblink.casts import Unfit, UnknownFields, lossless
from iceblink.errors import PlanError, QueryError, SchemaMismatch, TypeMismatch
from iceblink.lake.defaults import write_default
from iceblink.plan.change_queries import described
from iceblink.plan.changes import Clause, RowChange, column_of
from iceblink.plan.cut.functions import changing
from iceblink.plan.late import exp
from iceblink.plan.nodes import Plan
from iceblink.plan.query import sql_of
from iceblink.plan.sql import constant
from iceblink.run.local_engine import LocalEngine
from iceblink.types import is_number, show_field, show_type

_CONDITION = "iceblink condition"
_MISFIT = re.compile(r"column \".*\": .* does not fit [^']*")


def typed(engine: LocalEngine, change: RowChange, sources: Mapping[str, Plan]) -> RowChange:
    """Return the change with values of exactly the columns' types; names and types are checked, nothing is read.

    Parameters
    ----------
    engine : LocalEngine
    change : RowChange
    sources : mapping of str to Plan
        All that expressions, and the statements about them, name.

    Raises
    ------
    TypeMismatch
        A value whose type never fits its column, or a condition that may differ from one look to the next.
    SchemaMismatch
        A required column without a value.
    ColumnNotFound, AmbiguousColumn, SqlError
    """
    for condition in (change.on, *(clause.condition for clause in change.clauses)):
        if condition is not None and (name := changing(condition)) is not None:
            hint = "write the value itself; or draw it into a column first"
            what = f"{name}() in a condition is not the same each time it is asked"
            raise TypeMismatch(what, change.where(condition, f"'{name}'"), hint)
    own = Clause("not matched by source", "update", None, {})
    names = change.target.table.schema.names
    _, words = _described(engine, change, own, {name: column_of(name, change.alias) for name in names}, sources)
    kinds = dict(zip(names, words, strict=True))
    if change.on is not None:
        found, _ = _described(engine, change, Clause("matched", "update", None, {}), {"on": change.on}, sources)
        _check_boolean(found.field(0).type, change.where(change.on))
    clauses = tuple(_typed(engine, change, clause, kinds, sources) for clause in change.clauses)
    return replace(change, clauses=clauses)


def misfit(error: QueryError, place: str) -> SchemaMismatch | None:
    """Return our error if a new value did not fit its column."""
    found = _MISFIT.search(error.what)
    hint = "round it, or cast it, in the expression"
    return SchemaMismatch(found[0], place, hint) if found else None


def _typed(
    engine: LocalEngine, change: RowChange, clause: Clause, kinds: Mapping[str, str], sources: Mapping[str, Plan]
) -> Clause:
    schema: pa.Schema = change.target.table.schema
    values = dict(clause.values)
    if clause.action == "insert":
        for field in schema:
            if field.name not in values:
                value = write_default(field)
                if not field.nullable and value is None:
                    what, hint = f"column {field.name!r} is missing", "the table requires it: insert a value"
                    raise SchemaMismatch(what, change.place, hint)
                values[field.name] = constant(value, kinds[field.name])
    condition = {} if clause.condition is None else {_CONDITION: clause.condition}
    found, words = _described(engine, change, clause, {**values, **condition}, sources)
    if clause.condition is not None:
        _check_boolean(found.field(len(values)).type, change.where(clause.condition))
    made = {
        name: _cast(value, word, kinds[name], found.field(place).type, schema.field(name), change)
        for place, ((name, value), word) in enumerate(zip(values.items(), words, strict=False))
    }
    return replace(clause, values=made)


def _described(
    engine: LocalEngine,
    change: RowChange,
    clause: Clause,
    values: Mapping[str, exp.Expression],
    sources: Mapping[str, Plan],
) -> tuple[pa.Schema, tuple[str, ...]]:
    """Return the types of some values, in Arrow's words and in the kernel's."""

    def asked(shown: list[exp.Expression]) -> tuple[pa.Schema, tuple[str, ...]]:
        tree = described(change, clause, shown)
        used = {one.name for one in tree.find_all(exp.Table)}
        schemas = {name: plan.schema for name, plan in sources.items() if name in used}
        return engine.kernel.describe(sql_of(tree), schemas)

    try:
        found, words = asked(list(values.values()) or [exp.null()])
    except PlanError:
        for value in values.values():  # the kernel saw generated SQL: say which of the user's expressions it was
            try:
                asked([value])
            except PlanError as error:
                raise type(error)(error.what, change.where(value, error.what), error.hint) from error
        raise
    return found, words[: len(values)]


def _cast(
    value: exp.Expression, word: str, wanted: str, got: pa.DataType, field: pa.Field, change: RowChange
) -> exp.Expression:
    if word == wanted:
        return value
    target = exp.DataType.build(wanted, dialect="duckdb")
    plain = value.this if isinstance(value, exp.Neg) else value
    if isinstance(plain, exp.Literal) or pt.is_null(got):  # as it stands there it has no type of its own
        number_to_text = isinstance(plain, exp.Literal) and not plain.is_string and not is_number(field.type)
        text_to_number = isinstance(plain, exp.Literal) and plain.is_string and is_number(field.type)
        if not number_to_text and not text_to_number and (pt.is_null(got) or not pt.is_integer(field.type)):
            return exp.cast(value, target)
    if not may_fit(got, field.type, field.name):
        what = f"column {field.name!r} is {show_field(field)}, and its new value is {show_type(got)}"
        raise TypeMismatch(what, change.where(value), f"cast it: CAST(... AS {wanted})")
    if isinstance(got, pa.UuidType) or isinstance(field.type, pa.UuidType):
        return exp.cast(value, target)
    if (name := changing(value)) is not None:  # it would be asked several times
        what = f"column {field.name!r} is {show_field(field)}, and {name}() gives {show_type(got)}"
        raise TypeMismatch(what, change.where(value), f"cast it: CAST(... AS {wanted})")
    source = exp.DataType.build(word, dialect="duckdb")
    there = exp.TryCast(this=value.copy(), to=target.copy())
    back = exp.TryCast(this=there.copy(), to=source)
    fits = exp.NullSafeEQ(this=back, expression=value.copy())
    # the kernel cannot cast this text, and says it
    shown = exp.cast(value.copy(), "VARCHAR")
    said = exp.DPipe(
        this=exp.DPipe(this=exp.Literal.string(f'column "{field.name}": '), expression=shown),
        expression=exp.Literal.string(f" does not fit {show_type(field.type)}"),
    )
    return exp.Case(ifs=[exp.If(this=fits, true=there)], default=exp.cast(exp.Paren(this=said), target.copy()))


def _check_boolean(got: pa.DataType, place: str) -> None:
    if not pt.is_boolean(got) and not pt.is_null(got):  # the kernel would take a number for a truth
        raise TypeMismatch(f"a condition needs booleans, got {show_type(got)}", place, "write _.price > 3")


def may_fit(got: pa.DataType, want: pa.DataType, name: str) -> bool:
    """Whether some value of one type is one of the other."""
    if is_number(got) and is_number(want):
        return True
    if (pt.is_date(got) and pt.is_timestamp(want)) or (pt.is_timestamp(got) and pt.is_date(want)):
        return True
    try:
        lossless(pa.array([], got), want, name)
    except (Unfit, UnknownFields):
        return False
    return True
