"""Which entries a job still needs: those that it used in its current round or the one before."""

from __future__ import annotations

PASSES = 3


class Rounds:
    """Tell since when what was used counts as in use, so that it is not given up for what is asked for next.

    A loader goes round and round over its files. Whenever those do not all fit, the entry used longest ago is the one
    needed next: evicting by age alone would have dropped each entry just before it is asked for, and answer nothing.
    So an entry of the round is kept, and the new one is not: of a cycle twice the limit, half is answered.

    A round ends when there were `PASSES` times as many requests as different keys in it. That is three epochs if each
    asks once for everything, so that one epoch at least lies in a round even where some keys are asked for more often
    than others. What was not used in the round that has ended, nor since, is free to go: a job that turns to other
    rows has room for them after some epochs.

    Times are whatever the caller counts in.
    """

    def __init__(self) -> None:
        self.started: int | None = None
        self.in_use_since: int | None = None
        self._requests = 0
        self._keys: set[str] = set()

    def ask(self, key: str, now: int) -> bool:
        """Note a request; return whether `in_use_since` is another now."""
        ended = self._requests >= PASSES * len(self._keys)  # and before the first request
        if ended:
            self.in_use_since = now if self.started is None else self.started
            self.started = now
            self._requests = 0
            self._keys.clear()
        self._requests += 1
        self._keys.add(key)
        return ended
