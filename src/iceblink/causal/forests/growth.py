"""Trees grown level by level, all at once: a pass counts rows by tree, node, feature and bin; splits are chosen here.

As PLANET does [1]_: the sums of blocks are merged in a fixed tree, so that splits do not depend on where rows are.

References
----------
.. [1] Panda, Herbach, Basu, Bayardo: PLANET: massively parallel learning of tree ensembles with MapReduce, VLDB 2009.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from iceblink.causal.forests.bins import Bins
from iceblink.causal.forests.rows import Rows, Values
from iceblink.causal.forests.trees import Places, Tree, packed
from iceblink.causal.forests.windows import Windows
from iceblink.causal.hashing import Hashes
from iceblink.causal.moments import Floats
from iceblink.causal.passes import summed
from iceblink.causal.sums import Sums
from iceblink.plan.nodes import Memory
from iceblink.splitmix import numbers, start_of

if TYPE_CHECKING:
    import pyarrow as pa

    from iceblink.dataset import Dataset

LEVEL_ROWS = 262_144
"""Rows of a block: of more rows than cells of a histogram, which is what travels."""
PASS_BYTES = 16 << 20
"""Of the histograms of a pass that reads and bins rows; trees that need more take turns."""
KEPT_PASS_BYTES = 4 << 20
"""Of those of a pass over binned rows in memory, of which another costs little."""
TREE_BYTES = 1 << 20
"""Of the histograms of a tree: where they would be larger, a node counts neighbouring codes as one bin."""


class Drawing(Protocol):
    """Says which rows a tree sees; a row's place decides it."""

    def splitting(self, places: Hashes, tree: int) -> Places:
        """Return the rows (of n places) that choose splits; one that was drawn twice is there twice."""

    def filling(self, places: Hashes, tree: int) -> Places:
        """Return the rows whose values are those of the leaves."""


class Rule(Protocol):
    """What is counted in a bin, and which split is best by it."""

    @property
    def cells(self) -> int:
        """How many numbers are counted in a bin (S)."""

    def counted(self, values: Values, index: Places, size: int) -> Floats:
        """Return the sums (size, S) over rows of the same index."""

    def rows(self, sums: Floats) -> Floats:
        """Return how many rows sums (..., S) are of."""

    def divisible(self, nodes: Floats) -> NDArray[np.bool_]:
        """Return which nodes of sums (k, S) may have splits."""

    def prior(self, nodes: Floats, above: Floats | None) -> Floats:
        """Return what children are to know of nodes of sums (k, S), given what these know of those above; none has."""

    def order(self, bins: Floats) -> Floats:
        """Return by what the bins (..., S) of a category are put in order (...)."""

    def scores(self, left: Floats, node: Floats, prior: Floats) -> Floats:
        """Return what splits are worth (...), of sums (..., S) of their left sides and of nodes; -inf if refused."""


@dataclass(frozen=True)
class Shape:
    """How large trees become.

    Parameters
    ----------
    trees, depth : int
    tried : int
        How many features of p, drawn anew, are tried in each node.
    bins : int
        That there is room for at least, of a number in a node.
    seed : int
    """

    trees: int
    depth: int
    tried: int
    bins: int
    seed: int


