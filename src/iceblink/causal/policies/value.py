"""What a policy is worth: judged by the scores of rows that it was not made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from iceblink.causal.estimates import Estimates
from iceblink.causal.matrix import Number, floats
from iceblink.causal.moments import SCHEMA, Floats, Moments
from iceblink.causal.passes import BLOCK_ROWS
from iceblink.causal.policies.actions import Actions, Costs
from iceblink.causal.provenance import Provenance
from iceblink.causal.tree import merged
from iceblink.errors import ColumnNotFound, PlanError, QueryError, TypeMismatch
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
        of several actions their names, and any other text where nothing is done.
    cost : float, str, or mapping of str to these
        What an action costs a row, in the unit of the outcome: an amount, or a column of amounts.

    References
    ----------
    .. [1] Athey, Wager: Policy learning with observational data, Econometrica 2021, section 2.
    """

    score: str | Mapping[str, str]
    assigned: str = "treat"
    cost: Costs = 0.0

    def __post_init__(self) -> None:
        Actions.of(self.score, self.cost, "PolicyValue")

    def fit(self, data: Dataset) -> Estimates:
        """Estimate it. Eager: one pass.

        Raises
        ------
        ColumnNotFound, TypeMismatch
        PlanError
            There are fewer than two rows.
        QueryError
            A value is missing, or `assigned` is outside of 0 to 1.
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
        needed = data.select(*dict.fromkeys((*actions.inputs, self.assigned)))
        blocks = needed.map_batches(_Valued(actions, self.assigned, where), schema=SCHEMA, batch_size=BLOCK_ROWS)
        names = _columns(actions)
        found = merged(state for batch in blocks.to_batches() for state in Moments.from_batch(names, batch))
        if found is None or not len(found.rows) or found.rows[0] < 2:
            raise PlanError("there are fewer than two rows", where, "look at the filters")
        return _estimates(where, actions, found, Provenance.of(data))


def _is_text(kind: pa.DataType) -> bool:
    inside = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(inside) or pa.types.is_large_string(inside))


def _columns(actions: Actions) -> tuple[str, ...]:
    """Of each action: how much of it is done, what it is worth, and both together."""
    return tuple(f"{what} {name}" for what in ("done", "worth", "gained") for name in actions.names)


@dataclass(frozen=True)
class _Valued:
    """The moments of what is done with a block of rows, and what that is worth."""

    actions: Actions
    assigned: str
    where: str

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        worth, done = self.actions.worth(batch, self.where), self._done(batch)
        values = np.concatenate([done, worth, done * worth])
        return Moments.of(_columns(self.actions), values).to_batch()

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
        return np.stack(
            [pc.equal(text, name).to_numpy(zero_copy_only=False).astype(float) for name in self.actions.names]
        )


def _estimates(title: str, actions: Actions, found: Moments, provenance: Provenance) -> Estimates:
    """Return the values: means, and by the delta method what is more than means of products of means."""
    count = len(actions.names)
    done, worth, gained = np.split(found.means[0], 3)
    turned = np.zeros((2 + count, 3 * count))
    turned[0, 2 * count :] = 1.0
    turned[np.arange(1, 1 + count), count + np.arange(count)] = 1.0
    turned[-1] = np.concatenate([-worth, -done, np.ones(count)])
    every = ("everybody",) if actions.single else tuple(f"everybody[{name}]" for name in actions.names)
    rows = int(found.rows[0])
    covariance = found.products[0] / (rows - 1) / rows
    facts = {
        "treated" if actions.single else name: f"{share:.1%}" for name, share in zip(actions.names, done, strict=True)
    }
    return Estimates(
        title=title,
        names=("policy", *every, "over random"),
        values=np.array([gained.sum(), *worth, gained.sum() - done @ worth]),
        covariance=turned @ covariance @ turned.T,
        convention="variances of rows, divisor n - 1",
        rows=rows,
        facts=facts,
        provenance=provenance,
    )
