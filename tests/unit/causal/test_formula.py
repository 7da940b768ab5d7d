"""Formulas are read as fixest reads them."""

from __future__ import annotations

import pytest

from iceblink.causal.formula import Levels, Variable, mentions, parsed
from iceblink.errors import PlanError


def column(name: str) -> Variable:
    return Variable(name, True)


def test_terms_products_and_categories() -> None:
    found = parsed("y ~ a + b:i(c, ref=x) + a + `odd name`")
    assert found.outcome == column("y")
    assert found.terms == ((column("a"),), (column("b"), Levels("c", "x")), (column("odd name"),))
    assert found.intercept


def test_a_star_is_the_columns_and_their_product() -> None:
    a, b, c = map(column, "abc")
    assert parsed("y ~ a * b * c").terms == ((a,), (b,), (c,), (a, b), (a, c), (b, c), (a, b, c))
    assert parsed("y ~ a * b - b").terms == ((a,), (a, b))


@pytest.mark.parametrize("text", ["y ~ a - 1", "y ~ 0 + a", "y ~ a | f"])
def test_no_intercept(text: str) -> None:
    assert not parsed(text).intercept


def test_expressions_are_sql() -> None:
    found = parsed("log(y) ~ I(a ** 2) + greatest(a, b) + coalesce(a, 0)*2")
    assert found.outcome == Variable("ln(y)", False)
    assert found.terms[0] == (Variable("a ^ 2", False),)
    assert found.terms[1] == (Variable("greatest(a, b)", False),)


@pytest.mark.parametrize(
    ("text", "mentioned"),
    [
        ("y ~ a + b", False),
        ("y ~ a + i(t)", True),
        ("y ~ a:t", True),
        ("y ~ I(log(T) + 1)", True),
        ('y ~ I(this."t" * 2)', True),
        ("y ~ I(a.t) + I(left(a, 't')) + tt + I(sqrt(a * tt))", False),
        ("y ~ I(a +)", False),
    ],
)
def test_what_terms_look_at(text: str, mentioned: bool) -> None:
    assert mentions(parsed(text).terms, column("t")) is mentioned


def test_an_expression_is_what_its_one_column_is() -> None:
    level, change = parsed("log(t) ~ 1").outcome, parsed("t - a ~ 1").outcome
    for text in ("y ~ log(t)", "y ~ t", "y ~ i(t)", "y ~ I(t * a)"):
        assert mentions(parsed(text).terms, level)
        assert not mentions(parsed(text).terms, change)
    assert mentions(parsed("y ~ a + I(t * 2)").terms, level)


def test_fixed_effects_and_instruments() -> None:
    found = parsed("y ~ x | firm + year | d ~ z1 + z2")
    assert found.absorbed == ("firm", "year")
    assert found.endogenous == ((column("d"),),)
    assert found.instruments == ((column("z1"),), (column("z2"),))
    assert parsed("y ~ x | d ~ z").endogenous


@pytest.mark.parametrize(
    "text",
    [
        "y",
        "~ x",
        "y ~",
        "y ~ x ~ z",
        "y ~ x +",
        "i(y) ~ x",
        "y ~ x | a b",
        "y ~ x | d ~ z | f",
        "y ~ x | d + e ~ z",
        "",
    ],
)
def test_what_is_no_formula_is_refused(text: str) -> None:
    with pytest.raises(PlanError):
        parsed(text)