@dataclass(frozen=True, eq=False)
class _Open:
    """A tree and the leaves that may yet be split.

    Parameters
    ----------
    number : int
        Which tree.
    tree : Tree
    nodes : int array (k,)
    tried : int array (k, t)
        The features that are tried in each.
    first, last : int arrays (k, p)
        Between which codes of each feature the rows of each that have it are.
    priors : float64 array (k, ...)
        What each knows of the nodes above it.
    """

    number: int
    tree: Tree
    nodes: Places
    tried: Places
    first: Places
    last: Places
    priors: Floats | None

    def pieces(self, cells: int, room: int) -> Iterator[_Open]:
        """Yield it with as many of its nodes at a time as so many bytes hold, of some cells for each feature tried."""
        most = max(room // (8 * cells * self.tried.shape[1]), 1)
        for begin in range(0, len(self.nodes), most):
            some = slice(begin, begin + most)
            above = None if self.priors is None else self.priors[some]
            first, last = self.first[some], self.last[some]
            yield replace(self, nodes=self.nodes[some], tried=self.tried[some], first=first, last=last, priors=above)

    def windows(self, width: int) -> Windows:
        """Return how the codes of the features that are tried are counted in so many bins."""
        first, last = (np.take_along_axis(ends, self.tried, axis=1) for ends in (self.first, self.last))
        return Windows.of(first, last, width)


@dataclass(frozen=True, eq=False)
class _Level:
    """Histograms of a block of rows, of one tree after the other.

    Parameters
    ----------
    open : tuple of _Open
    rule : Rule
    drawing : Drawing
    width : int
        How many bins each feature has in each node (C), the last of what is missing.
    missing : int
        The code of that.
    """

    open: tuple[_Open, ...]
    rule: Rule
    drawing: Drawing
    width: int
    missing: int

    def sizes(self) -> list[int]:
        """Return the cells of the histogram of each tree."""
        return [one.tried.size * self.width * self.rule.cells for one in self.open]

    def __call__(self, batch: pa.RecordBatch) -> Sums:
        rows, sizes = Rows.of(batch, self.open[0].first.shape[1]), self.sizes()
        found = np.empty(sum(sizes))
        for one, part in zip(self.open, np.split(found, np.cumsum(sizes)[:-1]), strict=True):
            self._count(rows, one, part.reshape(*one.tried.shape, self.width, self.rule.cells))
        return Sums({"histogram": found})

    def _count(self, rows: Rows, one: _Open, found: Floats) -> None:
        """Fill the histogram (k, t, C, S) of a tree."""
        mine = rows.among(self.drawing.splitting(rows.places, one.number))
        slot_of = np.full(len(one.tree), -1, np.intp)
        slot_of[one.nodes] = np.arange(len(one.nodes))
        slot = slot_of[one.tree.leaves(mine.codes)]
        if (slot < 0).any():
            inside = np.flatnonzero(slot >= 0)
            mine, slot = mine.among(inside), slot[inside]
        count, tried, size = len(slot), one.tried.shape[1], len(one.nodes) * self.width
        flat, row, windows = mine.codes.ravel(), np.arange(count), one.windows(self.width)
        for at in range(tried):
            every = tried == len(mine.codes)  # then all nodes try the same one
            codes = mine.codes[at] if every else flat[one.tried[:, at][slot] * count + row]
            index = windows.places(at, slot, codes, self.missing)
            found[:, at] = self.rule.counted(mine.values, index, size).reshape(found[:, at].shape)


@dataclass(frozen=True, eq=False)
class _Leaves:
    """Sums over the rows of each leaf, of one tree after the other."""

    trees: tuple[tuple[int, Tree], ...]
    rule: Rule
    drawing: Drawing
    features: int

    def __call__(self, batch: pa.RecordBatch) -> Sums:
        rows = Rows.of(batch, self.features)
        found = []
        for number, tree in self.trees:
            mine = rows.among(self.drawing.filling(rows.places, number))
            found.append(self.rule.counted(mine.values, tree.leaves(mine.codes), len(tree)).ravel())
        return Sums({"leaves": np.concatenate(found)})


def grown(rows: Dataset, bins: Bins, rule: Rule, drawing: Drawing, shape: Shape) -> list[Tree]:
    """Grow trees. Eager: a pass for each level, or more where histograms are larger than is allowed for.

    Parameters
    ----------
    rows : Dataset
        Binned rows.
    bins : Bins
    rule : Rule
    drawing : Drawing
    shape : Shape
    """
    features, width = len(bins.features), bins.width
    room = _room(rows)
    categories = np.array([not feature.ordered for feature in bins.features])
    begun = Tree.root(width)
    trees = [begun] * shape.trees
    top = np.zeros(1, np.intp)
    last = np.array([[len(feature) - 1 for feature in bins.features]])
    ends = np.zeros_like(last), last
    open_ = [_Open(at, begun, top, _tried(shape, features, at, 0, 1), *ends, None) for at in range(len(trees))]
    for _ in range(shape.depth):
        counted_as = _width(bins, max((one.tried.size for one in open_), default=1) * rule.cells, shape.bins)
        cells = counted_as * rule.cells
        pieces = [piece for one in open_ for piece in one.pieces(cells, room)]
        found: dict[int, list[_Best]] = {one.number: [] for one in open_}
        for some, sizes in _turns(pieces, [piece.tried.size * cells for piece in pieces], room):
            level = _Level(tuple(some), rule, drawing, counted_as, width - 1)
            counted = summed(rows, level, LEVEL_ROWS)["histogram"]
            for piece, part in zip(some, np.split(counted, np.cumsum(sizes)[:-1]), strict=True):
                histogram = part.reshape(*piece.tried.shape, -1, rule.cells)
                found[piece.number].append(_best(piece, histogram, rule, categories[piece.tried], width))
        split = [_split(one, _Best.joined(found[one.number]), rule, shape, categories) for one in open_]
        for one in split:
            trees[one.number] = one.tree
        open_ = [one for one in split if len(one.nodes)]
    return trees


def filled(rows: Dataset, trees: Sequence[Tree], rule: Rule, drawing: Drawing, features: int) -> list[Floats]:
    """Return the sums (m, S) over the rows of each node of each tree. Eager: one pass."""
    numbered = list(enumerate(trees))
    found: list[Floats] = []
    for some, sizes in _turns(numbered, [len(tree) * rule.cells for tree in trees], _room(rows)):
        counted = summed(rows, _Leaves(tuple(some), rule, drawing, features), LEVEL_ROWS)["leaves"]
        for (_, tree), part in zip(some, np.split(counted, np.cumsum(sizes)[:-1]), strict=True):
            found.append(tree.summed_up(part.reshape(len(tree), rule.cells)))
    return found


def _width(bins: Bins, cells: int, least: int) -> int:
    """Return how many bins features have in nodes, so that a tree with some cells for each bin has room."""
    most = bins.width - 1
    # Levels of categories stay, and with as many bins there is nothing to be had by fewer bins.
    least = max([least, *(len(feature) for feature in bins.features if not feature.ordered)])
    while most > least and 8 * cells * (most + 1) > TREE_BYTES:
        most = max((most + 1) // 2, least)
    return most + 1


def _room(rows: Dataset) -> int:
    """Return the bytes that the sums of a pass may have."""
    return KEPT_PASS_BYTES if isinstance(rows.plan, Memory) else PASS_BYTES


def _turns(items: Sequence[Any], cells: Sequence[int], room: int) -> Iterator[tuple[list[Any], list[int]]]:
    """Yield items and their sizes, as many at a time as there is room for."""
    some: list[Any] = []
    sizes: list[int] = []
    for item, size in zip(items, cells, strict=True):
        if some and 8 * (sum(sizes) + size) > room:
            yield some, sizes
            some, sizes = [], []
        some.append(item)
        sizes.append(size)
    if some:
        yield some, sizes


def _tried(shape: Shape, features: int, tree: int, first: int, count: int) -> Places:
    """Return which features (count, t) are tried in nodes of a tree."""
    if shape.tried == features:
        return np.tile(np.arange(features), (count, 1))
    start = start_of(shape.seed, "features", tree)
    drawn = numbers(start, np.arange(first * features, (first + count) * features, dtype=np.uint64))
    order = np.argsort(drawn.reshape(count, features), axis=1, kind="stable")[:, : shape.tried]
    return np.sort(order, axis=1)


@dataclass(frozen=True, eq=False)
class _Best:
    """The best split of each of k nodes.

    Parameters
    ----------
    gain : float64 array (k,)
    feature : int array (k,)
    goes_left : uint8 array (k, B / 8)
        Which codes go left, as `Tree` has them.
    below : int array (k,)
        How many codes do, but for what is missing: of a number those below the cut.
    gaps : bool array (k,)
        Whether rows lack the feature.
    sums : float64 array (k, 2, S)
        Over the rows that go left, and right.
    priors : float64 array (k, ...)
        What children are to know of the node.
    """

    gain: Floats
    feature: Places
    goes_left: NDArray[np.uint8]
    below: Places
    gaps: NDArray[np.bool_]
    sums: Floats
    priors: Floats

    @classmethod
    def joined(cls, parts: Sequence[_Best]) -> _Best:
        """Return those of some nodes after those of others."""
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))


