"""How the rows of a dataset are to be ordered: chosen once from what there is, then a part of the loader's state."""

from __future__ import annotations

from dataclasses import dataclass

from iceblink.errors import ConfigError
from iceblink.load.order import Quality, Rank, Shape, Tail
from iceblink.load.units import Units

MOST_LANES = 256
UNITS_A_LANE = 4
"""Each lane but the last ends inside of a unit, which the next one reads again: a quarter of all units at most."""
OPEN_SHARE = 0.6
"""Of the memory, for the units that lanes have open; the rest is for what is read ahead."""


@dataclass(frozen=True)
class Wish:
    """What a user asks of the order.

    Parameters
    ----------
    batch_rows : int
        Rows of a batch of one rank.
    shuffle : bool
    quality : {"none", "block", "window", "global"} or None
        None for the best that the memory allows.
    seed : int
    drop_last, pad : bool
    memory_bytes : int
        For decoded rows of one rank [bytes].
    kept_bytes : int
        Of decoded rows that may be kept on a disk, where reading them again costs little [bytes].
    """

    batch_rows: int
    shuffle: bool
    quality: Quality | None
    seed: int
    drop_last: bool
    pad: bool
    memory_bytes: int
    kept_bytes: int


def shape_of(wish: Wish, units: Units, rank: Rank, where: str) -> Shape:
    """Choose the order of a dataset for a world of ranks.

    Raises
    ------
    ConfigError
        It cannot be: said now, where it would make ranks wait for each other later.
    """
    if wish.batch_rows < 1:
        raise ConfigError(f"batch_size={wish.batch_rows}", where, "a batch has at least one row")
    if wish.drop_last and wish.pad:
        raise ConfigError("drop_last and pad are both set", where, "the last rows are left out, or filled up")
    batch_rows, rows = wish.batch_rows * rank.world, int(units.rows.sum())
    tail: Tail = "drop" if wish.drop_last else "pad" if wish.pad else "keep"
    left = rows % batch_rows
    if tail == "keep" and 0 < left < rank.world:
        raise ConfigError(
            f"{rows:,} rows in steps of {batch_rows:,} leave {left} for the last step of {rank.world} ranks, "
            "some of which would have no batch and wait for ever for the others",
            where,
            "drop_last=True leaves them out, pad=True fills the step up",
        )
    if tail == "drop" and rows < batch_rows:
        raise ConfigError(
            f"{rows:,} rows make no step of {batch_rows:,}", where, "lower batch_size, or pad=True fills it up"
        )
    quality = _quality(wish, units, where)
    return Shape(batch_rows, _lanes(quality, wish, batch_rows, rank.world, units), quality, tail, wish.seed)


def _quality(wish: Wish, units: Units, where: str) -> Quality:
    fits = units.decoded_bytes <= wish.memory_bytes * OPEN_SHARE
    if not wish.shuffle:
        if wish.quality not in (None, "none"):
            raise ConfigError(f"quality={wish.quality!r} without shuffle", where, "set shuffle=True")
        return "none"
    match wish.quality:
        case None:
            return "global" if fits else "window"  # of kept units, too, for the first batch should not wait for all
        case "global" if not fits and units.decoded_bytes > wish.kept_bytes:
            raise ConfigError(
                f"a permutation of all rows has to reach {units.decoded_bytes:,} decoded bytes, and there is room for "
                f"{max(wish.kept_bytes, int(wish.memory_bytes * OPEN_SHARE)):,}",
                where,
                "cache=True keeps them on a disk, cache=ib.Cache(folder, limit) more; quality='window' does without",
            )
        case "none" | "block" | "window" | "global":
            return wish.quality
    raise ConfigError(f"quality={wish.quality!r}", where, "it is 'none', 'block', 'window' or 'global'")


def _lanes(quality: Quality, wish: Wish, batch_rows: int, world: int, units: Units) -> int:
    """Return a divisor of the rows of a step that gives each rank lanes of its own, or several ranks one lane."""
    if quality == "global":
        return 1
    count = len(units.rows)
    if quality == "window":
        unit_bytes = max(1, units.decoded_bytes // max(1, count))
        open_units = int(wish.memory_bytes * OPEN_SHARE) // unit_bytes * world
        most = min(MOST_LANES, count // UNITS_A_LANE, open_units)
    else:
        most = min(world, count)
    fitting = (lanes for lanes in range(max(1, min(most, batch_rows)), 0, -1) if batch_rows % lanes == 0)
    return next(lanes for lanes in fitting if lanes % world == 0 or world % lanes == 0)


def spread_of(shape: Shape, units: Units) -> float:
    """Return by how much, at most, the mean of a batch varies more than that of rows drawn one by one.

    The design effect of cluster sampling [1]_ for row groups whose rows are all alike; where row groups are like each
    other, as after a shuffled write, it is 1 whatever the order.

    References
    ----------
    .. [1] Kish: Survey Sampling, Wiley 1965, section 5.4.
    """
    if shape.quality == "global":
        return 1.0
    open_units = min(shape.lanes, max(1, len(units.rows)))
    if shape.quality != "window":
        open_units = max(open_units, -(-shape.batch_rows * len(units.rows) // max(1, int(units.rows.sum()))))
    return max(1.0, shape.batch_rows / open_units)
