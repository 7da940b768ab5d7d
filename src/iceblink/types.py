"""Column types: their words, what Iceberg can store of them, and batches brought to exactly one schema."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sized

import pyarrow as pa
import pyarrow.types as pt

from iceblink.casts import Unfit, UnknownFields, is_list_like, lossless, required_nulls
from iceblink.errors import DuplicateColumn, NullInRequired, PlanError, SchemaMismatch, TypeMismatch, nearest

WORDS: dict[str, pa.DataType] = {
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", "UTC"),
    "timestamp_ns": pa.timestamp("ns"),
    "timestamptz_ns": pa.timestamp("ns", "UTC"),
    "string": pa.string(),
    "binary": pa.binary(),
    "uuid": pa.uuid(),
}
"""Iceberg's word for each Arrow type that has one; `show_type` answers in these."""

SYNONYMS = {
    "bool": "boolean",
    "integer": "int",
    "bigint": "long",
    "real": "float",
    "varchar": "string",
    "text": "string",
}

SHAPES = ("decimal(10,2)", "fixed(16)", "list<int>", "map<string,int>", "struct<a: int>", "tensor<float>[2,3]")


def parse_type(text: str) -> pa.DataType:
    """Read a type in Iceberg's or SQL's words: ``"long"``, ``"decimal(10,2)"``, ``"struct<a: int not null>"``.

    Parameters
    ----------
    text : str
        One of `WORDS`, or ``bigint``, ``integer`` and other synonyms, ``decimal(p,s)``, ``fixed(n)``, ``list<T>``,
        ``map<K,V>``, ``struct<name: T, ...>``, ``tensor<T>[n,...]``. Inside ``<>`` a type may be followed by
        ``not null``; field names that are not words are double-quoted. Case does not matter.

    Raises
    ------
    TypeMismatch
        A word that is no type, with the nearest that is; or a type cut short.
    """
    parser = _Parser(text)
    dtype = parser.type()
    parser.end()
    return dtype


def parse_field(name: str, text: str) -> pa.Field:
    """Read a column's type and nullability: ``"long not null"`` is required."""
    parser = _Parser(text, name)
    field = parser.field(name)
    parser.end()
    return field


class _Parser:
    """Recursive descent over the words and signs of one type."""

    TOKEN = re.compile(r'\s*("(?:[^"]|"")*"|\w+|\S)')

    def __init__(self, text: str, column: str = "") -> None:
        self.where = f"type {text!r}" + (f" of column {column!r}" if column else "")
        self.tokens: list[str] = self.TOKEN.findall(text)

    def fail(self, what: str) -> TypeMismatch:
        return TypeMismatch(what, self.where, f"write it like {', '.join(SHAPES)}")

    def peek(self) -> str:
        return self.tokens[0].lower() if self.tokens else ""

    def take(self, expected: str = "") -> str:
        if not self.tokens or expected not in ("", self.peek()):
            found = repr(self.tokens[0]) if self.tokens else "the end"
            raise self.fail(f"expected {repr(expected) if expected else 'a type'}, found {found}")
        return self.tokens.pop(0)

    def number(self) -> int:
        token = self.take()
        if not token.isdecimal():
            raise self.fail(f"expected a number, found {token!r}")
        return int(token)

    def numbers(self, opening: str, closing: str) -> list[int]:
        self.take(opening)
        found = [self.number()]
        while self.peek() == ",":
            self.take()
            found.append(self.number())
        self.take(closing)
        return found

    def end(self) -> None:
        if self.tokens:
            raise self.fail(f"{' '.join(self.tokens)!r} is left over")

    def field(self, name: str) -> pa.Field:
        dtype = self.type()
        required = self.peek() == "not"
        if required:
            self.take()
            self.take("null")
        return pa.field(name, dtype, nullable=not required)

    def named_field(self) -> pa.Field:
        name = self.take()
        self.take(":")
        return self.field(name[1:-1].replace('""', '"') if name.startswith('"') else name)

    def type(self) -> pa.DataType:
        word = self.take().lower()
        build: Callable[[], pa.DataType] | None = getattr(self, f"{word}_type", None)
        if build is not None:
            return build()
        word = SYNONYMS.get(word, word)
        if word not in WORDS:
            known = {*WORDS, *SYNONYMS, "decimal", "fixed", "list", "map", "struct", "tensor"}
            raise TypeMismatch(f"no type {word!r}", self.where, nearest(word, known, "types"))
        return WORDS[word]

    def decimal_type(self) -> pa.DataType:
        sizes = self.numbers("(", ")")
        if len(sizes) > 2 or not 1 <= sizes[0] <= 38 or sizes[-1] > sizes[0]:
            raise self.fail("a decimal is decimal(precision, scale) with precision 1 to 38 and scale at most that")
        return pa.decimal128(sizes[0], sizes[1] if len(sizes) == 2 else 0)

    def fixed_type(self) -> pa.DataType:
        sizes = self.numbers("(", ")")
        if len(sizes) != 1 or sizes[0] < 1:
            raise self.fail("fixed takes one length of at least 1")
        return pa.binary(sizes[0])

    def list_type(self) -> pa.DataType:
        self.take("<")
        element = self.field("element")
        self.take(">")
        return pa.list_(element)

    def map_type(self) -> pa.DataType:
        self.take("<")
        key = self.field("key").with_nullable(False)
        self.take(",")
        value = self.field("value")
        self.take(">")
        return pa.map_(key, value)

    def struct_type(self) -> pa.DataType:
        self.take("<")
        fields = [self.named_field()]
        while self.peek() == ",":
            self.take()
            fields.append(self.named_field())
        self.take(">")
        _check_names(fields, self.where)
        return pa.struct(fields)

    def tensor_type(self) -> pa.DataType:
        self.take("<")
        element = self.type()
        self.take(">")
        shape = self.numbers("[", "]")
        if not pt.is_primitive(element) or 0 in shape:
            raise self.fail("a tensor has numbers inside and every side at least 1")
        return pa.fixed_shape_tensor(element, shape)