def _split(one: _Open, best: _Best, rule: Rule, shape: Shape, categories: NDArray[np.bool_]) -> _Open:
    """Split the open nodes of a tree that are worth it, and return what is open then."""
    splits = np.flatnonzero(best.gain > 0)
    if not len(splits):
        return replace(one, nodes=np.zeros(0, np.intp))
    tree = one.tree.split(
        one.nodes[splits], best.feature[splits], best.goes_left[splits], best.gain[splits], best.gaps[splits]
    )
    begin = len(one.tree)
    children = best.sums[splits].reshape(-1, rule.cells)
    kept = np.flatnonzero(rule.divisible(children))
    tried = _tried(shape, len(categories), one.number, begin, len(children))[kept]
    first, last = (np.repeat(ends[splits], 2, axis=0) for ends in (one.first, one.last))
    cut = np.flatnonzero(~categories[best.feature[splits]])
    feature, below, left = best.feature[splits[cut]], best.below[splits[cut]], 2 * cut
    last[left, feature] = np.minimum(last[left, feature], below - 1)  # the last bin has what is behind it, too
    first[left + 1, feature] = below
    priors = np.repeat(best.priors[splits], 2, axis=0)[kept]
    return _Open(one.number, tree, begin + kept, tried, first[kept], last[kept], priors)


