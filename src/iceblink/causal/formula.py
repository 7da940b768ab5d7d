"""Formulas as fixest writes them: ``y ~ t + x1:x2 + i(city) | firm + year | d ~ z``."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from iceblink.errors import PlanError
from iceblink.plan.late import exp, sqlglot
from iceblink.plan.sql import DIALECT

HINT = "y ~ x1 + i(city) + x1:x2, with | fixed effects and | endogenous ~ instruments behind it where wanted"
NAME = re.compile(r"[^\W\d]\w*|`[^`]+`")
CATEGORY = re.compile(r"[iC]\(\s*(?P<column>[^\W\d]\w*|`[^`]+`)\s*(?:,\s*ref\s*=\s*(?P<reference>.+?))?\s*\)")


@dataclass(frozen=True)
class Variable:
    """A column, or an SQL expression over columns."""

    text: str
    is_column: bool


@dataclass(frozen=True)
class Levels:
    """A column of categories; `reference` is the level that the others are compared with, the first if none."""

    column: str
    reference: str | None = None


Factor = Variable | Levels
Terms = tuple[tuple[Factor, ...], ...]


@dataclass(frozen=True)
class Formula:
    """What a formula says.

    Parameters
    ----------
    outcome : Variable
    terms : tuple of tuple of Factor
        Each a product of factors.
    intercept : bool
    absorbed : tuple of str
        Columns of fixed effects.
    endogenous, instruments : tuple of tuple of Factor
    """

    outcome: Variable
    terms: Terms
    intercept: bool
    absorbed: tuple[str, ...] = ()
    endogenous: Terms = ()
    instruments: Terms = ()


def parsed(text: str) -> Formula:
    """Read a formula.

    Raises
    ------
    PlanError
        It is none; the error points at the part.
    """
    parts = list(_split(text, "|"))
    left, tilde, right = parts[0].partition("~")
    if not tilde or not left.strip() or "~" in right:
        raise _broken(text, parts[0], "a formula is an outcome, ~, and what explains it")
    (outcome,) = _product(text, left)
    if isinstance(outcome, Levels):
        raise _broken(text, left, "the outcome is a number")
    absorbed: tuple[str, ...] = ()
    instrumented = ""
    for part in parts[1:]:
        if "~" in part:
            instrumented = part
        elif absorbed or instrumented:
            raise _broken(text, part, "fixed effects stand once, before instruments")
        else:
            absorbed = tuple(_column(text, name) for name in _split(part, "+"))
    terms, intercept = _terms(text, right)
    endogenous: Terms = ()
    instruments: Terms = ()
    if instrumented:
        first, _, second = instrumented.partition("~")
        endogenous, _ = _terms(text, first)
        instruments, _ = _terms(text, second)
        if not endogenous or len(instruments) < len(endogenous):
            raise _broken(text, instrumented, "there are to be at least as many instruments as endogenous variables")
    if not terms and not endogenous and not intercept:
        raise _broken(text, right, "nothing explains the outcome")
    return Formula(outcome, terms, intercept and not absorbed, absorbed, endogenous, instruments)


def explained(outcome: str, side: str | Sequence[str], columns: Collection[str]) -> Formula:
    """Read ``outcome ~ side``, or a side that is a list of terms; columns may have any name. Raises PlanError."""

    def named(text: str) -> str:
        return f"`{text}`" if text in columns and not text.isidentifier() else text

    terms = [side] if isinstance(side, str) else side
    return parsed(f"{named(outcome)} ~ {' + '.join(map(named, terms))}")


def as_sql(text: str) -> str:
    """Return an expression of a formula, in ``I(...)`` or not, as SQL."""
    inside = re.fullmatch(r"I\((.+)\)", text.strip())
    expression = (inside[1] if inside else text).replace("**", "^")
    return re.sub(r"\blog\(", "ln(", expression)  # a statistician's log; SQL's has base 10


def mentions(terms: Terms, variable: Variable) -> bool:
    """Whether some terms look at a column, be it inside of an expression.

    An expression is mentioned where it is a factor itself, and wherever the one column is that it is made of. One of
    several columns is not where these are: it may be a change from a column among the terms.
    """
    factors = [factor for term in terms for factor in term]
    inside = _inputs(variable)
    return variable in factors or (len(inside) == 1 and any(inside <= _inputs(factor) for factor in factors))


def _inputs(factor: Factor) -> frozenset[str]:
    """Return the columns of a factor, in small letters as SQL compares them; none of what is no SQL."""
    if isinstance(factor, Levels) or factor.is_column:
        return frozenset([(factor.column if isinstance(factor, Levels) else factor.text).casefold()])
    try:
        tree = sqlglot.parse_one(factor.text, read=DIALECT)
    except sqlglot.errors.SqlglotError:
        return frozenset()  # the engine will say what is wrong with it
    paths = ([part.name.casefold() for part in column.parts] for column in tree.find_all(exp.Column))
    return frozenset(path[1] if len(path) > 1 and path[0] == "this" else path[0] for path in paths)


def _terms(text: str, side: str) -> tuple[Terms, bool]:
    """Return the terms of a side, each once, and whether it has an intercept."""
    intercept = True
    found: dict[tuple[Factor, ...], None] = {}
    for sign, term in _signed(text, side):
        if term in ("1", "0"):
            intercept = (term == "1") == (sign == "+")
        elif sign == "-":
            found.pop(_product(text, term), None)
        else:
            found.update(dict.fromkeys(_expanded(text, term)))
    return tuple(found), intercept


def _expanded(text: str, term: str) -> Iterator[tuple[Factor, ...]]:
    """Yield what ``a * b`` stands for: a, b and a:b; of a term without a star itself."""
    parts = [_product(text, part) for part in _split(term, "*")]
    for size in range(1, len(parts) + 1):
        for chosen in combinations(parts, size):
            yield tuple(factor for part in chosen for factor in part)


def _product(text: str, term: str) -> tuple[Factor, ...]:
    return tuple(_factor(text, part.strip()) for part in _split(term, ":"))


def _factor(text: str, part: str) -> Factor:
    if not part:
        raise _broken(text, part, HINT)
    if category := CATEGORY.fullmatch(part):
        reference = category["reference"]
        return Levels(category["column"].strip("`"), reference.strip("'\"") if reference else None)
    if NAME.fullmatch(part):
        return Variable(part.strip("`"), True)
    return Variable(as_sql(part), False)


def _column(text: str, name: str) -> str:
    if not NAME.fullmatch(name.strip()):
        raise _broken(text, name, "fixed effects are columns")
    return name.strip().strip("`")


def _signed(text: str, side: str) -> Iterator[tuple[str, str]]:
    for plus in _split(side, "+"):
        first, *removed = _split(plus, "-")
        if first.strip():
            yield "+", first.strip()
        elif not removed:
            raise _broken(text, side, HINT)
        yield from (("-", one.strip()) for one in removed)


def _split(text: str, at: str) -> Iterator[str]:
    """Yield what stands between separators that are in no parentheses, quotes or backticks."""
    depth, quote, begin = 0, "", 0
    for place, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"`":
            quote = letter
        elif letter in "([":
            depth += 1
        elif letter in ")]":
            depth -= 1
        elif (
            letter == at
            and depth == 0
            and not (at == "*" and "**" in (text[place : place + 2], text[place - 1 : place + 1]))
        ):
            yield text[begin:place]
            begin = place + 1
    yield text[begin:]


def _broken(text: str, part: str, hint: str) -> PlanError:
    at = text.find(part) if part.strip() else len(text)
    return PlanError("this is no formula", f"{text}\n{' ' * (at + 9)}^", hint)
