"""Whom to treat for a given amount: those whose predicted effect for each unit of cost is the highest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from iceblink.causal.experiments.quantiles import ordered, restored
from iceblink.causal.hashing import hashed
from iceblink.causal.judging.columns import check_numbers, keys_of, numbers
from iceblink.causal.moments import Floats
from iceblink.causal.observational.stack import added
from iceblink.causal.passes import BLOCK_ROWS, summed
from iceblink.causal.provenance import UNKNOWN, Provenance
from iceblink.causal.result import Result
from iceblink.causal.sheet import Sheet
from iceblink.causal.sums import Sums
from iceblink.causal.whole import check_whole_fields
from iceblink.errors import ConfigError, DuplicateColumn, QueryError

if TYPE_CHECKING:
    from iceblink.dataset import Dataset

Whole = NDArray[np.uint64]

BITS = 12
PARTS = 1 << BITS
FEW_ROWS = 1_000_000
CLOSE = 1e-12
"""Amounts that differ by less than this part of them are equal: sums of a tenth are no whole numbers."""
FETCHED = pa.schema({"number": pa.uint64(), "tie": pa.uint64(), "cost": pa.float64()})
LAST = np.uint64(2**64 - 1)


@dataclass(frozen=True)
class Budget:
    """Those to treat under a budget, by a predicted effect and a cost.

    Rows are taken in the order of effect / cost, as long as their costs together are within the amount and the effect
    is above 0: for the amount spent, no other choice has a larger sum of predicted effects [1]_. Rows of one ratio are
    in the order of a hash of their key, so that the choice is the same whoever makes it, however the rows are spread.

    Parameters
    ----------
    effect : str
        A column of predicted effects.
    amount : float
        What may be spent, in the unit of the cost.
    key : str or sequence of str
        The columns of the unit.
    cost : float or str
        What it costs to treat a row: an amount, or a column of amounts, none below 0.
    seed : int

    References
    ----------
    .. [1] Dantzig: Discrete-variable extremum problems, Operations Research 1957; Bhattacharya, Dupas: Inferring
       welfare maximizing treatment assignment under budget constraints, J. Econometrics 2012.
    """

    effect: str
    amount: float
    key: str | Sequence[str]
    cost: float | str = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_whole_fields(self, "Budget")
        if not 0 <= self.amount < np.inf:
            raise ConfigError(f"amount is {self.amount}", "Budget", "what may be spent, 0 or more")
        if not isinstance(self.cost, str) and not 0 <= self.cost < np.inf:
            raise ConfigError(f"cost is {self.cost}", "Budget", "0 or more, or a column")

    def fit(self, data: Dataset) -> Spending:
        """Find where the amount ends. Eager: about four passes over few columns.

        Raises
        ------
        ColumnNotFound, TypeMismatch
        QueryError
            An effect or a cost is missing, or a cost is negative.
        PlanError
            There are no rows.
        """
        where = f"Budget {self.amount:g} by {self.effect}"
        costs = (self.cost,) if isinstance(self.cost, str) else ()
        check_numbers(data, (self.effect, *costs), where)
        order = _Order(self.effect, self.cost, keys_of(self.key, data, where), self.seed, where)
        rows = data.select(*order.inputs)
        number, tie = _end(rows, order, self.amount)
        chosen = _Chosen(order, number, tie)
        found = summed(rows, _Totals(chosen))
        return Spending(
            title=where,
            chosen=chosen,
            rows=int(found["rows"]),
            treated=int(found["treated"]),
            spent=float(found["spent"]),
            gained=float(found["gained"]),
            provenance=Provenance.of(data, seed=self.seed),
        )


@dataclass(frozen=True, eq=False, repr=False)
class Spending(Result):
    """Who is treated under a budget.

    Parameters
    ----------
    title : str
    rows, treated : int
        Of the rows that it was fitted to: all, and those to treat.
    spent : float
    gained : float
        The sum of their predicted effects; what they gain indeed is for `PolicyValue` to say.
    provenance : Provenance
    """

    keys: ClassVar[tuple[str, ...]] = ("name",)

    title: str
    chosen: _Chosen
    rows: int
    treated: int
    spent: float
    gained: float
    provenance: Provenance = UNKNOWN

    @property
    def least(self) -> float:
        """The effect for each unit of cost above which a row is treated."""
        if self.chosen.number == LAST:
            return 0.0
        return float(restored(np.array([~self.chosen.number], np.uint64))[0])

    def assign(self, data: Dataset, column: str = "treat") -> Dataset:
        """Return rows with a column that is true where a row is to be treated. Lazy.

        Rows that the budget was not fitted to are treated by the same rule; what they cost together is not limited.

        Raises
        ------
        ColumnNotFound, TypeMismatch, DuplicateColumn
        """
        order = self.chosen.order
        check_numbers(data, order.numbers, self.title)
        keys_of(order.keys, data, self.title)
        if column in data.columns:
            raise DuplicateColumn(f"there is a column {column!r} already", self.title, "assign(column=...)")
        schema = pa.schema([*data.schema, pa.field(column, pa.bool_())])
        return data.map_batches(_Assigned(self.chosen, column), schema=schema, batch_size=BLOCK_ROWS)

    def to_arrow(self) -> pa.Table:
        """Return a row for each thing that is known: name and value."""
        return pa.table({"name": list(self._known), "value": [float(value) for value in self._known.values()]})

    def sheet(self) -> Sheet:
        """Return what `summary` and notebooks show."""
        lines = [
            [name, f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"] for name, value in self._known.items()
        ]
        return Sheet((self.title,), ("", "value"), lines, self.provenance.lines)

    @property
    def _known(self) -> dict[str, int | float]:
        return {
            "rows": self.rows,
            "treated": self.treated,
            "spent": self.spent,
            "predicted effects together": self.gained,
            "least effect for each unit of cost": self.least,
        }


@dataclass(frozen=True)
class _Order:
    """In which order rows are treated: by a number, then by a tie's, each the smaller the earlier."""

    effect: str
    cost: float | str
    keys: tuple[str, ...]
    seed: int
    where: str

    @property
    def numbers(self) -> tuple[str, ...]:
        """The columns of numbers."""
        return (self.effect, self.cost) if isinstance(self.cost, str) else (self.effect,)

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.numbers, *self.keys)))

    def of(self, batch: pa.RecordBatch) -> _Rows:
        effect = numbers(batch, self.effect, self.where)
        if isinstance(self.cost, str):
            cost = numbers(batch, self.cost, self.where)
        else:
            cost = np.full(batch.num_rows, float(self.cost))
        if (cost < 0).any():
            raise QueryError(f"{self.cost} is negative in some rows", self.where, "costs are 0 or more")
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(effect > 0, effect / cost, -np.inf)
        tie = hashed([batch.column(key) for key in self.keys], self.seed, "budget")
        return _Rows(effect, cost, ~ordered(ratio), tie)