_SHOWN = {dtype: word for word, dtype in WORDS.items()}


def show_type(dtype: pa.DataType) -> str:
    """Write a type in the words `parse_type` reads; Arrow's own name where Iceberg has no word."""
    if dtype in _SHOWN:
        return _SHOWN[dtype]
    if pt.is_decimal128(dtype):
        return f"decimal({dtype.precision},{dtype.scale})"
    if pt.is_fixed_size_binary(dtype):
        return f"fixed({dtype.byte_width})"
    if pt.is_list(dtype):
        return f"list<{show_field(dtype.value_field)}>"
    if pt.is_map(dtype):
        return f"map<{show_type(dtype.key_type)}, {show_field(dtype.item_field)}>"
    if pt.is_struct(dtype):
        return f"struct<{', '.join(f'{_show_name(field.name)}: {show_field(field)}' for field in dtype)}>"
    if isinstance(dtype, pa.FixedShapeTensorType):
        return f"tensor<{show_type(dtype.value_type)}>[{','.join(map(str, dtype.shape))}]"
    return str(dtype)


def is_number(dtype: pa.DataType) -> bool:
    """Whether values of a type can be added."""
    return bool(pt.is_integer(dtype) or pt.is_floating(dtype) or pt.is_decimal(dtype))


def show_field(field: pa.Field) -> str:
    """Write a field's type, and ``not null`` when it is required."""
    return show_type(field.type) + ("" if field.nullable else " not null")


def _show_name(name: str) -> str:
    return name if re.fullmatch(r"\w+", name) else '"' + name.replace('"', '""') + '"'


def to_schema(given: pa.Schema | Mapping[str, str | pa.DataType]) -> pa.Schema:
    """Return an Arrow schema from one, or from names and types in words.

    Parameters
    ----------
    given : pa.Schema or mapping of str to (str or pa.DataType)
        ``{"id": "long not null", "tags": "list<string>"}``.

    Raises
    ------
    TypeMismatch
        A type that cannot be read.
    DuplicateColumn
        Two columns, or two fields of a struct, of one name.
    PlanError
        A column without a name.
    """
    if isinstance(given, pa.Schema):
        schema = given
    else:
        fields = (
            parse_field(name, kind) if isinstance(kind, str) else pa.field(name, kind) for name, kind in given.items()
        )
        schema = pa.schema(list(fields))
    _check_names(list(schema), "schema")
    return schema


