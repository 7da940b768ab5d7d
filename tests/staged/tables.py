"""Small tables with nulls everywhere, equal keys, and a type of every kind."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pyarrow as pa


def tables(rows: int = 40, seed: int = 7) -> dict[str, pa.Table]:
    """Return ``t`` and ``u`` to join, ``v`` that is small, and ``e`` that is empty."""
    rng = random.Random(seed)

    def some(value: object) -> object:
        return None if rng.random() < 0.2 else value

    def values(make: object, count: int = rows) -> list[object]:
        return [some(make()) for _ in range(count)]  # type: ignore[operator]

    day = date(2024, 1, 1)
    moment = datetime(2024, 1, 1, 12, 30)
    t = pa.table(
        {
            "id": pa.array(range(rows), pa.int64()),
            "k": pa.array(values(lambda: rng.randrange(6)), pa.int32()),
            "x": pa.array(values(lambda: rng.randrange(-5, 20)), pa.int64()),
            "f": pa.array(values(lambda: rng.choice([0.0, -0.0, 0.5, 1.25, -3.75, 100.125])), pa.float64()),
            "d": pa.array(values(lambda: Decimal(rng.randrange(-500, 500)) / 100), pa.decimal128(10, 2)),
            "s": pa.array(values(lambda: rng.choice(["", "a", "b", "ab", "Ä", "zz top"])), pa.string()),
            "b": pa.array(values(lambda: rng.random() < 0.5), pa.bool_()),
            "day": pa.array(values(lambda: day + timedelta(rng.randrange(5))), pa.date32()),
            "ts": pa.array(values(lambda: moment + timedelta(hours=rng.randrange(5))), pa.timestamp("us")),
            "tz": pa.array(
                values(lambda: (moment + timedelta(hours=rng.randrange(5))).replace(tzinfo=UTC)),
                pa.timestamp("us", "UTC"),
            ),
            "xs": pa.array(
                values(lambda: [some(rng.randrange(3)) for _ in range(rng.randrange(3))]), pa.list_(pa.int64())
            ),
            "st": pa.array(
                values(lambda: {"A": some(rng.randrange(3)), "b": some(rng.choice("pq"))}),
                pa.struct([("A", pa.int64()), ("b", pa.string())]),
            ),
            "big": pa.array(values(lambda: 2**62 + rng.randrange(5)), pa.int64()),
            "Odd name": pa.array(values(lambda: rng.randrange(3)), pa.int64()),
        }
    )
    u = pa.table(
        {
            "id": pa.array(range(rows), pa.int64()),
            "k": pa.array(values(lambda: rng.randrange(8)), pa.int64()),
            "y": pa.array(values(lambda: rng.randrange(-5, 20)), pa.int32()),
            "d": pa.array(values(lambda: Decimal(rng.randrange(-500, 500)) / 100), pa.decimal128(12, 3)),
            "s": pa.array(values(lambda: rng.choice(["a", "b", "c", "ab"])), pa.string()),
            "f": pa.array(values(lambda: float(rng.randrange(6))), pa.float64()),
            "ts": pa.array(values(lambda: moment + timedelta(hours=rng.randrange(5))), pa.timestamp("us")),
        }
    )
    v = pa.table({"k": pa.array([0, 1, 2, 2, None], pa.int32()), "name": ["zero", "one", None, "two", "none"]})
    return {"t": t, "u": u, "v": v, "e": t.slice(0, 0)}
