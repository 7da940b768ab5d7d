"""Shares of a step: each is made by itself, whichever ranks take its rows."""

from __future__ import annotations

from dataclasses import dataclass

from iceblink.load.order import Rank


@dataclass(frozen=True)
class WholeShares(Rank):
    """A rank, and all rows of the shares of which it has some.

    What is sorted or counted inside of a share does not depend on the number of ranks: there are as many shares as
    there were ranks when the job began, so that each rank then has one, and takes some of one or several later.
    """

    shares: int

    @property
    def first(self) -> int:
        """The first of them."""
        return self.number * self.shares // self.world

    @property
    def last(self) -> int:
        """The share behind them."""
        return -(-(self.number + 1) * self.shares // self.world)

    def share(self, rows: int) -> tuple[int, int]:
        """Return where the shares begin and end."""
        return rows * self.first // self.shares, rows * self.last // self.shares

    def part(self, rank: Rank, rows: int) -> tuple[int, int]:
        """Return where the rows of a rank itself begin and end among these."""
        begin = self.share(rows)[0]
        low, high = rank.share(rows)
        return low - begin, high - begin

    @classmethod
    def of(cls, rank: Rank, shares: int) -> WholeShares:
        """Return the whole shares of a rank."""
        return cls(rank.number, rank.world, shares)
