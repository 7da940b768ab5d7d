"""Estimating functions change by what they say they change by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from iceblink.causal.multinomial import Logits
from iceblink.causal.observational.choice import Choice, Curve, Probits
from iceblink.causal.observational.entropy import Balanced
from iceblink.causal.observational.outcomes import Outcome
from iceblink.causal.observational.pooled import Pooled
from iceblink.causal.observational.potential import Fit, Form, Potential
from iceblink.causal.observational.stack import Stack
from iceblink.causal.observational.study import Rows
from iceblink.causal.observational.target import Estimand, Target

Floats = NDArray[np.float64]
FORMS: list[tuple[Form, Fit]] = [
    ("hajek", "equal"),
    ("horvitz-thompson", "equal"),
    ("augmented", "equal"),
    ("augmented", "odds"),
    ("regression", "inverse"),
]


@dataclass
class Counted:
    """Stands for a reader: rows are made here."""

    arms: range


def rows(arms: int, draw: np.random.Generator) -> Rows:
    arm = np.concatenate([np.arange(arms), draw.integers(0, arms, 40 - arms)])
    return Rows(draw.normal(size=40), arm, draw.normal(size=(3, 40)), draw.uniform(0.5, 2, 40))


def hold(at: Floats, made: Callable[[Floats], Stack], some: Rows) -> None:
    """Compare derivatives with central differences."""
    step = 1e-6
    moved = [
        (made(at + step * one).terms(some).scores - made(at - step * one).terms(some).scores).sum(axis=1) / (2 * step)
        for one in np.eye(len(at))
    ]
    np.testing.assert_allclose(made(at).terms(some).slopes, np.column_stack(moved), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("arms", "curve"), [(2, Logits()), (2, Probits()), (3, Logits())])
@pytest.mark.parametrize("estimand", ["ATE", "ATT", "ATC", "ATO"])
@pytest.mark.parametrize(("trim", "clip"), [(None, None), (0.05, None), (None, 0.3)])
def test_models_of_treatment_and_outcome(
    arms: int, curve: Curve, estimand: Estimand, trim: float | None, clip: float | None
) -> None:
    draw = np.random.default_rng(arms)
    some, reader = rows(arms, draw), Counted(range(arms))
    choice = Choice(curve, (0, 2), draw.normal(size=(arms - 1, 3)) * 0.4)
    models = tuple(Outcome((0, 1), draw.normal(size=3)) for _ in range(arms))
    means, inner = draw.normal(size=arms), choice.coefficients.size
    for form, fit in FORMS:
        weighted = form in ("hajek", "horvitz-thompson")
        if estimand == "ATO" and not weighted:
            continue
        outcomes = () if weighted else models
        reader_: Any = reader
        stack = Potential(reader_, Target(estimand, trim, clip), form, means, choice, outcomes, fit)

        def made(at: Floats, stack: Potential = stack) -> Potential:
            parts = at[inner:].reshape(-1, 3)
            return replace(
                stack,
                choice=replace(choice, coefficients=at[:inner].reshape(-1, 3)),
                outcomes=tuple(replace(model, coefficients=part) for model, part in zip(models, parts, strict=False)),
            )

        hold(np.concatenate([choice.coefficients.ravel(), *(model.coefficients for model in outcomes)]), made, some)


@pytest.mark.parametrize(("form", "fit"), FORMS[2:])
def test_one_model_of_the_outcome_for_all_arms(form: Form, fit: Fit) -> None:
    draw = np.random.default_rng(9)
    some, reader = rows(3, draw), Counted(range(3))
    choice = Choice(Logits(), (0, 2), draw.normal(size=(2, 3)) * 0.4)
    columns = ((0, None), (1, None), (2, None), (None, 1), (0, 2), (1, 2), (2, 2))
    reader_: Any = reader
    model = Pooled(3, columns, draw.normal(size=7))
    stack = Potential(reader_, Target("ATC"), form, draw.normal(size=3), choice, model, fit)

    def made(at: Floats) -> Potential:
        chosen = replace(choice, coefficients=at[:6].reshape(-1, 3))
        return replace(stack, choice=chosen, outcomes=replace(model, coefficients=at[6:]))

    hold(np.concatenate([choice.coefficients.ravel(), model.coefficients]), made, some)


@pytest.mark.parametrize(("estimand", "others"), [("ATE", (0, 1, 2)), ("ATC", (1, 2))])
def test_exponential_weights(estimand: Estimand, others: tuple[int, ...]) -> None:
    draw = np.random.default_rng(1)
    reader: Any = Counted(range(3))
    levels = dict.fromkeys(others, 0.2)
    stack = Balanced(reader, Target(estimand), (0, 2), np.zeros(2), {}, levels, draw.normal(size=3))

    def made(at: Floats) -> Balanced:
        return replace(stack, centre=at[:2], tilts=dict(zip(others, at[2:].reshape(-1, 2), strict=True)))

    hold(draw.normal(size=2 + 2 * len(others)) * 0.3, made, rows(3, draw))
