"""The distributed planner: a statement becomes stages, one after the other, as is seen what each gave."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from datetime import UTC, datetime

from iceblink.errors import IceblinkError
from iceblink.plan.cut.finish import in_order
from iceblink.plan.cut.functions import at_one_moment, changing
from iceblink.plan.cut.prepared import Uncuttable, prepared
from iceblink.plan.cut.pruned import pruned
from iceblink.plan.cut.queries import Queries
from iceblink.plan.cut.rewritten import rewritten
from iceblink.plan.cut.rows import Describe, Making, Steps
from iceblink.plan.late import exp, sqlglot
from iceblink.plan.stage import Leaf, Observed, Read, Result, Stage

MIB = 2**20


def stages(
    tree: exp.Query,
    leaves: Sequence[Leaf],
    describe: Describe,
    *,
    small_bytes: float = 256 * MIB,
    broadcast_bytes: float = 64 * MIB,
    few_bytes: float = 0,
) -> Generator[Stage, Observed | None, None]:
    """Cut a statement into stages.

    A generator: it yields a stage, is sent what that gave once it has run, and decides on the next. Sent None, it
    goes by its own estimate.

    Parameters
    ----------
    tree : sqlglot Query
        A fused statement (`plan.optimize.fuse`); never changed.
    leaves : sequence of Leaf
        All tables that it names.
    describe : callable
        `run.kernel.Kernel.describe`.
    small_bytes : float
        When all leaves together are estimated to be smaller [B], one task runs the statement as it is.
    broadcast_bytes : float
        A side of a join up to this size [B] goes whole to every task of the other.
    few_bytes : float
        So little [B] is not divided any more: every task reads all of such a table, and one task what an exchange gave.

    Yields
    ------
    Stage
        The last one, or the last ones, send a `Result`.

    Raises
    ------
    IceblinkError
        As `describe` does, when the statement itself is wrong.
    """
    by_name = {leaf.name.lower(): leaf for leaf in leaves}
    if not leaves:
        yield _one_task(tree, leaves, describe, "it reads no table: one task runs the statement")
        return
    if sum(leaf.nbytes for leaf in leaves) < small_bytes:
        yield _one_task(tree, leaves, describe, "little data: one task runs the statement")
        return
    tree = at_one_moment(tree, datetime.now(UTC))
    if (name := changing(tree)) is not None:
        yield _one_task(tree, leaves, describe, f"one task runs the statement: {name}() differs from task to task")
        return
    try:
        yield from _cut(tree, by_name, describe, broadcast_bytes, few_bytes)
    except Uncuttable as reason:
        yield _one_task(tree, leaves, describe, f"one task runs the statement: {reason}")
    except (sqlglot.errors.SqlglotError, IceblinkError, RecursionError) as error:
        yield _one_task(tree, leaves, describe, f"one task runs the statement: {str(error).splitlines()[0]}")


def _cut(
    tree: exp.Query, leaves: Mapping[str, Leaf], describe: Describe, broadcast_bytes: float, few_bytes: float
) -> Steps[None]:
    schemas = {name: leaf.schema for name, leaf in leaves.items()}
    asked, kinds = describe(tree.sql("duckdb"), {leaf.name: leaf.schema for leaf in leaves.values()})
    try:
        ready = pruned(rewritten(prepared(tree, schemas)))
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # sqlglot's passes are not for every statement
        raise Uncuttable(f"it is not understood ({type(error).__name__}: {error})") from error
    if describe(ready.sql("duckdb"), schemas)[1] != kinds:
        raise Uncuttable("it is read otherwise by the planner than by the kernel")
    taken = {identifier.name for identifier in ready.find_all(exp.Identifier)}
    making = Making(leaves, describe, broadcast_bytes, few_bytes, taken)
    relation = yield from Queries(making).query(ready, {})
    if len(relation.columns) != len(asked.names):
        raise Uncuttable("it gives other columns than it names")
    queries, ordered = yield from in_order(making, relation, asked.names)
    why = making.noted("the result")
    for query in queries:
        yield Stage("result", query, making.reads(query), Result(ordered), asked, why, relation.size)


def _one_task(tree: exp.Query, leaves: Sequence[Leaf], describe: Describe, why: str) -> Stage:
    names = {table.name.lower() for table in tree.find_all(exp.Table)}
    reads = tuple(Read(leaf.name, (leaf.name,), whole=True) for leaf in leaves if leaf.name.lower() in names)
    schema, _ = describe(tree.sql("duckdb"), {leaf.name: leaf.schema for leaf in leaves})
    size = Observed(sum(leaf.rows for leaf in leaves), sum(leaf.nbytes for leaf in leaves))
    return Stage("result", tree.copy(), reads, Result(ordered=True), schema, why, size, planned=False)
