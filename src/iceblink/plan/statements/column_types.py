"""Columns and types in SQL's words, Spark's and Trino's: ``ARRAY<BIGINT>``, ``ROW(a INT)``, ``DECIMAL(10, 2)``.

References
----------
.. [1] Iceberg table spec, "Primitive Types" and "Nested Types".
"""

from __future__ import annotations

import json
from collections.abc import Callable

import pyarrow as pa
import pyarrow.types as pt

from iceblink.errors import DuplicateColumn, TypeMismatch, nearest
from iceblink.lake.defaults import with_default
from iceblink.lake.schemas import WRITE_DEFAULT
from iceblink.plan.statements.words import Words, is_word
from iceblink.types import SYNONYMS, WORDS

DOC = b"doc"
"""Where a field's metadata has its comment."""

_SQL = {
    **WORDS,
    **{word: WORDS[meaning] for word, meaning in SYNONYMS.items()},
    "tinyint": pa.int32(),
    "smallint": pa.int32(),
    "int4": pa.int32(),
    "int8": pa.int64(),
    "char": pa.string(),
    "varbinary": pa.binary(),
    "blob": pa.binary(),
    "bytes": pa.binary(),
    "datetime": pa.timestamp("us"),
    "timestamp_ntz": pa.timestamp("us"),
    "timestamp_ltz": pa.timestamp("us", "UTC"),
}
_SIZED = ("char", "varchar", "timestamp", "timestamptz", "time")  # a size that Iceberg has not
_NESTED = ("array", "decimal", "fixed", "list", "map", "numeric", "row", "struct", "tensor")

_SHOWN = {
    pa.int64(): "BIGINT",
    pa.timestamp("us"): "TIMESTAMP_NTZ",
    pa.timestamp("us", "UTC"): "TIMESTAMP_LTZ",
}


def column(words: Words) -> pa.Field:
    """Take a column: ``id BIGINT NOT NULL DEFAULT 0 COMMENT 'the key'``."""
    field = _constrained(words, pa.field(words.name("a column"), column_type(words)), default=True)
    return with_comment(words, field)


def with_comment(words: Words, field: pa.Field) -> pa.Field:
    """Take ``COMMENT 'text'`` if it comes next."""
    if not words.accept("COMMENT"):
        return field
    return field.with_metadata({**(field.metadata or {}), DOC: words.string().encode()})


def constrained(words: Words, field: pa.Field) -> pa.Field:
    """Take ``NOT NULL`` and ``DEFAULT value``, in any order, where they come next."""
    return _constrained(words, field, default=True)


def _constrained(words: Words, field: pa.Field, default: bool = False) -> pa.Field:
    while True:
        if words.accept("NOT", "NULL"):
            field = field.with_nullable(False)
        elif default and words.accept("DEFAULT"):
            field = with_default(field, words.literal())
        elif not words.accept("NULL"):
            break
    if words.has("DEFAULT"):
        raise words.fail("a field inside a column cannot have a default value here", "leave it out")
    for unknown in ("PRIMARY", "UNIQUE", "REFERENCES", "CHECK", "GENERATED"):
        if words.has(unknown):
            raise words.fail(f"{unknown} is not enforced by an Iceberg table", "leave it out; NOT NULL is enforced")
    return field


def column_type(words: Words) -> pa.DataType:
    """Take a type, and ``[]`` after it for lists of that type."""
    token = words.next
    word = words.name("a type").lower()
    if word in _NESTED:
        dtype = _nested(words, word)
    elif word in _SQL:
        dtype = _plain(words, word)
    else:
        words.next = token
        raise TypeMismatch(f"no type {token.text!r}", words.fail("").where, nearest(word, {*_SQL, *_NESTED}, "types"))
    while words.accept("[", "]"):
        dtype = pa.list_(pa.field("element", dtype))
    return dtype


def _plain(words: Words, word: str) -> pa.DataType:
    if word in _SIZED and words.has("("):
        words.listed(words.number)
    if word == "double":
        words.accept("PRECISION")
    if word == "timestamp" and words.accept("WITH"):
        words.expect("TIME", "ZONE")
        return _SQL["timestamptz"]
    if word in ("timestamp", "time") and words.accept("WITHOUT"):
        words.expect("TIME", "ZONE")
    return _SQL[word]


