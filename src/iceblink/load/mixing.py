"""Several datasets become the setup of one loader, whose steps have rows of each by weight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from iceblink.errors import ColumnNotFound, ConfigError
from iceblink.load.loader import Setup
from iceblink.load.mixed_steps import SOURCE
from iceblink.load.mixed_units import mixed_units
from iceblink.load.mixture import Mixture, Source, steps_before
from iceblink.load.opening import Opening, notes_of
from iceblink.load.order import Rank, Shape
from iceblink.load.shape import shape_of
from iceblink.load.units import Units
from iceblink.plan.nodes import Plan


def mixed_setup_of(
    plans: Mapping[str, Plan], weights: Mapping[str, float], until: str | int | None, opening: Opening
) -> Setup:
    """Plan the loader of a mixture; each source is planned as if it were alone.

    Raises
    ------
    ConfigError, ColumnNotFound
        Also where sources have not the same columns, or one of them has no rows for a step.
    BatchContractBroken
    SchemaMismatch, WriteError
        The quarantine cannot take rows of the sources.
    """
    options, where, shares = opening.options, opening.where, opening.rank.world
    if options.pad:
        raise ConfigError("pad", where, "a mixture has no last step that could be filled up")
    if options.batch_size < 1:
        raise ConfigError(f"batch_size={options.batch_size}", where, "a batch has at least one row")
    units = mixed_units({name: opening.units(plan) for name, plan in plans.items()}, weights, where)
    if SOURCE in units.schema.names:
        raise ConfigError(f"a mixture makes a column {SOURCE!r}, and there is one", where, "rename it")
    sources, begin = [], 0
    for name, one in units.sources.items():
        shape = _shape(name, one, weights[name], opening)
        sources.append(Source(name, weights[name], begin, begin + len(one.rows), shape))
        begin = sources[-1].last_unit
    mixture = Mixture(tuple(sources), 0)
    mixture = replace(mixture, steps=_steps(mixture, units.rows, until, opening))
    shape = Shape(options.batch_size * shares, 1, sources[0].shape.quality, "drop", options.seed)
    notes = tuple(f"{name}: {note}" for name, one in units.sources.items() for note in notes_of(one))
    return opening.setup(units, shape, notes, ", ".join(plans), mixture)


def _shape(name: str, units: Units, weight: float, opening: Opening) -> Shape:
    """Return the order of a source in steps of as many rows as the mixture takes of it, about."""
    shares, wish = opening.rank.world, opening.wish
    rows = int(units.rows.sum())
    if rows < shares:
        raise ConfigError(f"{name!r} has {rows:,} rows, and there are {shares} ranks", opening.where)
    wish = replace(
        wish,
        batch_rows=max(1, min(round(wish.batch_rows * weight), rows // shares)),
        drop_last=True,
        memory_bytes=int(wish.memory_bytes * weight),
        kept_bytes=int(wish.kept_bytes * weight),
    )
    return replace(shape_of(wish, units, Rank(opening.rank.number, shares), opening.where), shares=shares)


def _steps(mixture: Mixture, unit_rows: NDArray[np.int64], until: str | int | None, opening: Opening) -> int:
    if isinstance(until, int):
        if until < 1:
            raise ConfigError(f"until={until}", opening.where, "an epoch has at least one step")
        return until
    names = [source.name for source in mixture.sources]
    if until is not None and until not in names:
        raise ColumnNotFound.of(until, names, f"{opening.where}: until")
    found = {}
    for number, source in enumerate(mixture.sources):
        rows = source.order(unit_rows, 0, 0).steps * source.share_rows
        found[source.name] = steps_before(number, mixture.weights, opening.rank.world, opening.options.batch_size, rows)
    name = min(found, key=lambda name: found[name]) if until is None else until
    if not found[name]:
        raise ConfigError(
            f"{name!r} has not as many rows as one step takes of it",
            opening.where,
            "until=... another source or a number of steps",
        )
    return found[name]
