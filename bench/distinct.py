"""Count distinct values, and join with and without knowing how many there are: ``python -m bench.distinct``.

The join is of a large table and one of which a filter keeps a thousandth, in stages over threads of one process, with
the limit of a broadcast scaled down by 32. Without statistics both sides are exchanged; with them the small one is
tried first.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import numpy as np
import pyarrow as pa

from bench.command import DATA, Options, heading, read_options
from bench.measure import Contestant, Job, in_turns
from bench.report import comparison

TITLE = "Distinct values"
SALES_ROWS, RETURNS_ROWS, REASONS = 6_000_000, 2_000_000, 1_000
SCALE = 32
STATEMENT = """
    SELECT shop, sum(amount) AS total FROM {returns} AS returns JOIN bench.sales USING (id)
    WHERE returns.reason = 7 GROUP BY shop
"""


def ensure_tables(scale: int) -> Path:
    """Return a lake of sales, and of returns twice, one of them with statistics."""
    import iceblink as ib

    folder = DATA / f"distinct-{scale}"
    rng = np.random.default_rng(5)
    sales, returns = SALES_ROWS // scale, RETURNS_ROWS // scale
    made = {
        "sales": {"id": rng.permutation(sales), "shop": rng.integers(0, 1000, sales), "amount": rng.random(sales)},
        "returns": {"id": rng.integers(0, sales, returns), "reason": rng.integers(0, REASONS, returns)},
    }
    made["returns_told"] = made["returns"]
    groups = {"write.parquet.row-group-limit": str(max(1000, sales // 12))}
    with ib.connect(folder) as lake:
        for name, rows in made.items():
            if f"bench.{name}" not in lake.tables():
                lake.write(f"bench.{name}", pa.table(rows), "create", properties=groups)
        if not lake.table("bench.returns_told.statistics").count():
            lake.compute_statistics("bench.returns_told")
    return folder


def joined(folder: str, scale: int, returns: str, cpus: int) -> Job:
    """Run the statement in stages; what it gives is counted."""
    import iceblink as ib
    from iceblink.config import Settings
    from iceblink.run.distributed.engine import DistributedEngine
    from iceblink.run.distributed.lowering import BROADCAST_BYTES
    from iceblink.run.pipeline.local_backend import local_backend

    settings = Settings(threads=cpus)
    limit = BROADCAST_BYTES // SCALE // scale
    engine = DistributedEngine(settings, lambda: local_backend(settings), False, limit, limit)
    lake = ib.connect(folder, engine=engine)

    def job() -> Generator[int, None, float]:
        rows = lake.sql(STATEMENT.format(returns=returns)).to_arrow()
        yield rows.num_rows
        return float(sum(rows["total"].to_pylist()))

    return job


def exchanged(folder: str, scale: int, cpus: int) -> Job:
    """Nothing is known of the filter."""
    return joined(folder, scale, "bench.returns", cpus)


def tried(folder: str, scale: int, cpus: int) -> Job:
    """Statistics tell that it leaves little."""
    return joined(folder, scale, "bench.returns_told", cpus)


def counted(folder: str, scale: int, cpus: int) -> Job:
    """Compute statistics of all columns of the larger table, in this process."""
    import iceblink as ib

    lake = ib.connect(folder, engine=ib.LocalEngine(threads=cpus))

    def job() -> Generator[int, None, int]:
        found = lake.compute_statistics("bench.sales")
        yield found.rows or 0
        return found.distinct["id"]

    return job


JOINS = (
    Contestant("join with statistics", tried, ("iceblink",)),
    Contestant("join without", exchanged, ("iceblink",)),
)
COUNTING = (Contestant("compute statistics", counted, ("iceblink",)),)


def report(options: Options) -> str:
    """Measure the join in both ways, and what statistics cost."""
    scale = 60 if options.small else 1
    given = {"folder": str(ensure_tables(scale)), "scale": scale, "cpus": options.cpus}
    parts = [heading(TITLE, options)]
    for contestants in (JOINS, COUNTING):
        if chosen := options.chosen(contestants):
            results = in_turns(chosen, given, options.runs, options.cpus)
            parts.append(f"{comparison(results, reference=contestants[0].name)}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    print(report(read_options(TITLE)))
