"""The best tree of depth 1 or 2, of all there are, from sums over pairs of features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from iceblink.causal.moments import Floats, Integers

BETTER = 1e-12
"""A split has to gain more than this part of what is there: less is rounding."""


@dataclass(frozen=True)
class Leaf:
    """Do this with all rows.

    Parameters
    ----------
    action : int
        0 is to do nothing.
    rows : int
    gained : float
        The sum of what its rows gain, scores less costs.
    """

    action: int
    rows: int
    gained: float


@dataclass(frozen=True)
class Split:
    """Go left where a feature is in one of the parts up to `part`, counted from 0; else right."""

    feature: int
    part: int
    left: Node
    right: Node

    @property
    def gained(self) -> float:
        return self.left.gained + self.right.gained


Node = Leaf | Split


@dataclass(frozen=True, eq=False)
class Tables:
    """Sums over rows by parts of features: ones, then what each action is worth.

    Parameters
    ----------
    parts : tuple of int
        How many each feature has.
    pairs : mapping of (int, int) to float64 array (b_j, b_k, 1 + A)
        Of each pair of features j < k.
    singles : sequence of float64 array (b_j, 1 + A)
    """

    parts: tuple[int, ...]
    pairs: Mapping[tuple[int, int], Floats]
    singles: Sequence[Floats]

    @property
    def total(self) -> Floats:
        """Sums over all rows (1 + A,)."""
        return np.asarray(self.singles[0].sum(axis=0))

    def below(self, feature: int, other: int) -> Floats:
        """Return sums (b_j, b_k, 1 + A) over rows whose features are in parts up to these."""
        if feature == other:
            upto = self.singles[feature].cumsum(axis=0)
            at = np.arange(len(upto))
            return np.asarray(upto[np.minimum(at[:, np.newaxis], at)])
        of = self.pairs[min(feature, other), max(feature, other)]
        upto = of.cumsum(axis=0).cumsum(axis=1)
        return upto if feature < other else upto.transpose(1, 0, 2)


def best(tables: Tables, depth: int, min_leaf: int) -> Node:
    """Return the tree that gains most; of equal ones the smaller, then the one found first [1]_.

    A tree of depth 2 has its root at some part of some feature; the best split of each half is known from the sums over
    the parts of two features. All roots, and all splits of the halves, are looked at.

    Parameters
    ----------
    tables : Tables
    depth : int
        0, 1 or 2.
    min_leaf : int
        Of a leaf.

    References
    ----------
    .. [1] Zhou, Athey, Wager: Offline multi-action policy learning, Operations Research 2023, whose search this is, on
       parts of features in place of single rows.
    """
    found = _leaf(tables.total)
    if depth == 0:
        return found
    stump = _stump(tables, found, min_leaf)
    if depth == 1:
        return stump
    tree: Node = stump
    for feature, parts in enumerate(tables.parts):
        if parts < 2:
            continue
        halves = [_Halves.of(tables, feature, right, min_leaf) for right in (False, True)]
        gains = halves[0].gains + halves[1].gains
        part = int(np.argmax(gains))
        if gains[part] > tree.gained + BETTER * abs(tree.gained):
            tree = Split(feature, part, halves[0].node(tables, part), halves[1].node(tables, part))
    return tree


def _values(sums: Floats, min_leaf: int) -> Floats:
    """Return what leaves (...,) of sums (..., 1 + A) gain: -∞ if they have too few rows."""
    gained = np.maximum(sums[..., 1:].max(axis=-1), 0.0)
    return np.where(sums[..., 0] >= min_leaf, gained, -np.inf)


def _leaf(sums: Floats) -> Leaf:
    worth = np.concatenate([[0.0], sums[1:]])
    action = int(np.argmax(worth))
    return Leaf(action, int(sums[0]), float(worth[action]))


@dataclass(frozen=True, eq=False)
class _Halves:
    """The best split of the rows left, or right, of each place (b - 1,) of a feature.

    Parameters
    ----------
    feature : int
    right : bool
    whole : float64 array (b - 1, 1 + A)
        Sums over the half.
    gains : float64 array (b - 1,)
    others, parts : int arrays (b - 1,)
        By which feature, after which part; the feature is -1 where the half is a leaf.
    """

    feature: int
    right: bool
    whole: Floats
    gains: Floats
    others: Integers
    parts: Integers

    @classmethod
    def of(cls, tables: Tables, feature: int, right: bool, min_leaf: int) -> _Halves:
        upto = tables.singles[feature].cumsum(axis=0)
        whole = upto[-1] - upto[:-1] if right else upto[:-1]
        gains = _values(whole, min_leaf)
        others, parts = np.full(len(gains), -1), np.zeros(len(gains), np.int64)
        for other, count in enumerate(tables.parts):
            if count < 2:
                continue
            below = tables.below(feature, other)
            near = (below[-1] - below[:-1] if right else below[:-1])[:, :-1]
            split = _values(near, min_leaf) + _values(whole[:, np.newaxis] - near, min_leaf)
            part = split.argmax(axis=1)
            found = np.take_along_axis(split, part[:, np.newaxis], axis=1)[:, 0]
            better = found > gains + BETTER * np.where(np.isfinite(gains), np.abs(gains), 0.0)
            gains, others, parts = (
                np.where(better, new, old) for new, old in ((found, gains), (other, others), (part, parts))
            )
        return cls(feature, right, whole, gains, others, parts)

    def node(self, tables: Tables, place: int) -> Node:
        """Return the best tree of the half beside a place."""
        other, part = int(self.others[place]), int(self.parts[place])
        if other < 0:
            return _leaf(self.whole[place])
        below = tables.below(self.feature, other)
        near = (below[-1] - below[place] if self.right else below[place])[part]
        return Split(other, part, _leaf(near), _leaf(self.whole[place] - near))


def _stump(tables: Tables, leaf: Leaf, min_leaf: int) -> Node:
    stump: Node = leaf
    for feature, parts in enumerate(tables.parts):
        if parts < 2:
            continue
        left = tables.singles[feature].cumsum(axis=0)[:-1]
        gains = _values(left, min_leaf) + _values(tables.total - left, min_leaf)
        part = int(np.argmax(gains))
        if gains[part] > stump.gained + BETTER * abs(stump.gained):
            stump = Split(feature, part, _leaf(left[part]), _leaf(tables.total - left[part]))
    return stump