def _check_names(fields: list[pa.Field], where: str) -> None:
    seen: set[str] = set()
    for field in fields:
        if not field.name:
            raise PlanError("a column has no name", where, "give each column a name")
        if field.name in seen:
            raise DuplicateColumn(f"two columns are named {field.name!r}", where, "rename one of them")
        seen.add(field.name)
        if pt.is_struct(field.type):
            _check_names(list(field.type), f"{where}, column {field.name!r}")


_STORED: dict[pa.DataType, pa.DataType] = {
    **{dtype: pa.int32() for dtype in (pa.int8(), pa.int16(), pa.uint8(), pa.uint16())},
    pa.uint32(): pa.int64(),
    pa.float16(): pa.float32(),
    pa.large_string(): pa.string(),
    pa.string_view(): pa.string(),
    pa.large_binary(): pa.binary(),
    pa.binary_view(): pa.binary(),
    pa.date64(): pa.date32(),
    pa.bool8(): pa.bool_(),
    pa.json_(): pa.string(),
}
_STORED_AS_IS = frozenset(
    (pa.bool_(), pa.int32(), pa.int64(), pa.float32(), pa.float64(), pa.date32(), pa.string(), pa.binary(), pa.uuid())
)


_BYTES = frozenset(
    (pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.float32(), pa.float64())
)


def has_bytes(dtype: pa.DataType) -> bool:
    """Whether a type is a tensor of numbers that can be stored as their bytes and queried."""
    return isinstance(dtype, pa.FixedShapeTensorType) and dtype.value_type in _BYTES


def storable(schema: pa.Schema, fixed: Collection[str] = (), nanoseconds: bool = False) -> pa.Schema:
    """Return the nearest schema that an Iceberg table can store without losing a value.

    Small integers widen, dictionaries become their values, large and view layouts become plain, timestamps get
    microseconds and UTC. Tensors stay: `lake.schemas` stores them as lists, or as bytes, and remembers what they are.

    Parameters
    ----------
    schema : pa.Schema
    fixed : collection of str
        Columns that are stored as bytes if they are tensors: their numbers need not widen.
    nanoseconds : bool
        Whether timestamps of nanoseconds stay: the table is of format version 3.

    Raises
    ------
    TypeMismatch
        A column whose type has no such form, with what to cast it to.

    References
    ----------
    .. [1] Iceberg table spec, "Primitive Types" and "Nested Types".
    """
    fields = [
        field if field.name in fixed and has_bytes(field.type) else _stored_field(field, field.name, nanoseconds)
        for field in schema
    ]
    return pa.schema(fields, schema.metadata)


def _stored_field(field: pa.Field, path: str, nano: bool) -> pa.Field:
    return field.with_type(_stored(field.type, path, nano))


def _stored(dtype: pa.DataType, path: str, nano: bool) -> pa.DataType:
    if dtype in _STORED_AS_IS or pt.is_fixed_size_binary(dtype):
        return dtype
    if dtype in _STORED:
        return _STORED[dtype]
    if pt.is_dictionary(dtype) or pt.is_run_end_encoded(dtype):
        return _stored(dtype.value_type, path, nano)
    if pt.is_decimal(dtype) and dtype.precision <= 38 and dtype.scale >= 0:
        return pa.decimal128(dtype.precision, dtype.scale)
    if pt.is_timestamp(dtype):
        return pa.timestamp("ns" if nano and dtype.unit == "ns" else "us", None if dtype.tz is None else "UTC")
    if pt.is_time(dtype):
        return pa.time64("us")
    if isinstance(dtype, pa.FixedShapeTensorType):
        return pa.fixed_shape_tensor(_stored(dtype.value_type, path, nano), dtype.shape)
    if is_list_like(dtype):
        return pa.list_(_stored_field(dtype.value_field, f"{path}.element", nano).with_name("element"))
    if pt.is_map(dtype):
        key = _stored_field(dtype.key_field, f"{path}.key", nano).with_name("key")
        return pa.map_(key, _stored_field(dtype.item_field, f"{path}.value", nano).with_name("value"))
    if pt.is_struct(dtype) and dtype.num_fields:
        return pa.struct([_stored_field(field, f"{path}.{field.name}", nano) for field in dtype])
    raise TypeMismatch(f"column {path!r} is {show_type(dtype)}, which Iceberg cannot store", "schema", _way_out(dtype))


