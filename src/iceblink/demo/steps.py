"""The demo's steps, a few public words each; the docstring is what the demo prints, the result is the rows handled."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

import iceblink as ib
from iceblink import _
from iceblink.demo.chart import draw
from iceblink.demo.data import open_csv
from iceblink.demo.model import DelayModel, Scorer


def land(lake: ib.Lake, folder: Path) -> int:
    """Land four CSV files as Iceberg tables: flights partitioned by month, sorted by time."""
    lake.write("nyc.flights", open_csv("flights"), "create", partition_by=["month(time_hour)"], sort_by=["time_hour"])
    for name in ("weather", "planes", "airlines"):
        lake.write(f"nyc.{name}", open_csv(name), "create")
    return sum(lake.table(name).count() for name in lake.tables("nyc"))


def join(lake: ib.Lake, folder: Path) -> int:
    """Join flights with weather and planes in SQL, into a table of features."""
    features = lake.sql("""
        SELECT f.time_hour, f.month, f.hour, dayofweek(f.time_hour) AS weekday,
               f.carrier, f.flight, f.origin, f.dest, f.distance,
               w.temp, w.wind_speed, w.precip, w.visib,
               f.year - p.year AS plane_age, p.seats,
               f.arr_delay > 15 AS late
        FROM nyc.flights f
        LEFT JOIN nyc.weather w ON w.origin = f.origin AND w.time_hour = f.time_hour
        LEFT JOIN nyc.planes p ON p.tailnum = f.tailnum
    """)
    return features.write("nyc.features", "create").count()


def ask(lake: ib.Lake, folder: Path) -> int:
    """Ask with DataFrame verbs which airlines are late most often."""
    arrived = lake.table("nyc.features").filter(_.late.notnull())
    airlines = arrived.group_by("carrier").agg(flights=_.count(), late=_.late.mean())
    airlines.join(lake.table("nyc.airlines"), on="carrier").order_by("-late").limit(5).show()
    return arrived.count()


def train(lake: ib.Lake, folder: Path) -> int:
    """Train a classifier of late arrivals on three in ten flights of January to September."""
    return fit(lake, _.month <= 9, folder / "model-1.pkl")


def score(lake: ib.Lake, folder: Path) -> int:
    """Score October to December batch by batch, and commit the risks as a new table."""
    return predict(lake, _.month >= 10, folder / "model-1.pkl").write("nyc.risk", "create").count()


def correct(lake: ib.Lake, folder: Path) -> int:
    """Train again with October and November, and correct December in a second commit."""
    fit(lake, _.month <= 11, folder / "model-2.pkl")
    december = predict(lake, _.month == 12, folder / "model-2.pkl")
    return december.write("nyc.risk", "overwrite", where=_.month == 12).filter(_.month == 12).count()


def travel(lake: ib.Lake, folder: Path) -> int:
    """Travel in time between the two commits: only December has changed."""
    first, _second = lake.history("nyc.risk").to_arrow()["snapshot_id"].to_pylist()
    both = lake.sql(f"""
        SELECT month, count(*) AS flights, avg(late::INT) AS late, avg(was.risk) AS risk_was, avg(now.risk) AS risk_now
        FROM nyc.risk FOR VERSION AS OF {first} AS was
        JOIN nyc.risk AS now USING (time_hour, month, carrier, flight, origin, late)
        GROUP BY month ORDER BY month
    """)
    both.show()
    return lake.table("nyc.risk", snapshot=first).count() + lake.table("nyc.risk").count()


def chart(lake: ib.Lake, folder: Path) -> int:
    """Draw what the model said and what happened, at both commits."""
    first, _second = lake.history("nyc.risk").to_arrow()["snapshot_id"].to_pylist()
    arrived = lake.table("nyc.risk").filter(_.late.notnull())
    by_hour = arrived.group_by("hour").agg(late=_.late.mean(), risk=_.risk.mean()).order_by("hour")
    before, after = (tenths(lake.table("nyc.risk", snapshot=snapshot)) for snapshot in (first, None))
    draw(by_hour.to_arrow(), before.to_arrow(), after.to_arrow(), folder / "flights.png")
    return arrived.count()


def fit(lake: ib.Lake, months: Any, path: Path) -> int:
    """Train a model on a sample of these months' flights and save it; return the sample's size."""
    flights = lake.table("nyc.features").filter(months, _.late.notnull())
    sample: pa.Table = flights.sample(0.3, seed=1).to_arrow()
    DelayModel(sample).save(path)
    return len(sample)


def predict(lake: ib.Lake, months: Any, path: Path) -> ib.Dataset:
    """Return these months' flights with their risk; lazy: the model is loaded once per worker when it runs."""
    flights = lake.table("nyc.features").filter(months)
    return flights.map_batches(partial(Scorer, path), batch_size=8192)


def tenths(risks: ib.Dataset) -> ib.Dataset:
    """Return December's flights in ten groups of rising risk: the mean risk of each, and the share that was late."""
    return risks.filter(_.month == 12, _.late.notnull()).sql("""
        SELECT avg(risk) AS risk, avg(late::INT) AS late
        FROM (SELECT risk, late, ntile(10) OVER (ORDER BY risk) AS tenth FROM this)
        GROUP BY tenth ORDER BY tenth
    """)


STEPS = (land, join, ask, train, score, correct, travel, chart)
