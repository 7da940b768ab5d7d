"""What a plan is, in words that another process finds again: a plan that changed shows where."""

from __future__ import annotations

import hashlib
import inspect
import types
from collections.abc import Iterator
from functools import partial
from typing import Any

import pyarrow as pa

from iceblink.plan.function import Function
from iceblink.plan.nodes import MapBatches, Memory, Plan, Query, Repartition, Scan
from iceblink.plan.optimize import fuse
from iceblink.plan.query import sql_of

_ROWS = 1 << 16  # of data in memory that are looked at in one go
_DIGITS = 12
_ABOUT_CLASSES = {"__module__", "__dict__", "__weakref__", "__doc__", "__annotations__", "__firstlineno__"}


def parts_of(plan: Plan) -> dict[str, str]:
    """Return the parts of a plan, the last step first: a name for people, and a text that changes when the part does.

    A stream is known by its columns only.
    """
    parts: dict[str, str] = {}
    for name, text in _parts(plan):
        number = 1
        while (key := f"{name} ({number})" if number > 1 else name) in parts:
            number += 1
        parts[key] = text
    return parts


def _parts(plan: Plan) -> Iterator[tuple[str, str]]:
    match plan:
        case Scan(table=table, schema=schema):
            chosen = "" if schema.names == table.schema.names else f", columns {', '.join(schema.names)}"
            yield f"table {table.name}", f"snapshot {table.version}{chosen}, uuid {table.uuid}"
            return
        case Query():
            fused = fuse(plan)
            yield "statement", sql_of(fused.tree)
            for reference in fused.references:
                yield from _parts(reference.plan)
            return
        case MapBatches(function=function):
            yield from _function_parts(function)
        case Memory(data=data):
            yield "rows in memory", f"{data.num_rows:,} rows, data {_data_digest(data)}"
        case Repartition():
            pass  # of one process only; files are not made by parts
        case _:
            yield type(plan).__name__.lower(), _schema_text(plan.schema)
    for source in plan.inputs:
        yield from _parts(source)


def _function_parts(function: Function) -> Iterator[tuple[str, str]]:
    name = f"function {function.label}"
    policy = function.policy
    yield name, f"code {code_digest(function.target)}"
    yield f"{name}, batches", f"batch_size={function.batch_rows}, batch_format={function.batch_format!r}"
    yield f"{name}, schema", "not declared" if function.declared is None else _schema_text(function.declared)
    yield (
        f"{name}, errors",
        f"on_error={policy.on_error!r}" + ((policy.quarantine and f" to {policy.quarantine}") or ""),
    )


def _schema_text(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}{'' if field.nullable else ' not null'}" for field in schema)


def _data_digest(data: pa.Table) -> str:
    """Return a digest of rows, however they lie in memory."""
    digest = hashlib.sha256(data.schema.serialize())
    for start in range(0, data.num_rows, _ROWS):
        for batch in data.slice(start, _ROWS).combine_chunks().to_batches():
            digest.update(batch.serialize())
    return digest.hexdigest()[:_DIGITS]


def code_digest(target: Any) -> str:
    """Return a digest of what a function, class or object does.

    Code, constants, defaults, simple values that it captured, and code beside it in its module; what it imports, and
    objects that are not simple, count by name or type only.
    """
    inner = target.func if isinstance(target, partial) else target
    named = inspect.isroutine(inner) or isinstance(inner, type)
    texts = _Texts(inner.__module__ if named else type(inner).__module__)
    digest = hashlib.sha256()
    for text in texts.of(target) if named else texts.of([type(inner), _simple(getattr(inner, "__dict__", {}))]):
        digest.update(text.encode())
        digest.update(b"\0")
    return digest.hexdigest()[:_DIGITS]


class _Texts:
    """Texts of values that are the same in every process of one Python version; code is looked into in one module."""

    def __init__(self, module: str) -> None:
        self._module = module
        self._seen: set[int] = set()

    def of(self, value: Any) -> Iterator[str]:
        match value:
            case None | bool() | int() | float() | complex() | str() | bytes():
                yield repr(value)
            case list() | tuple():
                yield type(value).__name__
                for item in value:
                    yield from self.of(item)
            case set() | frozenset():  # their order is another in each process
                yield from sorted(" ".join(self.of(item)) for item in value)
            case dict():
                for pair in value.items():
                    yield from self.of(pair)
            case partial():
                yield from self.of([value.func, value.args, value.keywords])
            case types.MethodType():
                yield from self.of([value.__func__, value.__self__])
            case property() | classmethod() | staticmethod():
                yield from self.of(value.fget if isinstance(value, property) else value.__func__)
            case types.CodeType() | types.FunctionType() | type():
                if id(value) not in self._seen:
                    self._seen.add(id(value))
                    yield from self._code(value)
            case _:
                yield type(value).__qualname__

    def _code(self, value: types.CodeType | types.FunctionType | type) -> Iterator[str]:
        if isinstance(value, types.CodeType):
            yield value.co_code.hex()
            yield from value.co_names
            yield from self.of(value.co_consts)
            return
        yield f"{value.__module__}.{value.__qualname__}"
        if value.__module__ != self._module:
            return
        if isinstance(value, type):
            for name, item in sorted(vars(value).items()):
                if name not in _ABOUT_CLASSES:
                    yield name
                    yield from self.of(item)
            return
        yield from self.of([value.__code__, value.__defaults__, value.__kwdefaults__])
        for cell in value.__closure__ or ():
            yield from self.of(_content(cell))
        for name in _names(value.__code__):
            found = value.__globals__.get(name)
            if isinstance(found, bool | int | float | str | bytes | tuple | frozenset | types.FunctionType | type):
                yield from self.of(found)


def _simple(values: dict[str, Any]) -> dict[str, Any]:
    return {name: item for name, item in values.items() if isinstance(item, bool | int | float | str | bytes)}


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for item in code.co_consts:
        if isinstance(item, types.CodeType):
            yield from _names(item)


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None