def _nested(words: Words, word: str) -> pa.DataType:
    if word in ("decimal", "numeric"):
        return _decimal(words)
    if word == "fixed":
        return _sized(words, lambda: pa.binary(words.listed(words.number)[0]), "fixed has one length of at least 1")
    closing = _opened(words)
    if word in ("array", "list"):
        dtype: pa.DataType = pa.list_(_inner(words, "element"))
    elif word == "map":
        key = _inner(words, "key").with_nullable(False)
        words.expect(",")
        dtype = pa.map_(key, _inner(words, "value"))
    elif word == "tensor":
        element = column_type(words)
        words.expect(closing, "[")
        shape = words.several(words.number)
        words.expect("]")
        wrong = "a tensor has numbers inside, and every side at least 1"
        return _sized(words, lambda: pa.fixed_shape_tensor(element, shape), wrong)
    else:
        fields = words.several(lambda: _member(words))
        twice = next((one.name for one in fields if [other.name for other in fields].count(one.name) > 1), None)
        if twice is not None:
            raise DuplicateColumn(f"two fields are named {twice!r}", words.fail("").where, "rename one of them")
        dtype = pa.struct(fields)
    words.expect(closing)
    return dtype


def _sized(words: Words, make: Callable[[], pa.DataType], wrong: str) -> pa.DataType:
    try:
        made = make()
    except (pa.ArrowException, OverflowError):
        raise words.fail(wrong) from None
    if isinstance(made, pa.FixedShapeTensorType):
        if not pt.is_primitive(made.value_type) or 0 in made.shape:
            raise words.fail(wrong)
    elif not pt.is_fixed_size_binary(made) or made.byte_width < 1:
        raise words.fail(wrong)
    return made


def _opened(words: Words) -> str:
    if words.accept("("):
        return ")"
    words.expect("<", hint="write it like ARRAY<INT>, MAP<STRING, INT> or STRUCT<a: INT>")
    return ">"


def _inner(words: Words, name: str) -> pa.Field:
    return _constrained(words, pa.field(name, column_type(words)))


def _member(words: Words) -> pa.Field:
    name = words.name("a field")
    words.accept(":")
    return with_comment(words, _inner(words, name))


def _decimal(words: Words) -> pa.DataType:
    if not words.has("("):
        return pa.decimal128(10, 0)  # what SQL leaves open; Spark's answer
    token = words.next
    precision, *scale = words.listed(words.number)
    if len(scale) > 1 or not 1 <= precision <= 38 or (scale and scale[0] > precision):
        words.next = token
        raise words.fail("a decimal has 1 to 38 digits, and no more of them after the point")
    return pa.decimal128(precision, scale[0] if scale else 0)


def show_column(field: pa.Field) -> str:
    """Write a column as `column` reads it."""
    said = (field.metadata or {}).get(WRITE_DEFAULT)
    default = "" if said is None else _show_value(json.loads(said), field.type)
    return f"{quoted(field.name)} {_show_field(field, default)}"


def _show_value(value: str | float | bool, dtype: pa.DataType) -> str:
    if isinstance(value, str):
        return f"X{text(value)}" if pa.types.is_binary(dtype) else text(value)
    return str(value).upper()


def _show_field(field: pa.Field, default: str = "") -> str:
    doc = (field.metadata or {}).get(DOC, b"").decode()
    comment = f" COMMENT {text(doc)}" if doc else ""
    required = "" if field.nullable else " NOT NULL"
    return show_type(field.type) + required + (f" DEFAULT {default}" if default else "") + comment


def show_type(dtype: pa.DataType) -> str:
    """Write a type as `column_type` reads it."""
    if dtype in _SHOWN:
        return _SHOWN[dtype]
    if isinstance(dtype, pa.FixedShapeTensorType):
        return f"TENSOR<{show_type(dtype.value_type)}>[{', '.join(map(str, dtype.shape))}]"
    if pt.is_decimal(dtype):
        return f"DECIMAL({dtype.precision}, {dtype.scale})"
    if pt.is_fixed_size_binary(dtype):
        return f"FIXED({dtype.byte_width})"
    if pt.is_list(dtype):
        return f"ARRAY<{_show_field(dtype.value_field)}>"
    if pt.is_map(dtype):
        return f"MAP<{show_type(dtype.key_type)}, {_show_field(dtype.item_field)}>"
    if pt.is_struct(dtype):
        return f"STRUCT<{', '.join(f'{quoted(one.name)}: {_show_field(one)}' for one in dtype)}>"
    return next((word.upper() for word, known in WORDS.items() if known == dtype), str(dtype))


def quoted(name: str) -> str:
    """Write a name so that it is one."""
    if is_word(name) and name.lower() not in _SQL and name.upper() not in _KEYWORDS:
        return name
    return '"' + name.replace('"', '""') + '"'


_KEYWORDS = {"SELECT", "FROM", "WHERE", "ORDER", "GROUP", "TABLE", "NOT", "NULL", "PRIMARY", "CONSTRAINT", "FOREIGN"}


def text(value: str) -> str:
    """Write a text in quotes."""
    return "'" + value.replace("'", "''") + "'"
