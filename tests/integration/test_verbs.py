"""The verbs that no other test needs, against plain Python."""

from __future__ import annotations

import re
from pathlib import Path

import ibis
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import iceblink as ib
from iceblink import _
from iceblink.errors import ColumnNotFound, ConfigError, TypeMismatch, WriteError
from iceblink.verbs import JoinHow

ROWS = [{"k": n % 7, "x": n, "tags": [f"t{n % 3}"] * (n % 3)} for n in range(2000)]


@pytest.fixture
def t(lake: ib.Lake) -> ib.Dataset:
    return lake.write("n.t", ROWS, "create")


def test_a_shuffle_is_a_permutation_that_its_seed_decides(t: ib.Dataset) -> None:
    once, again, other = (t.shuffle(seed).select("x").to_pylist() for seed in (1, 1, 2))
    assert once == again != other
    assert sorted(row["x"] for row in once) == list(range(2000)) != [row["x"] for row in once]


def test_a_sample_is_about_its_fraction_and_its_seed_decides_which(t: ib.Dataset) -> None:
    once, again = (t.sample(0.25, seed=3).select("x").to_pylist() for _time in range(2))
    assert once == again == sorted(once, key=lambda row: int(row["x"]))
    assert 400 < len(once) < 600
    assert (t.sample(0.0).count(), t.sample(1.0).count()) == (0, 2000)


def test_what_is_computed_or_left_out_before_changes_no_choice(t: ib.Dataset) -> None:
    rows = t.sample(0.25, seed=3).to_pylist()
    sampled = t.filter(_.k != 3).mutate(y=_.x * 2).select("x", "y").sample(0.25, seed=3)
    assert sampled.to_pylist() == [{"x": row["x"], "y": 2 * row["x"]} for row in rows if row["k"] != 3]
    assert sampled.filter(_.x < 500).count() == sum(row["k"] != 3 and row["x"] < 500 for row in rows)
    stars = t.sql("SELECT *, x + 1 AS z FROM (SELECT t.* FROM this AS t)").sample(0.25, seed=3)
    assert stars.select("k", "x", "tags").to_pylist() == rows


def test_a_sample_of_n_rows_is_the_beginning_of_the_shuffle(t: ib.Dataset) -> None:
    assert t.sample(n=9, seed=3).to_pylist() == t.shuffle(3).limit(9).to_pylist()
    assert (t.sample(n=0).count(), t.sample(n=5000).count()) == (0, 2000)


def test_chance_without_a_seed_is_drawn_once_for_a_dataset(t: ib.Dataset) -> None:
    shuffled, other = t.shuffle(), t.shuffle()
    assert shuffled.to_pylist() == shuffled.to_pylist() != other.to_pylist()
    assert t.sample(0.5).to_pylist() != t.sample(0.5).to_pylist()


def test_one_seed_used_twice_in_a_dataset_is_two_draws(t: ib.Dataset) -> None:
    for source in (t, t.order_by("x")):
        half = source.sample(0.5, seed=3)
        assert 400 < half.sample(0.5, seed=3).count() < 600
        assert [row["x"] for row in half.shuffle(3).to_pylist()] != [row["x"] for row in source.shuffle(3).to_pylist()]


@pytest.mark.parametrize(
    "text",
    [
        "SELECT k, unnest(range(3)) AS x FROM this",
        "SELECT COLUMNS('k|x') FROM this",
        "SELECT k, sum(x) AS x FROM this GROUP BY k ORDER BY k",
        "SELECT both.* FROM (SELECT {'k': k, 'x': x} AS both FROM this)",
    ],
)
def test_a_shuffle_of_any_statement_has_its_rows_and_no_other_column(t: ib.Dataset, text: str) -> None:
    before = t.sql(text)
    after = before.shuffle(1)
    assert after.schema == before.schema
    assert sorted(map(repr, after.to_pylist())) == sorted(map(repr, before.to_pylist()))


def test_a_sample_takes_a_fraction_or_a_number(t: ib.Dataset) -> None:
    for wrong in ({}, {"fraction": 0.1, "n": 3}, {"fraction": 1.5}, {"n": -1}):
        with pytest.raises(ConfigError):
            t.sample(**wrong)


def test_parts_become_files_and_equal_keys_share_one(t: ib.Dataset, tmp_path: Path) -> None:
    files = t.repartition(3, by="k").write_parquet(str(tmp_path / "by key"))
    keys = [set(pq.read_table(file, partitioning=None)["k"].to_pylist()) for file in files]
    assert sum(map(len, keys)) == len(set.union(*keys)) == 7
    assert sum(pq.read_metadata(file).num_rows for file in files) == 2000
    with pytest.raises(ColumnNotFound):
        t.repartition(3, by="key")


def test_a_folder_that_holds_files_is_not_written_into(t: ib.Dataset, tmp_path: Path) -> None:
    t.write_parquet(str(tmp_path / "out"))
    with pytest.raises(WriteError, match="not an empty folder"):
        t.write_parquet(str(tmp_path / "out"))


def test_unnest_gives_each_element_a_row(t: ib.Dataset) -> None:
    expected = sorted((row["x"], tag) for row in ROWS for tag in row["tags"])  # type: ignore[attr-defined]
    assert sorted((row["x"], row["tags"]) for row in t.unnest("tags").to_pylist()) == expected
    assert t.unnest("tags", keep_empty=True).count() == len(expected) + sum(not row["tags"] for row in ROWS)


