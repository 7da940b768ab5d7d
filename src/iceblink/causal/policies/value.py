"""What a policy is worth: judged by the scores of rows that it was not made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from iceblink.causal.estimates import Estimates
from iceblink.causal.judging.columns import keys_of
from iceblink.causal.judging.jackknife import buckets_of, jackknifed
from iceblink.causal.matrix import Number, floats
from iceblink.causal.moments import SCHEMA, Floats, Moments
from iceblink.causal.passes import BLOCK_ROWS, by_group
from iceblink.causal.policies.actions import Actions, Costs
from iceblink.causal.provenance import Provenance
from iceblink.causal.tree import merged
from iceblink.errors import ColumnNotFound, ConfigError, PlanError, QueryError, TypeMismatch, nearest
from iceblink.types import show_type

if TYPE_CHECKING:
    from iceblink.dataset import Dataset


@dataclass(frozen=True)
class PolicyValue:
    """The value of a column that says what to do with each row: what a row gains by it, on average over all rows [1]_.

    With a_i what is done with row i, Γ_i(a) its doubly robust score and c_i(a) its cost:

    - ``policy`` is the mean of Γ_i(a_i) - c_i(a_i), which is 0 where nothing is done;
    - ``everybody`` is that of doing it with all rows; of several actions there is one for each, ``everybody[action]``;
    - ``over random`` is how much better the policy is than as many of each action drawn by lot.

    Judge by rows that the policy was not made of, for it fits the noise of those.

    Parameters
    ----------
    score : str or mapping of str to str
        A column of doubly robust scores of the effect, as `DoublyRobust` makes them; of several actions one for each,
        by its name.
    assigned : str
        The column of what is done: true or 1 where a row is treated, else false or 0, or a chance of treatment between;
        of several actions their names, or `nothing`.
    cost : float, str, or mapping of str to these
        What an action costs a row, in the unit of the outcome: an amount, or a column of amounts.
    nothing : str
        What `assigned` says of several actions where none is done.
    key : str or sequence of str, optional
        The columns of the unit: errors are then those of a jackknife over parts of the units. Default: rows are
        independent.

    References
    ----------
    .. [1] Athey, Wager: Policy learning with observational data, Econometrica 2021, section 2.
    """

    score: str | Mapping[str, str]
    assigned: str = "treat"
    cost: Costs = 0.0
    nothing: str = "nothing"
    key: str | Sequence[str] | None = None

    def __post_init__(self) -> None:
        if self.nothing in Actions.of(self.score, self.cost, "PolicyValue").names:
            raise ConfigError(f"there is an action {self.nothing!r}", "PolicyValue", "nothing=...")

    def fit(self, data: Dataset) -> Estimates:
        """Estimate it. Eager: one pass.

        Raises
        ------
        ColumnNotFound, TypeMismatch
        PlanError
            There are fewer than two rows, or of a `key` fewer than two units.
        QueryError
            A value is missing, or `assigned` is outside of 0 to 1, or names no action.
        """
        where = f"PolicyValue of {self.assigned}"
        actions = Actions.of(self.score, self.cost, where)
        actions.check(data, where)
        if self.assigned not in data.columns:
            raise ColumnNotFound.of(self.assigned, data.columns, where)
        if actions.single:
            Number(self.assigned).check(data.schema, where)
        elif not _is_text(kind := data.schema.field(self.assigned).type):
            raise TypeMismatch(f"column {self.assigned!r} is {show_type(kind)}, not text", where, "it names actions")
        keys = () if self.key is None else keys_of(self.key, data, where)
        needed = data.select(*dict.fromkeys((*actions.inputs, self.assigned, *keys)))
        valued = _Valued(actions, self.assigned, self.nothing, keys, where)
        blocks = needed.map_batches(valued, schema=SCHEMA, batch_size=BLOCK_ROWS)
        names = _columns(actions)
        found = merged(state for batch in blocks.to_batches() for state in Moments.from_batch(names, batch))
        if found is None or found.rows.sum() < 2:
            raise PlanError("there are fewer than two rows", where, "look at the filters")
        return _estimates(where, actions, found, Provenance.of(data), by_unit=bool(keys))


def _is_text(kind: pa.DataType) -> bool:
    inside = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(inside) or pa.types.is_large_string(inside))


def _columns(actions: Actions) -> tuple[str, ...]:
    """Of each action: how much of it is done, what it is worth, and both together."""
    return tuple(f"{what} {name}" for what in ("done", "worth", "gained") for name in actions.names)


@dataclass(frozen=True)
class _Valued:
    """The moments of what is done with a block of rows and what that is worth, by bucket of units if there is a key."""

    actions: Actions
    assigned: str
    nothing: str
    keys: tuple[str, ...]
    where: str

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        worth, done = self.actions.worth(batch, self.where), self._done(batch)
        values = np.concatenate([done, worth, done * worth])
        names = _columns(self.actions)
        if not self.keys:
            return Moments.of(names, values).to_batch()
        bucket = buckets_of(batch, self.keys)
        order = by_group(bucket)
        return Moments.of(names, np.ascontiguousarray(values[:, order]), bucket[order]).to_batch()

    def _done(self, batch: pa.RecordBatch) -> Floats:
        """Return how much of each action (A, n) is done."""
        column = batch.column(self.assigned)
        if self.actions.single:
            done = floats(column).astype(np.float64)
            if odd := int((~((done >= 0) & (done <= 1))).sum()):
                raise QueryError(
                    f"{self.assigned} is missing, or not between 0 and 1, in {odd:,} rows",
                    self.where,
                    "1 where treated",
                )
            return done[np.newaxis]
        if column.null_count:
            raise QueryError(
                f"{self.assigned} is missing in {column.null_count:,} rows", self.where, "name nothing, too"
            )
        text = column.cast(pa.string())
        known = [*self.actions.names, self.nothing]
        at = pc.index_in(text, pa.array(known, pa.string()))
        if at.null_count:
            odd = text.filter(at.is_null())[0].as_py()
            raise QueryError(f"{self.assigned} is {odd!r} in some rows", self.where, nearest(odd, known, "actions"))
        done = at.to_numpy() == np.arange(len(self.actions.names))[:, np.newaxis]
        return np.asarray(done, np.float64)


def _values(sums: Floats) -> Floats:
    """Return the values (m, 2 + A) of m sets of rows, of their numbers and the sums of their columns (m, 1 + 3A)."""
    done, worth, gained = np.split(sums[:, 1:] / sums[:, :1], 3, axis=1)
    whole = gained.sum(axis=1, keepdims=True)
    return np.concatenate([whole, worth, whole - (done * worth).sum(axis=1, keepdims=True)], axis=1)


def _delta(found: Moments) -> Floats:
    """Return the covariance of the values by the delta method: what is more than means is of products of means."""
    done, worth, gained = np.split(found.means[0], 3)
    count, rows = len(gained), int(found.rows[0])
    turned = np.zeros((2 + count, 3 * count))
    turned[0, 2 * count :] = 1.0
    turned[np.arange(1, 1 + count), count + np.arange(count)] = 1.0
    turned[-1] = np.concatenate([-worth, -done, np.ones(count)])
    return np.asarray(turned @ (found.products[0] / (rows - 1) / rows) @ turned.T)


def _estimates(title: str, actions: Actions, found: Moments, provenance: Provenance, by_unit: bool) -> Estimates:
    """Return the values with their errors: of moments by bucket of units by a jackknife, else by the delta method."""
    count = found.rows.astype(np.float64)[:, np.newaxis]
    sums = np.concatenate([count, count * found.means], axis=1)
    if by_unit:
        values, covariance, freedom = jackknifed(sums, _values, title)
        convention, reach = f"jackknife of {freedom + 1} groups of units", float(freedom)
    else:
        values, covariance = _values(sums)[0], _delta(found)
        convention, reach = "variances of rows, divisor n - 1", np.inf
    every = ("everybody",) if actions.single else tuple(f"everybody[{name}]" for name in actions.names)
    rows = int(found.rows.sum())
    done = sums[:, 1 : 1 + len(actions.names)].sum(axis=0) / rows
    facts = {
        "treated" if actions.single else name: f"{share:.1%}" for name, share in zip(actions.names, done, strict=True)
    }
    return Estimates(
        title=title,
        names=("policy", *every, "over random"),
        values=values,
        covariance=covariance,
        convention=convention,
        rows=rows,
        freedom=reach,
        facts=facts,
        provenance=provenance,
    )
