"""What Ibis says of a wrong expression, said in our words."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pyarrow as pa

from iceblink.errors import ColumnNotFound, PlanError, TypeMismatch
from iceblink.plan.late import ibis_annotations, ibis_exceptions
from iceblink.types import show_type

_NO_COLUMN = re.compile(r"[Cc]olumn ['\"]?(.+?)['\"]? is not found|'Table' object has no attribute '(.+?)'")
_NO_METHOD = re.compile(r"'(\w+?)(?:Column|Scalar|Value)' object has no attribute '(\w+)'")
_USED = re.compile(r"\br\d+\.(\w+)")
_OPERATION = re.compile(r"(\w+)\(")
_BEYOND_LONG = re.compile(r"'(Integer|Floating|Decimal)\w+' and 'int'|'int' and '(Integer|Floating|Decimal)\w+'")
_NO_EXPRESSION = "'bool' object has no attribute 'op'"  # what Python makes of == and != that Ibis does not take

_TYPED = "write a number of 9,223,372,036,854,775,808 or more with its type, as ibis.literal(value, 'uint64')"


def ibis_errors() -> tuple[type[Exception], ...]:
    """Return what building or compiling an Ibis expression may raise."""
    ibis_error, misfit = ibis_exceptions.IbisError, ibis_annotations.SignatureValidationError
    return (ibis_error, misfit, AttributeError, TypeError, ValueError, KeyError)


def said_plainly(error: Exception, verb: str, types: Mapping[str, pa.DataType]) -> PlanError:
    """Return our error for one of Ibis's.

    Parameters
    ----------
    error : Exception
        One of `ibis_errors`.
    verb : str
        The place.
    types : mapping of str to DataType
        The columns there are.
    """
    text = str(error)
    if missing := _NO_COLUMN.search(text):
        return ColumnNotFound.of(next(name for name in missing.groups() if name), types, verb)
    if method := _NO_METHOD.search(text):
        kind, name = method.groups()
        return TypeMismatch(f"{_article(kind)} column has no .{name}()", verb, "see the types with .schema")
    if isinstance(error, ibis_annotations.SignatureValidationError):
        return TypeMismatch(_misfit(text, types), verb, "see the types with .schema; convert with .cast('type')")
    line = text.strip().split("\n")[0][:300]
    if _BEYOND_LONG.search(line):
        return TypeMismatch("an integer is beyond long", verb, _TYPED)
    if line == _NO_EXPRESSION:
        return TypeMismatch("a condition is True or False, not an expression", verb, f"compare columns; {_TYPED}")
    if isinstance(error, TypeError) or "comparable" in line:
        return TypeMismatch(line, verb, "see the types with .schema")
    return PlanError(line, verb)


def _misfit(text: str, types: Mapping[str, pa.DataType]) -> str:
    found = _OPERATION.match(text)
    operation = found[1] if found else "the expression"
    if operation == "Filter":
        return "a filter needs booleans, as in _.price > 3"
    if operation == "Aggregate":
        return "agg() needs aggregates, such as _.price.sum() or _.count()"
    used = [name for name in dict.fromkeys(_USED.findall(text)) if name in types]
    operands = ", ".join(f"{name} ({show_type(types[name])})" for name in used)
    return f"{operation} does not take {operands or 'these types'}"


def _article(kind: str) -> str:
    word = kind.lower()
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"
