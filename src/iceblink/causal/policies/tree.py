"""Policies that are small trees: a few rules on features, found exactly, which a person can read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pyarrow as pa

from iceblink.causal.judging.columns import check_numbers, numbers
from iceblink.causal.judging.cuts import cut, part_of, shown
from iceblink.causal.moments import Floats, Integers
from iceblink.causal.observational.stack import added
from iceblink.causal.passes import BLOCK_ROWS, summed
from iceblink.causal.policies.actions import Actions, Costs
from iceblink.causal.policies.search import Leaf, Node, Split, Tables, best
from iceblink.causal.provenance import UNKNOWN, Provenance
from iceblink.causal.result import Result
from iceblink.causal.sheet import Sheet
from iceblink.causal.sums import Sums
from iceblink.causal.whole import check_whole_fields
from iceblink.errors import ConfigError, DuplicateColumn, PlanError

if TYPE_CHECKING:
    from iceblink.dataset import Dataset

MOST_CELLS = 2_000_000
"""Numbers that a block of rows is summed to."""


@dataclass(frozen=True)
class PolicyTree:
    """The tree of rules on features by which rows gain most: Σ (Γ_i(a) - c_i(a)) is the largest of all trees [1]_.

    Features are cut at their quantiles into bins, and splits are at the bounds of these; a feature of fewer values than
    bins is split wherever it can be. Then one pass sums scores by the bins of each pair of features, of which the best
    tree of depth 2 is found by looking at all: no greedy steps, no sample. Doing nothing is always among the actions.

    A tree fits the noise of the rows that it was made of: what it is worth is for `PolicyValue` to say, of others.

    Parameters
    ----------
    features : sequence of str
        Columns of numbers, or of true and false.
    score : str or mapping of str to str
        A column of doubly robust scores of the effect, as `DoublyRobust` makes them; of several actions one for each,
        by its name.
    cost : float, str, or mapping of str to these
        What an action costs a row, in the unit of the outcome: an amount, or a column of amounts.
    depth : {1, 2}
    bins : int
    min_leaf : int
        Rows of a leaf, at least.

    References
    ----------
    .. [1] Athey, Wager: Policy learning with observational data, Econometrica 2021, section 2.
    """

    features: Sequence[str]
    score: str | Mapping[str, str]
    cost: Costs = 0.0
    depth: int = 2
    bins: int = 32
    min_leaf: int = 1

    def __post_init__(self) -> None:
        where = "PolicyTree"
        check_whole_fields(self, where)
        Actions.of(self.score, self.cost, where)
        if self.depth not in (1, 2):
            raise ConfigError(f"depth is {self.depth}", where, "1 or 2: deeper trees are not found exactly")
        if not 2 <= self.bins <= 1_000:
            raise ConfigError(f"bins is {self.bins}", where, "from 2 to 1,000; 16 to 64 are usual")
        if self.min_leaf < 1:
            raise ConfigError(f"min_leaf is {self.min_leaf}", where, "1 or more")
        if isinstance(self.features, str) or not self.features:
            raise ConfigError("features are no names", where, 'a list: ["age", "visits"]')
        if len(set(self.features)) < len(self.features):
            raise ConfigError("a feature is named twice", where, f"they are {list(self.features)}")

    def fit(self, data: Dataset) -> FittedTree:
        """Find it. Eager: about four passes.

        Raises
        ------
        ColumnNotFound, TypeMismatch
        QueryError
            A value is missing.
        PlanError
            There are no rows, or too many pairs of bins.
        """
        features = tuple(self.features)
        actions = Actions.of(self.score, self.cost, "PolicyTree")
        where = f"PolicyTree of {', '.join(actions.scores)} by {', '.join(features)}"
        check_numbers(data, features, where)
        actions.check(data, where)
        bounds = cut(data.select(*features), features, self.bins, where)
        parts = tuple(len(one) + 1 for one in bounds)
        pairs = tuple(combinations(range(len(features)), 2)) if self.depth == 2 else ()
        cells = sum(parts) + sum(parts[j] * parts[k] for j, k in pairs)
        if cells * (1 + len(actions.names)) > MOST_CELLS:
            raise PlanError(
                f"{len(features)} features have {cells:,} pairs of bins",
                where,
                "take fewer features or bins, or depth=1",
            )
        needed = data.select(*dict.fromkeys((*features, *actions.inputs)))
        found = summed(needed, _Tabled(features, bounds, pairs, actions, where))
        tables = Tables(
            parts, {pair: found[_named(pair)] for pair in pairs}, [found[str(at)] for at in range(len(parts))]
        )
        return FittedTree(
            where, features, bounds, actions, best(tables, self.depth, self.min_leaf), Provenance.of(data)
        )


def _named(pair: tuple[int, int]) -> str:
    return f"{pair[0]},{pair[1]}"


def _parts(batch: pa.RecordBatch, features: Sequence[str], bounds: Sequence[Floats], where: str) -> list[Integers]:
    """Return in which part each row's features (d lists of n) are."""
    return [part_of(numbers(batch, name, where), of) for name, of in zip(features, bounds, strict=True)]