def _best(one: _Open, histogram: Floats, rule: Rule, categories: NDArray[np.bool_], codes: int) -> _Best:
    """Find the best splits of nodes by their histograms (k, t, C, S), for so many codes.

    Bins are in their order, those of a category (k, t) in the rule's; what is missing is tried on either side.
    """
    nodes = histogram[:, 0].sum(axis=1)
    priors = rule.prior(nodes, one.priors)
    count, tried, width, _ = histogram.shape
    there, missing = histogram[:, :, :-1], histogram[:, :, -1:]
    order = np.broadcast_to(np.arange(width - 1), (count, tried, width - 1))
    if categories.any():
        by = np.where(categories[..., np.newaxis], rule.order(there), order)
        order = np.argsort(by, axis=2, kind="stable")
        there = np.take_along_axis(there, order[..., np.newaxis], axis=2)
    left = np.cumsum(there, axis=2)
    node, prior = nodes[:, np.newaxis, np.newaxis], priors[:, np.newaxis, np.newaxis]
    scores = rule.scores(left, node, prior)
    if missing.any():
        scores = np.concatenate([scores, rule.scores(left + missing, node, prior)], axis=2)
    flat = scores.reshape(count, -1)
    chosen = flat.argmax(axis=1)
    at, cut = np.divmod(chosen, scores.shape[2])
    row = np.arange(count)
    joined, cut = np.divmod(cut, width - 1)
    sums = left[row, at, cut] + np.where(joined[:, np.newaxis] == 1, missing[row, at, 0], 0.0)
    goes_left = np.zeros((count, width), bool)
    goes_left[:, :-1] = np.argsort(order[row, at], axis=1, kind="stable") <= cut[:, np.newaxis]  # the ranks of codes
    goes_left[:, -1] = joined == 1
    unseen = rule.rows(histogram[row, at]) == 0
    unseen[:, :-1] &= categories[row, at][:, np.newaxis]  # a number never seen lies between those that were
    larger = 2 * rule.rows(sums) >= rule.rows(nodes)
    goes_left = np.where(unseen, larger[:, np.newaxis], goes_left)
    sides = np.stack([sums, nodes - sums], axis=1)
    of_code = one.windows(width).bins(at, codes)
    goes_left = np.take_along_axis(goes_left, of_code, axis=1)
    below, gaps = goes_left[:, :-1].sum(axis=1), ~unseen[:, -1]
    return _Best(flat[row, chosen], one.tried[row, at], packed(goes_left), below, gaps, sides, priors)
