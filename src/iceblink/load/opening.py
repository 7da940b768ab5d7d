"""What a user asks of a loader becomes a loader's setup; all that cannot be is said here, before the first batch."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa

from iceblink.config import MIB, Settings, parse_bytes
from iceblink.errors import ColumnNotFound, ConfigError, DataCorrupt, nearest
from iceblink.load.batches import Finish, Ragged, Text, Transformed
from iceblink.load.cache.disk import Cache
from iceblink.load.columns import Layout, layouts_of
from iceblink.load.kept_units import kept_units
from iceblink.load.loader import PADDED, Setup
from iceblink.load.mixture import Mixture
from iceblink.load.order import Quality, Shape
from iceblink.load.pack import PackedUnits, packed_units
from iceblink.load.ranks import rank_of
from iceblink.load.reading import read_unit
from iceblink.load.refused import refused_schema
from iceblink.load.sequences import Bucket, Pack
from iceblink.load.shape import OPEN_SHARE, Wish, shape_of
from iceblink.load.units import Units, table_units
from iceblink.plan.fingerprint import parts_of
from iceblink.plan.function import Function, OnError, check_on_error
from iceblink.plan.nodes import Plan
from iceblink.plan.rowwise import chosen
from iceblink.run.local_engine import LocalEngine
from iceblink.run.pipeline.function_pickle import pickled
from iceblink.run.session import Session

MEMORY_BYTES, PREFETCH_BYTES = 320 * MIB, 16 * MIB


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
    on_error: OnError = "raise"
    quarantine: str | None = None
    workers: int = 1
    processes: bool | None = None
    sequences: Pack | Bucket | None = None

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


class Opening:
    """What a loader is planned with, before anything is read.

    Raises
    ------
    ConfigError
    """

    def __init__(
        self,
        session: Session,
        options: Options,
        where: str,
        convert: Callable[[Any], Any] | None = None,
        move: Callable[[Any], Any] | None = None,
    ) -> None:
        self.options, self.where, self.settings = options, where, session.engine.settings
        check_on_error(options.on_error, options.quarantine, where)
        self.quarantine = None if options.quarantine is None else session.quarantine(options.quarantine)
        if options.workers < 1:
            raise ConfigError(f"workers={options.workers}", where, "at least one thread makes batches")
        self.processes = _in_processes(options, where)
        self.rank = rank_of(options.rank, options.world, where)
        self.memory = _bytes(options.memory, min(MEMORY_BYTES, self.settings.memory_bytes), where)
        self.cache = _cache(options.cache)
        self._engine, self._convert, self._move = session.engine, convert, move

    @property
    def wish(self) -> Wish:
        """What is asked of the order."""
        options, kept = self.options, 0 if self.cache is None else self.cache.limit_bytes
        return Wish(
            options.batch_size, options.shuffle, options.quality, options.seed, options.drop_last, options.pad,
            self.memory, kept,
        )  # fmt: skip

    def units(self, plan: Plan) -> Units:
        """Return the units of a dataset; what has no row groups of its own is run.

        Raises
        ------
        ConfigError, ColumnNotFound
        """
        options, where = self.options, self.where
        if not isinstance(options.sequences, Pack | Bucket | None):
            raise ConfigError(f"sequences={options.sequences!r}", where, "it is a Pack or a Bucket")
        pack = options.sequences if isinstance(options.sequences, Pack) else None
        columns = options.columns
        if pack is not None:
            if columns is not None:
                raise ConfigError("columns beside Pack", where, "Pack(columns=...) names all that are read")
            columns = pack.names
        if columns is not None:
            for name in columns:
                if name not in plan.schema.names:
                    raise ColumnNotFound.of(name, plan.schema.names, where)
            plan = chosen(plan, columns)
        if options.pad and PADDED in plan.schema.names:
            raise ConfigError(f"pad makes a column {PADDED!r}, and there is one", where, "rename it")
        units = _units(plan, self._engine, self.settings, self.cache)
        if pack is None:
            return units
        return packed_units(units, pack, options.shuffle, self.settings.threads, self.cache, where)

    def setup(
        self, units: Units, shape: Shape, notes: tuple[str, ...], name: str, mixture: Mixture | None = None
    ) -> Setup:
        """Return the setup of a loader called `name`; one unit is read.

        Raises
        ------
        ConfigError, ColumnNotFound
        BatchContractBroken
            The first rows hold what has no place in a tensor.
        SchemaMismatch, WriteError
            The quarantine cannot take rows of the dataset.
        """
        options, where = self.options, self.where
        if self.quarantine is not None:
            self.quarantine.check([refused_schema(units.schema)])
        sample = _sample(units, self.cache, options.on_error != "raise")
        layouts = layouts_of(units.schema, sample, options.tensors, options.nulls, where)
        transformed = Transformed(
            {layout.name: layout for layout in layouts},
            _one_of("ragged", options.ragged, ("values", "pad", "nested"), where),
            _one_of("text", options.text, ("list", "arrow"), where),
            options.transform,
        )
        if self.processes:  # what cannot go there is told now; each pass pickles it as it is then
            pickled(transformed, f"{where}: transform", "open it in transform, once; or processes=False")
            notes = (*notes, f"transform is called in {options.workers} processes")
        prefetch = _bytes(options.prefetch, PREFETCH_BYTES, where)
        shape = replace(shape, shares=self.rank.world)
        if isinstance(options.sequences, Bucket):
            shape = replace(shape, bucket=self._bucket(options.sequences, units, transformed.layouts))
        finish = Finish(transformed, self._convert, options.collate, self._move)
        processes = self.settings.spill_dir if self.processes else None
        return Setup(
            units, layouts, shape, self.rank, self.settings.threads, self.memory, prefetch, finish, where, self.cache,
            options.on_error, self.quarantine, options.workers, processes, options.rank is not None, mixture, notes,
            f"{where} {name}",
        )  # fmt: skip

    def _bucket(self, bucket: Bucket, units: Units, layouts: Mapping[str, Layout]) -> Bucket:
        where = f"{self.where}: Bucket"
        if bucket.column not in layouts:
            raise ColumnNotFound.of(bucket.column, list(layouts), where)
        if layouts[bucket.column].kind in ("tensor", "other"):
            hint = "sort by lists or text of any length, or by numbers"
            raise ConfigError(f"rows of {bucket.column!r} have no lengths that differ", where, hint)
        if bucket.steps < 1:
            raise ConfigError(f"steps={bucket.steps}", where, "rows of at least one step are sorted")
        row_bytes = units.decoded_bytes // max(1, int(units.rows.sum()))
        size, room = row_bytes * self.options.batch_size * bucket.steps, int(self.memory * (1 - OPEN_SHARE))
        if size > room:
            raise ConfigError(
                f"rows of {bucket.steps:,} steps are about {size:,} bytes, and there is room for {room:,}",
                where,
                "fewer steps, or more memory",
            )
        return bucket


def setup_of(
    plan: Plan,
    session: Session,
    options: Options,
    where: str,
    convert: Callable[[Any], Any] | None = None,
    move: Callable[[Any], Any] | None = None,
) -> Setup:
    """Plan a loader: metadata and one unit are read, and what has no row groups of its own is run.

    Raises
    ------
    ConfigError, ColumnNotFound
    BatchContractBroken
        The first rows hold what has no place in a tensor.
    SchemaMismatch, WriteError
        The quarantine cannot take rows of the dataset.
    """
    opening = Opening(session, options, where, convert, move)
    units = opening.units(plan)
    shape = shape_of(opening.wish, units, opening.rank, where)
    tables = (part.removeprefix("table ") for part in units.identity if part.startswith("table "))
    return opening.setup(units, shape, notes_of(units), ", ".join(tables) or "rows")


def notes_of(units: Units) -> tuple[str, ...]:
    """Return what there is to say of units, in words."""
    return (units.note,) if isinstance(units, PackedUnits) else ()


def _in_processes(options: Options, where: str) -> bool:
    """Return whether `transform` is called in processes: as the user says, or whoever wrote it."""
    if options.transform is None:
        if options.processes:
            raise ConfigError("processes without a transform", where, "transform=... is what they would call")
        return False
    return Function(options.transform).pure_python if options.processes is None else options.processes


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
