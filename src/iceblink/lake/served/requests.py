"""Bodies of requests: JSON that may be anything, until it was looked at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from iceblink.lake.served.refusal import Refusal

Parsed = TypeVar("Parsed")


def text(body: Mapping[str, Any], name: str) -> str:
    """Return a text that must be there; raises a `Refusal` with 400 if it is not."""
    value = body.get(name)
    if not isinstance(value, str):
        raise Refusal.bad(f"{name!r} must be a text")
    return value


def optional_text(body: Mapping[str, Any], name: str) -> str | None:
    """Return a text, or None where there is none or null."""
    return None if body.get(name) is None else text(body, name)


def mapping(body: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a JSON object that must be there."""
    value = body.get(name)
    if not isinstance(value, dict):
        raise Refusal.bad(f"{name!r} must be an object")
    return value


def texts(body: Mapping[str, Any], name: str) -> dict[str, str]:
    """Return an object of texts, or an empty one where there is none or null; numbers and truth become texts."""
    value = {} if body.get(name) is None else mapping(body, name)
    if any(isinstance(one, dict | list) or one is None for one in value.values()):
        raise Refusal.bad(f"the values of {name!r} must be texts")
    return {key: one if isinstance(one, str) else str(one).lower() for key, one in value.items()}


def items(body: Mapping[str, Any], name: str) -> list[Any]:
    """Return a list, or an empty one where there is none or null."""
    value = body.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise Refusal.bad(f"{name!r} must be a list")
    return value


def parsed(parse: Callable[[Any], Parsed], value: Any, what: str) -> Parsed:
    """Return what `parse` makes of `value`; whatever it raises is a `Refusal` with 400."""
    try:
        return parse(value)
    except Refusal:
        raise
    except Exception as error:  # what is wrong raises whatever it happens to mean to PyIceberg's models
        raise Refusal.bad(f"{what} cannot be read: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """Return what pydantic found first, and where; never what was sent."""
    errors = getattr(error, "errors", None)
    if errors is None:
        return str(error).partition("\n")[0][:200] or type(error).__name__
    first = errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}"