@dataclass(frozen=True, eq=False)
class _Rows:
    """Effects, costs, and where in the order each of n rows is."""

    effect: Floats
    cost: Floats
    number: Whole
    tie: Whole


@dataclass(frozen=True)
class _Chosen:
    """Whether rows come before the one that the budget does not reach."""

    order: _Order
    number: np.uint64
    tie: np.uint64

    def of(self, rows: _Rows) -> NDArray[np.bool_]:
        before = (rows.number < self.number) | ((rows.number == self.number) & (rows.tie < self.tie))
        return np.asarray(before & (rows.effect > 0))


@dataclass(frozen=True)
class _Assigned:
    chosen: _Chosen
    column: str

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        treated = self.chosen.of(self.chosen.order.of(batch))
        return pa.RecordBatch.from_arrays([*batch.columns, pa.array(treated)], names=[*batch.schema.names, self.column])


@dataclass(frozen=True)
class _Totals:
    chosen: _Chosen

    def __call__(self, batch: pa.RecordBatch) -> Sums:
        rows = self.chosen.order.of(batch)
        treated = self.chosen.of(rows).astype(np.float64)
        sums = {"treated": treated.sum(), "spent": treated @ rows.cost, "gained": treated @ rows.effect}
        return Sums({name: np.array(float(value)) for name, value in {"rows": len(treated), **sums}.items()})


