"""Rows under way: a source and the operators behind it, until somebody takes them or exchanges them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa

from iceblink.plan.nodes import MapBatches
from iceblink.run.distributed.kept import Kept
from iceblink.run.pipeline.chain import Fed, fused, mapped
from iceblink.run.pipeline.operator import Operator


@dataclass(frozen=True)
class Flow:
    """A chain that nobody runs yet.

    Parameters
    ----------
    label : str
        The source's name.
    open : callable
        Gives what the source feeds, in this process: batches, or tasks and blocks that lie in the backend.
    schema : pa.Schema or None
        None until the first rows of a function tell it.
    operators : tuple of Operator
    functions : tuple of MapBatches or None
        For each operator, the node whose refused rows it gives.
    nbytes : float
        Estimate of what is read [bytes].
    kept : tuple of Kept
        Rows that are let go of when the chain has run.
    """

    label: str
    open: Callable[[], Fed]
    schema: pa.Schema | None
    operators: tuple[Operator, ...] = ()
    functions: tuple[MapBatches | None, ...] = ()
    nbytes: float = 0.0
    kept: tuple[Kept, ...] = field(default=())

    @property
    def nodes(self) -> list[MapBatches]:
        """The functions whose rows may be refused."""
        return [node for node in self.functions if node is not None]

    def node_at(self, place: int) -> int:
        """Return which of `nodes` an operator calls, counted with the source before them."""
        return sum(node is not None for node in self.functions[: place - 1])

    def then(self, operator: Operator, schema: pa.Schema) -> Flow:
        """Return the chain with one more operator."""
        return replace(self, operators=(*self.operators, operator), functions=(*self.functions, None), schema=schema)

    def mapped(self, nodes: Sequence[MapBatches], processes: bool) -> Flow:
        """Return the chain with Python functions behind it; neighbours with the same needs become one operator.

        Where `processes` is set, all of them run in processes of their own.
        """
        groups = fused([node.function for node in nodes])
        ends = [nodes[sum(map(len, groups[: place + 1])) - 1] for place in range(len(groups))]
        operators = [mapped(group, end.known_schema, processes) for group, end in zip(groups, ends, strict=True)]
        return replace(
            self,
            operators=(*self.operators, *operators),
            functions=(*self.functions, *ends),
            schema=nodes[-1].known_schema,
        )