def _way_out(dtype: pa.DataType) -> str:
    if pt.is_uint64(dtype):
        return "cast it to decimal(20,0), or to long if no value is above 9,223,372,036,854,775,807"
    if pt.is_duration(dtype) or pt.is_interval(dtype):
        return "cast it to long, a count of some unit of time"
    if pt.is_null(dtype):
        return "every value is null: cast it to the type it should have"
    if pt.is_decimal(dtype):
        return "cast it to decimal(38,s) with a scale s of at least 0, or to double"
    if pt.is_struct(dtype):
        return "it has no fields: drop it"
    return "cast it to string or binary, or drop it"


def conform(batch: pa.RecordBatch, schema: pa.Schema, where: str) -> pa.RecordBatch:
    """Bring a batch to exactly `schema`, metadata included, or refuse; no value changes.

    Columns are matched by name and reordered; types convert only where every value survives (`casts.lossless`).
    Columns that already fit are not copied.

    Parameters
    ----------
    batch : pa.RecordBatch
    schema : pa.Schema
    where : str
        What an error should name: a table, an operator.

    Raises
    ------
    SchemaMismatch
        A column is missing or unknown, a type or a value does not fit.
    NullInRequired
        A required field, at any depth, holds nulls.
    """
    arrays = batch.columns if batch.schema.equals(schema) else _fitted(batch, schema, where)
    for field, array in zip(schema, arrays, strict=True):
        found = required_nulls(array, field, field.name)
        if found:
            path, count = found
            raise NullInRequired(
                f"column {path!r} is required and has {count:,} null{'s' if count > 1 else ''}",
                where,
                "fill or filter them, or make the column nullable",
            )
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _fitted(batch: pa.RecordBatch, schema: pa.Schema, where: str) -> list[pa.Array]:
    if sorted(batch.schema.names) != sorted(schema.names):
        raise _name_mismatch(schema.names, batch.schema.names, where, "column")
    try:
        return [lossless(batch.column(field.name), field.type, field.name) for field in schema]
    except UnknownFields as misfit:
        raise _name_mismatch(misfit.expected, misfit.got, f"{where}, column {misfit.path!r}", "field") from None
    except Unfit as misfit:
        expected, got = show_type(misfit.expected), show_type(misfit.got)
        example = "" if misfit.example is None else f", and {_shortened(misfit.example)} does not fit"
        raise SchemaMismatch(
            f"column {misfit.path!r}: expected {expected}, got {got}{example}",
            where,
            f"cast it to {expected}" if misfit.example is None else "change or drop such values, or widen the column",
        ) from None


def _shortened(value: object) -> str:
    text = repr(value)
    if len(text) <= 60:
        return text
    return f"{text[:57]}..." + (f" of length {len(value)}" if isinstance(value, Sized) else "")


def _name_mismatch(expected: list[str], got: list[str], where: str, kind: str) -> SchemaMismatch:
    missing = [name for name in expected if name not in got]
    extra = [name for name in got if name not in expected]
    if not missing and not extra:
        twice = next(name for name in got if got.count(name) > 1)
        return SchemaMismatch(f"two {kind}s are named {twice!r}", where, "rename one of them")
    clauses = [f"{kind} {name!r} is missing" for name in missing] + [
        f"{kind} {name!r} is not expected" for name in extra
    ]
    hint = f"expected the {kind}s {', '.join(expected)}"
    if missing and extra:
        hint = f"for {extra[0]!r}: " + nearest(extra[0], missing, f"missing {kind}s")
    elif missing:
        hint = f"add {missing[0]!r}, as nulls if it may be null; " + hint
    return SchemaMismatch("; ".join(clauses), where, hint)