@dataclass(frozen=True)
class _Bracket:
    """A range in which the order's end is: of numbers, or of ties of one number.

    Parameters
    ----------
    order : _Order
    number : uint64 or None
        Whose ties it is a range of.
    low, high : uint64
        The first and the last.
    """

    order: _Order
    number: np.uint64 | None
    low: np.uint64
    high: np.uint64

    @property
    def shift(self) -> np.uint64:
        """How many bits of the distance from `low` do not tell parts apart."""
        return np.uint64(max(int(self.high - self.low).bit_length() - BITS, 0))

    def inside(self, rows: _Rows) -> NDArray[np.bool_]:
        """Return which rows are in it, none of which has an effect of 0 or less."""
        values = self.values(rows)
        found = (values >= self.low) & (values <= self.high) & (rows.effect > 0)
        return found if self.number is None else found & (rows.number == self.number)

    def values(self, rows: _Rows) -> Whole:
        return rows.number if self.number is None else rows.tie

    def part(self, at: int) -> _Bracket:
        low = self.low + (np.uint64(at) << self.shift)
        high = min(low + ((np.uint64(1) << self.shift) - np.uint64(1)), self.high)
        return replace(self, low=low, high=high)


@dataclass(frozen=True)
class _Counted:
    """How many rows of a block are in each part of a bracket, and what they cost."""

    bracket: _Bracket

    def __call__(self, batch: pa.RecordBatch) -> Sums:
        rows = self.bracket.order.of(batch)
        mine = self.bracket.inside(rows)
        part = ((self.bracket.values(rows)[mine] - self.bracket.low) >> self.bracket.shift).astype(np.int64)
        counts = np.bincount(part, minlength=PARTS).astype(np.float64)
        return Sums({"counts": counts, "costs": added(part, rows.cost[mine], PARTS)})


@dataclass(frozen=True)
class _Fetched:
    """The rows of a block that are in a bracket."""

    bracket: _Bracket

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        rows = self.bracket.order.of(batch)
        mine = self.bracket.inside(rows)
        arrays = [pa.array(values[mine]) for values in (rows.number, rows.tie, rows.cost)]
        return pa.RecordBatch.from_arrays(arrays, schema=FETCHED)


def _end(data: Dataset, order: _Order, amount: float) -> tuple[np.uint64, np.uint64]:
    """Return the number and the tie of the first row that the amount does not reach.

    A pass counts rows and costs in 4,096 parts of a bracket, of which that is kept in which the amount ends; when few
    rows are left in it, these are fetched. Rows of one number may be many: then the bracket is one of ties.
    """
    amount = amount * (1 + CLOSE)
    whole = bracket = _Bracket(order, None, np.uint64(0), LAST)
    spent = 0.0
    while True:
        found = summed(data, _Counted(bracket))
        upto = spent + np.cumsum(found["costs"])
        if bracket == whole and upto[-1] <= amount:
            return LAST, LAST
        last = int(np.flatnonzero(found["counts"])[-1])  # sums of parts may, by rounding, be less than that of all
        at = min(int(np.searchsorted(upto, amount, side="right")), last)
        spent = float(upto[at - 1]) if at else spent
        bracket = bracket.part(at)
        if found["counts"][at] <= FEW_ROWS:
            break
        if bracket.low == bracket.high:
            if bracket.number is not None:  # rows of one key
                return bracket.number, bracket.low
            bracket = _Bracket(order, bracket.low, np.uint64(0), LAST)
    fetched = data.map_batches(_Fetched(bracket), schema=FETCHED, batch_size=BLOCK_ROWS).to_arrow()
    number, tie, cost = (column.to_numpy() for column in fetched.columns)
    at_first = np.lexsort((tie, number))
    beyond = np.flatnonzero(spent + np.cumsum(cost[at_first]) > amount)
    if not len(beyond):
        return (bracket.high, LAST) if bracket.number is None else (bracket.number, bracket.high)
    row = at_first[beyond[0]]
    return number[row], tie[row]
