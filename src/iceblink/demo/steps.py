"""The demo's steps, a few public words each; the docstring is what the demo prints, the result is the rows handled."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pyarrow as pa

import iceblink as ib
from iceblink import _
from iceblink.demo.chart import draw
from iceblink.demo.data import open_csv
from iceblink.demo.model import DelayModel, Scorer


def land(lake: ib.Lake, folder: Path) -> int:
    """Land CSV files as Iceberg tables, all but December's weather."""
    lake.write("nyc.flights", open_csv("flights"), "create", partition_by=["month(time_hour)"], sort_by=["time_hour"])
    lake.write("nyc.weather", lake.from_arrow(open_csv("weather")).filter(_.month < 12), "create")
    for name in ("planes", "airlines"):
        lake.write(f"nyc.{name}", open_csv(name), "create")
    return sum(lake.table(name).count() for name in lake.tables("nyc"))


def ask(lake: ib.Lake, folder: Path) -> int:
    """Ask with DataFrame verbs which airlines are late most often."""
    arrived = lake.table("nyc.flights").filter(_.arr_delay.notnull()).mutate(late=_.arr_delay > 15)
    airlines = arrived.group_by("carrier").agg(flights=_.count(), late=_.late.mean())
    airlines.join(lake.table("nyc.airlines"), on="carrier").order_by("-late").limit(5).show()
    return arrived.count()


def train(lake: ib.Lake, folder: Path) -> int:
    """Train a classifier of late arrivals on a sample of January to September."""
    arrived = features(lake).filter(_.month <= 9, _.late.notnull())
    sample: pa.Table = arrived.sample(0.3, seed=1).to_arrow()
    DelayModel(sample).save(folder / "model.pickle")
    return len(sample)


def score(lake: ib.Lake, folder: Path) -> int:
    """Score October to December batch by batch into a new table, in one commit."""
    risks = features(lake).filter(_.month >= 10).map_batches(partial(Scorer, folder / "model.pickle"), batch_size=8192)
    return risks.write("nyc.risk", "create", partition_by=["month"]).count()


def correct(lake: ib.Lake, folder: Path) -> int:
    """Append December's weather and overwrite its scores in a second commit."""
    lake.write("nyc.weather", lake.from_arrow(open_csv("weather")).filter(_.month == 12))
    risks = features(lake).filter(_.month == 12).map_batches(partial(Scorer, folder / "model.pickle"), batch_size=8192)
    return risks.write("nyc.risk", "overwrite", where=_.month == 12).filter(_.month == 12).count()


def travel(lake: ib.Lake, folder: Path) -> int:
    """Travel in time: risk tells more of lateness since the second commit."""
    both = lake.sql(f"""
        SELECT month, count(*) AS flights,
               corr(was.risk, was.late::INT) AS corr_was, corr(now.risk, now.late::INT) AS corr_now
        FROM nyc.risk FOR VERSION AS OF {first_commit(lake)} AS was
        JOIN nyc.risk AS now USING (time_hour, carrier, flight, origin, month)
        GROUP BY month ORDER BY month
    """)
    both.show()
    return lake.table("nyc.risk", snapshot=first_commit(lake)).count() + lake.table("nyc.risk").count()


def chart(lake: ib.Lake, folder: Path) -> int:
    """Draw what the model said and what happened."""
    arrived = lake.table("nyc.risk").filter(_.late.notnull())
    by_hour = arrived.group_by("hour").agg(late=_.late.mean(), risk=_.risk.mean()).order_by("hour")
    before = lake.table("nyc.risk", snapshot=first_commit(lake))
    draw(by_hour.to_arrow(), tenths(before).to_arrow(), tenths(arrived).to_arrow(), folder / "flights.png")
    return arrived.count()


STEPS = (land, ask, train, score, correct, travel, chart)


def features(lake: ib.Lake) -> ib.Dataset:
    """Return what is known of each flight before it departs, and whether it came `late`; lazy, so always current."""
    return lake.sql("""
        SELECT f.time_hour, f.month, f.hour, dayofweek(f.time_hour) AS weekday,
               f.carrier, f.flight, f.origin, f.dest, f.distance,
               w.temp, w.wind_speed, w.precip, w.visib,
               f.year - p.year AS plane_age, p.seats,
               f.arr_delay > 15 AS late
        FROM nyc.flights f
        LEFT JOIN nyc.weather w ON w.origin = f.origin AND w.time_hour = f.time_hour
        LEFT JOIN nyc.planes p ON p.tailnum = f.tailnum
    """)


def first_commit(lake: ib.Lake) -> int:
    """Return the snapshot that the first scoring made."""
    return int(lake.history("nyc.risk").head(1)["snapshot_id"][0].as_py())


def tenths(risks: ib.Dataset) -> ib.Dataset:
    """Return December's flights in ten groups of rising risk: the mean risk of each, and the share that was late."""
    return risks.filter(_.month == 12, _.late.notnull()).sql("""
        SELECT avg(risk) AS risk, avg(late::INT) AS late
        FROM (SELECT risk, late, ntile(10) OVER (ORDER BY risk) AS tenth FROM this)
        GROUP BY tenth ORDER BY tenth
    """)