def test_columns_are_dropped_renamed_and_cast(t: ib.Dataset) -> None:
    changed = t.drop("tags").rename(key="k").cast(x="string")
    assert changed.schema == pa.schema([("key", pa.int64()), ("x", pa.string())])
    assert changed.limit(1).to_pylist() == [{"key": 0, "x": "0"}]


def test_distinct_keeps_one_row_of_each(t: ib.Dataset) -> None:
    assert sorted(row["k"] for row in t.select("k").distinct().to_pylist()) == list(range(7))
    assert sorted(row["k"] for row in t.distinct("k").to_pylist()) == list(range(7))


def test_joins_of_every_kind_keep_the_key_once(t: ib.Dataset, lake: ib.Lake) -> None:
    names = lake.from_arrow({"k": [1, 2, 9], "name": ["one", "two", "nine"]})
    few = t.filter(_.x < 3).select("k", "x")
    kinds: tuple[JoinHow, ...] = ("left", "outer", "semi", "anti")
    rows = {how: few.join(names, on="k", how=how).order_by("k").to_pylist() for how in kinds}
    assert rows["left"] == [
        {"k": 0, "x": 0, "name": None},
        {"k": 1, "x": 1, "name": "one"},
        {"k": 2, "x": 2, "name": "two"},
    ]
    assert rows["outer"] == [*rows["left"], {"k": 9, "x": None, "name": "nine"}]
    assert (rows["semi"], rows["anti"]) == ([{"k": 1, "x": 1}, {"k": 2, "x": 2}], [{"k": 0, "x": 0}])
    assert few.join(names.rename(key="k"), how="cross").count() == 9
    on = few.join(names.rename(key="k"), on=lambda left, right: left.k < right.key)
    assert on.count() == sum(row["k"] < key for row in few.to_pylist() for key in (1, 2, 9))


def test_a_function_keeps_tensors_and_the_table_gives_them_back(lake: ib.Lake) -> None:
    tensors = pa.FixedShapeTensorArray.from_storage(
        pa.fixed_shape_tensor(pa.float32(), [2, 2]), pa.array([[1, 2, 3, 4], [5, 6, 7, 8]], pa.list_(pa.float32(), 4))
    )
    t = lake.write("n.images", pa.table({"id": [1, 2], "image": tensors}), "create")
    doubled = t.filter(_.id > 1).map_batches(lambda b: {"image": b["image"] * 2}, batch_format="numpy")
    back = doubled.write("n.doubled", "create")
    assert back.schema.field("image").type == tensors.type
    assert back.to_arrow()["image"].combine_chunks().to_numpy_ndarray().tolist() == [[[10, 12], [14, 16]]]


def test_choosing_columns_of_a_table_is_a_narrower_scan(lake: ib.Lake) -> None:
    t = lake.write("n.t", pa.table({"id": [1, 2, 3], "x": ["a", "b", "c"], "y": [1.5, 2.5, None]}), "create")
    narrow = t.select("y", "id")
    assert narrow.explain().startswith("1. scan n.t")
    assert re.search(r"columns +y, id\n", narrow.explain())
    assert narrow.to_arrow().to_pylist() == [{"y": 1.5, "id": 1}, {"y": 2.5, "id": 2}, {"y": None, "id": 3}]
    assert narrow.select("id").filter(_.id > 2).to_arrow().to_pylist() == [{"id": 3}]
    both = t.select("id", "x").join(narrow.select("id", "y"), on="id").order_by("id")
    assert both.to_arrow().to_pylist() == t.order_by("id").to_arrow().to_pylist()
    with pytest.raises(ColumnNotFound, match="no column 'x'"):
        narrow.select("x")
    counted = t.agg(n=_.count(), least=_.y.min())
    assert counted.select("n", "least").plan is counted.plan  # all of them in their order: nothing is chosen
    assert counted.select("least", "n").to_pylist() == [{"least": 1.5, "n": 3}]


def test_unsigned_numbers_beyond_long_stay_what_they_are_and_are_stored_as_decimals(lake: ib.Lake) -> None:
    numbers = [2**64 - 1, 0, 2**63, 2**63 - 1, 2**63]
    rows = lake.from_arrow(pa.table({"u": pa.array(numbers, pa.uint64()), "x": range(5)}))
    big = ibis.literal(2**63, "uint64")
    assert [row["u"] for row in rows.order_by("-u").to_pylist()] == sorted(numbers, reverse=True)
    assert [row["x"] for row in rows.filter(_.u >= big).to_pylist()] == [0, 2, 4]
    assert {row["u"]: row["n"] for row in rows.group_by("u").agg(n=_.count()).to_pylist()}[2**63] == 2
    assert len(rows.join(rows.select("u").distinct(), "u").to_pylist()) == 5
    for wrong in (_.u >= 2**63, _.u == 2**63, _.x + 2**63 > 0):
        with pytest.raises(TypeMismatch, match=r"its type, as ibis\.literal"):
            rows.filter(wrong)
    for unsigned in (rows, rows.filter(_.x < 2)):
        with pytest.raises(TypeMismatch, match=r"cast it to decimal\(20,0\)"):
            lake.write("n.unsigned", unsigned, "create")
    stored = lake.write("n.unsigned", rows.mutate(u=_.u.cast("decimal(20, 0)")), "create")
    assert sorted(int(row["u"]) for row in stored.to_pylist()) == sorted(numbers)
