"""TPC-H in small: the tables' shape with values chosen so that most of the 22 queries find something."""

from __future__ import annotations

import random
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa

FOLDER = Path(__file__).parents[2] / "bench" / "queries" / "tpch"
QUERIES = {path.stem: path.read_text() for path in sorted(FOLDER.glob("*.sql"))}

NATIONS = {
    "FRANCE": 0, "GERMANY": 0, "BRAZIL": 1, "CANADA": 1, "INDIA": 2, "CHINA": 2, "SAUDI ARABIA": 3, "KENYA": 4
}  # fmt: skip
REGIONS = ["EUROPE", "AMERICA", "ASIA", "MIDDLE EAST", "AFRICA"]
MONEY = pa.decimal128(15, 2)


def tpch(lines: int = 1200, seed: int = 22) -> dict[str, pa.Table]:
    """Return the eight tables."""
    rng = random.Random(seed)
    orders, customers, parts, suppliers = lines // 4, 40, 40, 16
    pick = rng.choice

    def money(low: float, high: float, count: int) -> pa.Array:
        return pa.array([Decimal(rng.randrange(int(low * 100), int(high * 100))) / 100 for _ in range(count)], MONEY)

    def comment(count: int) -> list[str]:
        words = ["quick special requests", "Customer of many Complaints", "even deposits", "ironic ideas"]
        return [f"{pick(words)} {n}" for n in range(count)]

    def day(low: date, days: int, count: int) -> list[date]:
        return [low + timedelta(rng.randrange(days)) for _ in range(count)]

    phones = [f"{pick([13, 31, 23, 25])}-{n:03d}" for n in range(customers + suppliers)]
    ordered = day(date(1993, 1, 1), 1400, orders)
    of = [rng.randrange(orders) for _ in range(lines - 40)] + [7] * 40
    shipped = [ordered[order] + timedelta(rng.randrange(1, 90)) for order in of]
    committed = [ordered[order] + timedelta(rng.randrange(20, 90)) for order in of]
    received = [ship + timedelta(rng.randrange(1, 30)) for ship in shipped]
    types = ["ECONOMY ANODIZED STEEL", "PROMO BURNISHED BRASS", "MEDIUM POLISHED TIN", "SMALL PLATED BRASS"]
    ids = {name: pa.array(range(count), pa.int64()) for name, count in
           {"o": orders, "c": customers, "p": parts, "s": suppliers}.items()}  # fmt: skip

    def keys(count: int, among: int) -> pa.Array:
        return pa.array([rng.randrange(among) for _ in range(count)], pa.int64())

    supplied = [(part, supplier) for part in range(parts) for supplier in rng.sample(range(suppliers), 4)]
    bought = [pick(supplied) for _ in range(lines)]
    return {
        "region": pa.table({"r_regionkey": pa.array(range(5), pa.int64()), "r_name": REGIONS}),
        "nation": pa.table(
            {
                "n_nationkey": pa.array(range(len(NATIONS)), pa.int64()),
                "n_name": list(NATIONS),
                "n_regionkey": pa.array(NATIONS.values(), pa.int64()),
            }
        ),
        "supplier": pa.table(
            {
                "s_suppkey": ids["s"],
                "s_name": [f"Supplier#{n}" for n in range(suppliers)],
                "s_address": [f"street {n}" for n in range(suppliers)],
                "s_nationkey": pa.array([n % len(NATIONS) for n in range(suppliers)], pa.int64()),
                "s_phone": phones[:suppliers],
                "s_acctbal": money(-900, 9999, suppliers),
                "s_comment": comment(suppliers),
            }
        ),
        "customer": pa.table(
            {
                "c_custkey": ids["c"],
                "c_name": [f"Customer#{n}" for n in range(customers)],
                "c_address": [f"road {n}" for n in range(customers)],
                "c_nationkey": keys(customers, len(NATIONS)),
                "c_phone": phones[suppliers:],
                "c_acctbal": money(-900, 9999, customers),
                "c_mktsegment": [pick(["BUILDING", "MACHINERY"]) for _ in range(customers)],
                "c_comment": comment(customers),
            }
        ),
        "part": pa.table(
            {
                "p_partkey": ids["p"],
                "p_name": [f"{pick(['forest', 'green', 'red'])} {pick(['green', 'blue'])} {n}" for n in range(parts)],
                "p_mfgr": [f"Manufacturer#{n % 5}" for n in range(parts)],
                "p_brand": [f"Brand#{pick([12, 23, 34, 45])}" for _ in range(parts)],
                "p_type": [pick(types) for _ in range(parts)],
                "p_size": pa.array([pick([1, 3, 5, 9, 15]) for _ in range(parts)], pa.int32()),
                "p_container": [pick(["SM CASE", "MED BOX", "LG BOX", "MED BAG"]) for _ in range(parts)],
                "p_retailprice": money(900, 2000, parts),
            }
        ),
        "partsupp": pa.table(
            {
                "ps_partkey": pa.array([part for part, _ in supplied], pa.int64()),
                "ps_suppkey": pa.array([supplier for _, supplier in supplied], pa.int64()),
                "ps_availqty": pa.array([rng.randrange(1, 400) for _ in supplied], pa.int32()),
                "ps_supplycost": money(1, 1000, len(supplied)),
            }
        ),
        "orders": pa.table(
            {
                "o_orderkey": ids["o"],
                "o_custkey": keys(orders, customers * 2 // 3),
                "o_orderstatus": [pick("FOP") for _ in range(orders)],
                "o_totalprice": money(1000, 400_000, orders),
                "o_orderdate": ordered,
                "o_orderpriority": [pick(["1-URGENT", "2-HIGH", "3-MEDIUM"]) for _ in range(orders)],
                "o_clerk": [f"Clerk#{n % 9}" for n in range(orders)],
                "o_shippriority": pa.array([0] * orders, pa.int32()),
                "o_comment": comment(orders),
            }
        ),
        "lineitem": pa.table(
            {
                "l_orderkey": pa.array(of, pa.int64()),
                "l_partkey": pa.array([part for part, _ in bought], pa.int64()),
                "l_suppkey": pa.array([supplier for _, supplier in bought], pa.int64()),
                "l_linenumber": pa.array(range(lines), pa.int32()),
                "l_quantity": money(1, 50, lines),
                "l_extendedprice": money(900, 90_000, lines),
                "l_discount": pa.array([Decimal(rng.randrange(11)) / 100 for _ in range(lines)], MONEY),
                "l_tax": pa.array([Decimal(rng.randrange(9)) / 100 for _ in range(lines)], MONEY),
                "l_returnflag": [pick("RAN") for _ in range(lines)],
                "l_linestatus": [pick("OF") for _ in range(lines)],
                "l_shipdate": shipped,
                "l_commitdate": committed,
                "l_receiptdate": received,
                "l_shipinstruct": [pick(["DELIVER IN PERSON", "NONE"]) for _ in range(lines)],
                "l_shipmode": [pick(["MAIL", "SHIP", "AIR", "AIR REG"]) for _ in range(lines)],
            }
        ),
    }