@dataclass(frozen=True, eq=False)
class _Tabled:
    """Sums of a block of rows by parts of features, and of pairs of them."""

    features: tuple[str, ...]
    bounds: tuple[Floats, ...]
    pairs: tuple[tuple[int, int], ...]
    actions: Actions
    where: str

    def __call__(self, batch: pa.RecordBatch) -> Sums:
        parts = _parts(batch, self.features, self.bounds, self.where)
        counts = [len(one) + 1 for one in self.bounds]
        columns = [np.ones(batch.num_rows), *self.actions.worth(batch, self.where)]

        def table(cell: Integers, *shape: int) -> Floats:
            sums = [added(cell, column, int(np.prod(shape))) for column in columns]
            return np.stack(sums, axis=-1).reshape(*shape, len(columns))

        singles = {str(at): table(part, count) for at, (part, count) in enumerate(zip(parts, counts, strict=True))}
        pairs = {_named((j, k)): table(parts[j] * counts[k] + parts[k], counts[j], counts[k]) for j, k in self.pairs}
        return Sums({**singles, **pairs})


@dataclass(frozen=True, eq=False, repr=False)
class FittedTree(Result):
    """A policy.

    Parameters
    ----------
    title : str
    features : tuple of str
    bounds : tuple of float64 arrays
        Where each feature was cut.
    actions : Actions
    tree : Leaf or Split
    provenance : Provenance
    """

    keys: ClassVar[tuple[str, ...]] = ("rule",)

    title: str
    features: tuple[str, ...]
    bounds: tuple[Floats, ...]
    actions: Actions
    tree: Node
    provenance: Provenance = UNKNOWN

    @property
    def gained(self) -> float:
        """What the rows that it was made of gain by it, on average: too good to be true of others."""
        return self.tree.gained / sum(leaf.rows for _, leaf in self._leaves(self.tree, ()))

    def assign(self, data: Dataset, column: str = "treat", nothing: str = "nothing") -> Dataset:
        """Return rows with a column that says what to do. Lazy.

        True where a row is to be treated, else false; of several actions the name of one, or `nothing`.

        Raises
        ------
        ColumnNotFound, TypeMismatch, DuplicateColumn
        ConfigError
            There is an action of the name `nothing`.
        QueryError
            When it runs: a feature is missing.
        """
        check_numbers(data, self.features, self.title)
        if column in data.columns:
            raise DuplicateColumn(f"there is a column {column!r} already", self.title, "assign(column=...)")
        if nothing in self.actions.names:
            raise ConfigError(f"there is an action {nothing!r}", self.title, "assign(nothing=...)")
        schema = pa.schema([*data.schema, pa.field(column, pa.bool_() if self.actions.single else pa.string())])
        return data.map_batches(_Assigned(self, column, nothing), schema=schema, batch_size=BLOCK_ROWS)

    def to_arrow(self) -> pa.Table:
        """Return a row for each leaf: rule (which rows are in it), action, rows, gained (by each of them)."""
        leaves = list(self._leaves(self.tree, ()))
        return pa.table(
            {
                "rule": [" and ".join(said) or "all rows" for said, _ in leaves],
                "action": [self._action(leaf) for _, leaf in leaves],
                "rows": [int(leaf.rows) for _, leaf in leaves],
                "gained": [_each(leaf) for _, leaf in leaves],
            }
        )

    def sheet(self) -> Sheet:
        """Return what `summary` and notebooks show: the rules, and what the rows gained that they were made of."""
        return Sheet(
            (self.title,), ("", "rows", "gained, each"), list(self._lines(self.tree, "")), self.provenance.lines
        )

    def _action(self, leaf: Leaf) -> str:
        return ("nothing", *self.actions.names)[leaf.action]

    def _sides(self, split: Split) -> tuple[tuple[str, Node], tuple[str, Node]]:
        """Return what is said of rows on either side, and what comes there."""
        name, bound = self.features[split.feature], self.bounds[split.feature][split.part]
        return (f"{name} <= {shown(bound)}", split.left), (f"{name} > {shown(bound)}", split.right)

    def _lines(self, node: Node, indent: str) -> Iterator[list[str]]:
        if isinstance(node, Leaf):
            yield [f"{indent}{self._action(node)}", f"{node.rows:,}", f"{_each(node):.6g}"]
            return
        for said, side in self._sides(node):
            yield [f"{indent}{said}", "", ""]
            yield from self._lines(side, indent + "  ")

    def _leaves(self, node: Node, above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Leaf]]:
        if isinstance(node, Leaf):
            yield above, node
            return
        for said, side in self._sides(node):
            yield from self._leaves(side, (*above, said))


def _each(leaf: Leaf) -> float:
    """Return what a row of a leaf gained, on average; 0 of none."""
    return leaf.gained / leaf.rows if leaf.rows else 0.0


@dataclass(frozen=True, eq=False)
class _Assigned:
    policy: FittedTree
    column: str
    nothing: str

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        policy = self.policy
        parts = _parts(batch, policy.features, policy.bounds, policy.title)
        action = _routed(policy.tree, parts, batch.num_rows)
        if policy.actions.single:
            told = pa.array(action == 1)
        else:
            told = pa.array([self.nothing, *policy.actions.names]).take(pa.array(action))
        return pa.RecordBatch.from_arrays([*batch.columns, told], names=[*batch.schema.names, self.column])


def _routed(node: Node, parts: Sequence[Integers], rows: int) -> Integers:
    """Return the action of each row (n,)."""
    if isinstance(node, Leaf):
        return np.full(rows, node.action)
    left = parts[node.feature] <= node.part
    return np.where(left, _routed(node.left, parts, rows), _routed(node.right, parts, rows))
