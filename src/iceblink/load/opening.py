"""What a user asks of a loader becomes a loader's setup; all that cannot be is said here, before the first batch."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa

from iceblink.config import MIB, Settings, parse_bytes
from iceblink.errors import ColumnNotFound, ConfigError, DataCorrupt, nearest
from iceblink.load.batches import Finish, Ragged, Text
from iceblink.load.cache.disk import Cache
from iceblink.load.columns import layouts_of
from iceblink.load.kept_units import kept_units
from iceblink.load.loader import PADDED, Setup
from iceblink.load.order import Quality
from iceblink.load.ranks import rank_of
from iceblink.load.reading import read_unit
from iceblink.load.shape import Wish, shape_of
from iceblink.load.units import Units, table_units
from iceblink.plan.fingerprint import parts_of
from iceblink.plan.nodes import Plan
from iceblink.plan.rowwise import chosen
from iceblink.run.local_engine import LocalEngine

MEMORY_BYTES, PREFETCH_BYTES = 512 * MIB, 16 * MIB


@dataclass(frozen=True)
class Options:
    """What all loaders take; see `Dataset.to_torch`."""

    batch_size: int
    columns: Sequence[str] | None = None
    shuffle: bool = False
    quality: Quality | None = None
    seed: int = 0
    drop_last: bool = False
    pad: bool = False
    rank: int | None = None
    world: int | None = None
    memory: int | str | None = None
    prefetch: int | str | None = None
    cache: Cache | str | Path | bool | None = None
    nulls: Any = "raise"
    tensors: Mapping[str, bool] = field(default_factory=dict)
    ragged: Ragged = "values"
    text: Text = "list"
    transform: Callable[[dict[str, Any]], Any] | None = None
    collate: Callable[[Any], Any] | None = None
    on_error: Literal["raise", "skip"] = "raise"
    workers: int = 1

    @classmethod
    def of(cls, batch_size: int, given: Mapping[str, Any], where: str) -> Self:
        """Return options by name.

        Raises
        ------
        ConfigError
            There is no such option.
        """
        known = [item.name for item in fields(cls) if item.name != "batch_size"]
        unknown = next((name for name in given if name not in known), None)
        if unknown is not None:
            raise ConfigError(f"no option {unknown!r}", where, nearest(unknown, known, "options"))
        return cls(batch_size, **given)


def setup_of(
    plan: Plan, engine: LocalEngine, options: Options, where: str, convert: Callable[[Any], Any] | None = None
) -> Setup:
    """Plan a loader: metadata and one unit are read, and what has no row groups of its own is run.

    Raises
    ------
    ConfigError, ColumnNotFound
    BatchContractBroken
        The first rows hold what has no place in a tensor.
    """
    rank = rank_of(options.rank, options.world, where)
    settings = engine.settings
    memory = _bytes(options.memory, min(MEMORY_BYTES, settings.memory_bytes), where)
    if options.columns is not None:
        for name in options.columns:
            if name not in plan.schema.names:
                raise ColumnNotFound.of(name, plan.schema.names, where)
        plan = chosen(plan, options.columns)
    if options.pad and PADDED in plan.schema.names:
        raise ConfigError(f"pad makes a column {PADDED!r}, and there is one", where, "rename it")
    on_error = _one_of("on_error", options.on_error, ("raise", "skip"), where)
    if options.workers < 1:
        raise ConfigError(f"workers={options.workers}", where, "at least one thread makes batches")
    cache = _cache(options.cache)
    units = _units(plan, engine, settings, cache)
    wish = Wish(
        options.batch_size, options.shuffle, options.quality, options.seed, options.drop_last, options.pad, memory,
        0 if cache is None else cache.limit_bytes,
    )  # fmt: skip
    shape = shape_of(wish, units, rank, where)
    layouts = layouts_of(plan.schema, _sample(units, cache, on_error == "skip"), options.tensors, options.nulls, where)
    finish = Finish(
        {layout.name: layout for layout in layouts},
        _one_of("ragged", options.ragged, ("values", "pad", "nested"), where),
        _one_of("text", options.text, ("list", "arrow"), where),
        options.transform,
        convert,
        options.collate,
    )
    prefetch = _bytes(options.prefetch, PREFETCH_BYTES, where)
    return Setup(
        units, layouts, shape, rank, settings.threads, memory, prefetch, finish, where, cache, on_error,
        options.workers, options.rank is not None,
    )  # fmt: skip


def _cache(given: Cache | str | Path | bool | None) -> Cache | None:
    if given is None or given is False:
        return None
    if given is True:
        return Cache(Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "iceblink"))
    return given if isinstance(given, Cache) else Cache(given)


def _units(plan: Plan, engine: LocalEngine, settings: Settings, cache: Cache | None) -> Units:
    found = table_units(plan, settings, cache)
    if found is not None:
        return found
    with closing(engine.batches(plan)) as batches:
        rows = (batch.data for batch in batches)
        return kept_units(plan.schema, rows, parts_of(plan), Path(settings.spill_dir))


def _sample(units: Units, cache: Cache | None, skip: bool) -> pa.Table:
    """Return the first unit that has rows, and that can be read if others are skipped."""
    failed: DataCorrupt | None = None
    for unit in np.flatnonzero(units.rows):
        try:
            return read_unit(units, int(unit), cache)
        except DataCorrupt as error:
            failed = failed or error
            if not skip:
                break
    if failed is not None:
        raise failed
    return units.schema.empty_table()


def _one_of(name: str, given: Any, known: Sequence[str], where: str) -> Any:
    if given not in known:
        raise ConfigError(f"{name}={given!r}", where, f"it is {' or '.join(map(repr, known))}")
    return given


def _bytes(given: int | str | None, default: int, where: str) -> int:
    if given is None:
        return default
    found = parse_bytes(given, where) if isinstance(given, str) else given
    if found < 1:
        raise ConfigError(f"{given!r} bytes", where)
    return found
