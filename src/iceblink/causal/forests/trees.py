"""A tree over binned features, and what was counted in its nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from iceblink.causal.forests.bins import Bins, Codes
from iceblink.causal.moments import Floats
from iceblink.causal.provenance import Provenance
from iceblink.causal.sheet import Sheet

Places = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Tree:
    """A binary tree of m nodes, the root first and children behind their parents.

    Parameters
    ----------
    feature : int array (m,)
        By which a node is split; -1 of a leaf.
    goes_left : uint8 array (m, B / 8)
        Which codes of it go to the left child, a bit for each, the lowest first; all of a leaf.
    left, right : int arrays (m,)
        The children, of which the right one follows the left one; of a leaf itself.
    gain : float64 array (m,)
        What the split was worth by the criterion; 0 of a leaf.
    gaps : bool array (m,)
        Whether rows of the node lacked the feature; if none did, those that do go with more rows.
    depth : int
        How many splits a row meets, at most.
    """

    feature: Places
    goes_left: NDArray[np.uint8]
    left: Places
    right: Places
    gain: Floats
    gaps: NDArray[np.bool_]
    depth: int

    @classmethod
    def root(cls, width: int) -> Tree:
        """Return a tree of one leaf."""
        none, every = np.zeros(1, np.intp), np.full((1, -(-width // 8)), 255, np.uint8)
        return cls(np.full(1, -1, np.intp), every, none, none, np.zeros(1), np.zeros(1, bool), 0)

    def __len__(self) -> int:
        return len(self.feature)

    def leaves(self, codes: Codes) -> Places:
        """Return the leaf (n,) of rows of codes (p, n)."""
        count, width = codes.shape[1], self.goes_left.shape[1]
        flat, row, node = codes.ravel(), np.arange(count), np.zeros(count, np.intp)
        start, bits, right = np.maximum(self.feature, 0) * count, self.goes_left.ravel(), self.left + 1
        for _ in range(self.depth):  # a leaf leads to itself, whatever the code
            code = flat[start[node] + row]
            node = right[node] - (bits[node * width + (code >> 3)] >> (code & 7) & 1)
        return node

    def split(
        self, nodes: Places, feature: Places, goes_left: NDArray[np.uint8], gain: Floats, gaps: NDArray[np.bool_]
    ) -> Tree:
        """Return the tree with some of its leaves split; their children are the last nodes, left and right in turn."""
        old, count = len(self), len(nodes)
        fresh = np.arange(old, old + 2 * count)
        wide = {
            "feature": np.concatenate([self.feature, np.full(2 * count, -1, np.intp)]),
            "left": np.concatenate([self.left, fresh]),
            "right": np.concatenate([self.right, fresh]),
            "gain": np.concatenate([self.gain, np.zeros(2 * count)]),
            "gaps": np.concatenate([self.gaps, np.zeros(2 * count, bool)]),
            "goes_left": np.concatenate([self.goes_left, np.full((2 * count, self.goes_left.shape[1]), 255, np.uint8)]),
        }
        wide["feature"][nodes], wide["gain"][nodes], wide["gaps"][nodes] = feature, gain, gaps
        wide["goes_left"][nodes] = goes_left
        wide["left"][nodes], wide["right"][nodes] = fresh[::2], fresh[1::2]
        return Tree(**wide, depth=self.depth + 1)

    def summed_up(self, values: Floats) -> Floats:
        """Return sums over the rows of each node (m, S), of sums over those of the leaves."""
        found = values.copy()
        for node in range(len(self) - 1, -1, -1):
            if self.feature[node] >= 0:
                found[node] += found[self.left[node]] + found[self.right[node]]
        return found

    def inherited(self, values: Floats, whole: NDArray[np.bool_]) -> Floats:
        """Return values of nodes (m, S), where those that are not whole have what their parents have."""
        found = values.copy()
        for node in range(len(self)):
            if self.feature[node] >= 0:
                for child in (self.left[node], self.right[node]):
                    if not whole[child]:
                        found[child] = found[node]
        return found

    def shown(self, bins: Bins, labels: Sequence[str]) -> str:
        """Return the tree as lines, a label for each node; what is said of a split is true of its first child."""
        lines = []

        def told(node: int, said: str, indent: int) -> None:
            lines.append(f"{'  ' * indent}{said}: {labels[node]}")
            if self.feature[node] >= 0:
                left = np.unpackbits(self.goes_left[node], count=bins.width, bitorder="little").astype(bool)
                split = bins.told(int(self.feature[node]), left, bool(self.gaps[node]))
                told(int(self.left[node]), split, indent + 1)
                told(int(self.right[node]), "else", indent + 1)

        told(0, "all", 0)
        return "\n".join(lines)


def packed(goes_left: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return which codes go left as a tree has them: (m, B) as (m, B / 8)."""
    return np.packbits(goes_left, axis=1, bitorder="little")


def importance(bins: Bins, trees: Sequence[Tree], sizes: Sequence[Floats]) -> pa.Table:
    """Return what splits by each feature were worth, each weighed by its node's part of the rows; they add up to 1.

    Parameters
    ----------
    bins : Bins
    trees : sequence of Tree
    sizes : sequence of float64 array (m,)
        The rows of each node of each tree.

    Returns
    -------
    Table
        A row for each feature, the largest first: feature, importance.
    """
    worth: NDArray[Any] = np.zeros(len(bins.features))
    for tree, size in zip(trees, sizes, strict=True):
        inner = np.flatnonzero(tree.feature >= 0)
        np.add.at(worth, tree.feature[inner], tree.gain[inner] * size[inner] / max(size[0], 1.0))
    whole = worth.sum()
    parts = worth / whole if whole > 0 else worth
    order = np.argsort(-parts, kind="stable")
    return pa.table({"feature": [bins.columns[at] for at in order], "importance": parts[order]})


def importance_sheet(title: str, found: pa.Table, provenance: Provenance) -> Sheet:
    """Return what a person reads of `importance`."""
    lines = [[row["feature"], f"{row['importance']:.4f}"] for row in found.to_pylist()]
    return Sheet((title,), ("", "importance"), lines, provenance.lines)
