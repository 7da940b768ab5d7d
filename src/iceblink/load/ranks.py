"""Which of the processes that train together this one is."""

from __future__ import annotations

import os
import sys

from iceblink.errors import ConfigError
from iceblink.load.order import Rank


def rank_of(rank: int | None, world: int | None, where: str) -> Rank:
    """Return the rank: as given, else as `torch.distributed` has it, else by ``RANK`` and ``WORLD_SIZE``, else alone.

    Raises
    ------
    ConfigError
        One of the two is given, or a rank that is not below the world's size.
    """
    if (rank is None) != (world is None):
        raise ConfigError("rank and world belong together", where, "give both, or neither")
    if rank is None or world is None:
        rank, world = _found(where)
    if not 0 <= rank < world:
        raise ConfigError(f"rank {rank} of a world of {world}", where, "ranks count from 0 to world - 1")
    return Rank(rank, world)


def must_be(rank: Rank, where: str) -> None:
    """Raise ConfigError if this process is by now one of several, and another one than was found before."""
    now = Rank(*_found(where))
    if now.world > 1 and now != rank:
        raise ConfigError(
            f"the loader was made as rank {rank.number} of {rank.world}, and this is rank {now.number} of {now.world}",
            where,
            "make it when the ranks have found each other, or give rank and world",
        )


def _found(where: str) -> tuple[int, int]:
    torch = sys.modules.get("torch.distributed")  # whoever has set it up has imported it
    if torch is not None and torch.is_available() and torch.is_initialized():
        return torch.get_rank(), torch.get_world_size()
    rank, world = os.environ.get("RANK"), os.environ.get("WORLD_SIZE")
    try:
        if rank is not None or world in (None, "1"):
            return int(rank or 0), int(world or 1)
    except ValueError:
        pass
    raise ConfigError(f"RANK={rank!r}, WORLD_SIZE={world!r}", where, "set both to numbers, or give rank and world")
