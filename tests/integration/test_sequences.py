"""Documents packed, sorted by length, mixed and tokenised on their way to a model: resumed anywhere by any ranks."""

from __future__ import annotations

import io
import json
import pickle
import random
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

import iceblink as ib
from iceblink import _
from iceblink.errors import BatchContractBroken, ColumnNotFound, ConfigError, DataCorrupt, IceblinkError, PlanError
from iceblink.events import observing
from iceblink.load.replace import RowsReplaced
from iceblink.media import images

ROWS, GROUP_ROWS, STEP_ROWS = 960, 40, 24


def documents(rows: int, first: int = 0) -> pa.Table:
    chance = np.random.default_rng(first)
    lengths = chance.geometric(0.05, rows)
    ids = [np.arange(length) + (first + number) * 1000 for number, length in enumerate(lengths)]
    return pa.table(
        {
            "row": np.arange(first, first + rows),
            "ids": pa.array(ids, pa.list_(pa.int64())),
            "n": lengths,
            "text": [" ".join(["wo", "rd"] * int(length)) for length in lengths],
            "wide": [chance.bytes(500) for _row in range(rows)],  # so that row groups are not packed together
        }
    )


@pytest.fixture
def tables(lake: ib.Lake, monkeypatch: pytest.MonkeyPatch) -> dict[str, ib.Dataset]:
    """Row groups, each a unit: 24 of them, and 8."""
    monkeypatch.setattr("iceblink.load.units.PACKED_ROWS", GROUP_ROWS)
    for name, first, rows in (("wiki", 0, ROWS), ("code", 10_000, ROWS // 3)):
        limit = {"write.parquet.row-group-limit": str(GROUP_ROWS)}
        lake.write(f"n.{name}", documents(rows, first), "create", properties=limit)
    return {name: lake.table(f"n.{name}").select("row", "ids", "n") for name in ("wiki", "code")}


def plain(batch: Any) -> dict[str, list[Any]]:
    """Return a batch as a list of rows in each column."""
    found = {}
    for name, column in batch.items():
        if isinstance(column, tuple):
            values, offsets = column
            found[name] = [values[begin:end].tolist() for begin, end in pairwise(offsets)]
        else:
            found[name] = column.tolist()
    return found


def together(parts: list[dict[str, list[Any]]]) -> dict[str, list[Any]]:
    return {name: list(chain.from_iterable(part[name] for part in parts)) for name in parts[0]}


Loading = Callable[..., Any]
LOADINGS: dict[str, Callable[[dict[str, ib.Dataset]], Loading]] = {
    "packed": lambda tables: tables["wiki"].to_numpy,
    "packed whole": lambda tables: tables["wiki"].filter(_.row % 3 != 1).to_numpy,
    "sorted": lambda tables: tables["wiki"].to_numpy,
    "mixed": lambda tables: ib.mix(tables, {"wiki": 0.6, "code": 0.4}).to_numpy,
    "mixed, packed": lambda tables: ib.mix(tables, {"wiki": 1, "code": 3}, until=40).to_numpy,
    "mixed, sorted": lambda tables: ib.mix(tables, {"wiki": 0.9, "code": 0.1}, until="wiki").to_numpy,
}
SEQUENCES: dict[str, Any] = {
    "packed": ib.Pack("ids", 16),
    "packed whole": ib.Pack("ids", 32, whole=True),
    "sorted": ib.Bucket("ids", 5),
    "mixed": None,
    "mixed, packed": ib.Pack("ids", 16),
    "mixed, sorted": ib.Bucket("n", 4),
}


@pytest.mark.parametrize("quality", ["none", "window", "global"])
@pytest.mark.parametrize("kind", LOADINGS)
def test_a_job_killed_at_any_time_goes_on_with_any_number_of_ranks(
    tables: dict[str, ib.Dataset], kind: str, quality: str, tmp_path: Path
) -> None:
    loading, cache = LOADINGS[kind](tables), ib.Cache(tmp_path / "cache")

    def loader(rank: int, world: int, **options: Any) -> Any:
        shuffle = {"shuffle": True, "quality": quality} if quality != "none" else {}
        options |= {"rank": rank, "world": world, "sequences": SEQUENCES[kind], "drop_last": True, "cache": cache}
        return loading(STEP_ROWS // world, **shuffle, **options)

    chance = random.Random(kind + quality)
    state = loader(0, 2, seed=5).state_dict()
    undisturbed = loader(0, 1)
    undisturbed.load_state_dict(state)
    expected = [[plain(batch) for batch in undisturbed] for _epoch in range(2)]
    assert len(expected[0]) == len(expected[1]) == len(undisturbed)
    found: list[list[Any]] = [[], []]
    while state["epoch"] < 2:
        world = chance.choice([1, 2, 3, 4, 8])
        ranks = [loader(rank, world) for rank in range(world)]
        for one in ranks:
            one.load_state_dict(json.loads(json.dumps(state)))
        passes = [iter(one) for one in ranks]
        epoch = ranks[0].epoch
        for _step in range(chance.randrange(1, 40)):
            parts = [next(one, None) for one in passes]
            if parts[0] is None:
                assert parts == [None] * world
                break
            found[epoch].append(together([plain(part) for part in parts]))
        states = [one.state_dict() for one in ranks]
        assert all(one == states[0] for one in states), "any rank's state serves all"
        state = states[0]
        for one in passes:
            one.close()
    assert found == expected
    assert len(json.dumps(state)) < 2500


def test_packed_sequences_have_every_token_once(tables: dict[str, ib.Dataset], tmp_path: Path) -> None:
    wanted = sorted(chain.from_iterable(tables["wiki"].to_arrow()["ids"].to_pylist()))
    for whole in (False, True):
        cache = ib.Cache(tmp_path / "cache")
        made = tables["wiki"].to_torch(8, shuffle=True, sequences=ib.Pack("ids", 64, whole, fill=-1), cache=cache)
        seen = []
        for batch in made:
            assert list(batch) == ["ids", "document", "position"]
            assert batch["ids"].shape[1:] == batch["document"].shape[1:] == (64,)
            real = batch["document"] > 0
            assert (batch["ids"][~real] == -1).all()
            seen += batch["ids"][real].tolist()
        assert sorted(seen) == wanted
        assert "% are padding" in made.explain()
        misses = cache.stats().misses
        again = tables["wiki"].to_torch(8, shuffle=True, sequences=ib.Pack("ids", 64, whole, fill=-1), cache=cache)
        assert len(again) == len(made)
        assert cache.stats().misses == misses, "lengths are read once"


def test_sorted_batches_have_every_row_once_and_little_padding(tables: dict[str, ib.Dataset]) -> None:
    def with_slots(batch: dict[str, Any]) -> dict[str, Any]:
        return batch | {"slots": np.array(batch["ids"].size)}

    def padding(sequences: ib.Bucket | None) -> float:
        made = tables["wiki"].to_torch(16, shuffle=True, sequences=sequences, ragged="pad", transform=with_slots)
        batches = list(made)
        assert sorted(chain.from_iterable(batch["row"].tolist() for batch in batches)) == list(range(ROWS))
        tokens, slots = (sum(int(batch[name].sum()) for batch in batches) for name in ("ids_valid", "slots"))
        return 1 - tokens / slots

    assert padding(None) > 0.5
    assert padding(ib.Bucket("ids", 16)) < 0.25


def test_a_mixture_is_by_weight_in_every_batch_and_ends_with_the_first(tables: dict[str, ib.Dataset]) -> None:
    made = ib.mix(tables, {"wiki": 7, "code": 3}).to_torch(10, shuffle=True, columns=["row"], rank=0, world=1)
    batches = list(made)
    assert len(batches) == len(made) == ROWS // 3 // 3  # code is the first to end
    for batch in batches:
        assert abs(int((batch["source"] == 1).sum()) - 3) <= 1
        assert ((batch["row"] >= 10_000) == (batch["source"] == 1)).all()
    rows = Counter(chain.from_iterable(batch["row"].tolist() for batch in batches))
    assert set(rows.values()) == {1}
    assert "code: weight 0.3, 320 rows" in made.explain()
    assert "seen 1.00 times an epoch" in made.explain()
    rows += Counter(chain.from_iterable(batch["row"].tolist() for batch in made))
    assert all(rows[row] <= 2 for row in rows)
    assert abs(sum(rows[row] for row in rows if row < 10_000) - 2 * len(made) * 7) <= 1
    assert sum(rows[row] == 2 for row in range(10_000)) > 0, "wiki has gone round"


def test_a_source_goes_round_as_often_as_it_takes(tables: dict[str, ib.Dataset]) -> None:
    made = ib.mix(tables, {"wiki": 1, "code": 1}, until="wiki").to_numpy(8, columns=["row"])
    rows = Counter(chain.from_iterable(batch["row"].tolist() for batch in made))
    assert len(made) == ROWS // 4
    assert {rows[row] for row in range(ROWS)} == {1}
    assert {rows[row] for row in range(10_000, 10_000 + ROWS // 3)} == {3}
    assert len(ib.mix(tables, {"wiki": 1, "code": 1}, until=7).to_numpy(8)) == 7


def test_a_mixture_goes_to_another_process(tables: dict[str, ib.Dataset]) -> None:
    made = ib.mix(tables, {"wiki": 1, "code": 2}).to_numpy(8, shuffle=True, sequences=ib.Pack("ids", 16))
    passing = iter(made)
    next(passing)
    other = pickle.loads(pickle.dumps(made))
    other.load_state_dict(made.state_dict())
    assert [plain(batch) for batch in other] == [plain(batch) for batch in passing]


def test_a_broken_file_of_a_mixture_is_named(tables: dict[str, ib.Dataset], tmp_path: Path) -> None:
    made = ib.mix(tables, {"wiki": 1, "code": 2}).to_numpy(8)
    (file,) = Path(tmp_path, "my lake ü", "n", "code").rglob("*.parquet")
    file.write_bytes(b"PAR1" + bytes(file.stat().st_size - 8) + b"PAR1")
    with pytest.raises(DataCorrupt) as caught:
        list(made)
    assert str(file) in caught.value.where


def test_a_mixture_of_one_is_the_dataset(tables: dict[str, ib.Dataset]) -> None:
    mixed = ib.mix({"wiki": tables["wiki"]}, {"wiki": 2.5}).to_numpy(8, columns=["row"])
    assert [batch["row"].tolist() for batch in mixed] == [
        batch["row"].tolist() for batch in tables["wiki"].to_numpy(8, columns=["row"])
    ]


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"sequences": ib.Pack("idss", 8)}, ColumnNotFound, "did you mean 'ids'"),
        ({"sequences": ib.Pack("ids", 8), "columns": ["row"]}, ConfigError, "Pack(columns=...)"),
        ({"sequences": ib.Pack("n", 8)}, ConfigError, "lists of numbers"),
        ({"sequences": ib.Bucket("idss")}, ColumnNotFound, "did you mean 'ids'"),
        ({"sequences": ib.Bucket("ids", 0)}, ConfigError, "steps=0"),
        ({"sequences": ib.Bucket("ids", 1000), "memory": "64 KiB"}, ConfigError, "fewer steps"),
        ({"sequences": "pack"}, ConfigError, "Bucket"),
    ],
)
def test_what_cannot_be_is_said_when_the_loader_is_made(
    tables: dict[str, ib.Dataset], options: dict[str, Any], error: type[IceblinkError], said: str
) -> None:
    with pytest.raises(error) as caught:
        tables["wiki"].to_numpy(4, **options)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("weights", "until", "options", "error", "said"),
    [
        ({"wiki": 1}, None, {}, ConfigError, "each dataset has a weight"),
        ({"wiki": 1, "code": 0}, None, {}, ConfigError, "above zero"),
        ({"wiki": 1, "code": float("nan")}, None, {}, ConfigError, "above zero"),
        ({"wiki": 1, "code": 1}, "cod", {}, ColumnNotFound, "did you mean 'code'"),
        ({"wiki": 1, "code": 1}, 0, {}, ConfigError, "at least one step"),
        ({"wiki": 1, "code": 1}, None, {"pad": True}, ConfigError, "no last step"),
        ({"wiki": 1, "code": 1}, None, {"batch_size": 5_000}, ConfigError, "not as many rows"),
        ({"wiki": 1, "code": 1}, None, {"batch_size": 0}, ConfigError, "at least one row"),
        ({"wiki": 1, "code": 1}, None, {"rank": 0, "world": 500}, ConfigError, "500 ranks"),
    ],
)
def test_what_cannot_be_mixed_is_said(
    tables: dict[str, ib.Dataset],
    weights: dict[str, float],
    until: Any,
    options: dict[str, Any],
    error: type[IceblinkError],
    said: str,
) -> None:
    with pytest.raises(error) as caught:
        ib.mix(tables, weights, until=until).to_numpy(**{"batch_size": 4, **options})
    assert said in str(caught.value)


def test_sources_have_the_same_columns_and_a_state_its_weights(tables: dict[str, ib.Dataset]) -> None:
    odd = tables | {"code": tables["code"].select("row", "ids")}
    with pytest.raises(ConfigError, match="'n'"):
        ib.mix(odd, {"wiki": 1, "code": 1}).to_numpy(4)
    named = tables | {"code": tables["code"].mutate(source=_.n), "wiki": tables["wiki"].mutate(source=_.n)}
    with pytest.raises(ConfigError, match="'source'"):
        ib.mix(named, {"wiki": 1, "code": 1}).to_numpy(4)
    state = ib.mix(tables, {"wiki": 1, "code": 1}).to_numpy(4).state_dict()
    with pytest.raises(PlanError, match="weights"):
        ib.mix(tables, {"wiki": 1, "code": 2}).to_numpy(4).load_state_dict(state)
    with pytest.raises(PlanError, match="packing"):
        tables["wiki"].to_numpy(4, sequences=ib.Pack("ids", 8)).load_state_dict(
            tables["wiki"].to_numpy(4, sequences=ib.Pack("ids", 9)).state_dict()
        )


@pytest.mark.parametrize("kind", ["sorted", "mixed", "mixed, sorted"])
def test_a_row_that_a_function_fails_on_is_replaced_and_named(tables: dict[str, ib.Dataset], kind: str) -> None:
    def picky(batch: dict[str, Any]) -> dict[str, Any]:
        if (batch["row"] == 87).any():  # the eighth row of the third row group
            raise ValueError("87")
        return batch

    told: list[RowsReplaced] = []
    with observing(lambda event: told.append(event) if isinstance(event, RowsReplaced) else None):
        options = {"transform": picky, "on_error": "skip", "shuffle": True, "quality": "window"}
        made = LOADINGS[kind](tables)(24, sequences=SEQUENCES[kind], **options)
        rows = list(chain.from_iterable(batch["row"].tolist() for batch in made))
    assert 87 not in rows
    assert len(rows) >= 24 * (len(made) - 1)
    assert [event.where.partition(" of ")[0] for event in told] in ([], ["row 7"])
    assert all("row group 2" in event.where for event in told)
    assert told or kind == "mixed", "an epoch of that one ends before all rows were seen"


def tokenizer() -> Tokenizer:
    made = Tokenizer(WordLevel({"?": 0, "wo": 1, "rd": 2}, unk_token="?"))
    made.pre_tokenizer = Whitespace()
    return made


class Tokenise:
    """Token ids of texts."""

    def __init__(self) -> None:
        self._tokenizer = tokenizer()

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        found = self._tokenizer.encode_batch_fast(batch["text"].to_pylist())
        return pa.record_batch({"ids": pa.array([one.ids for one in found], pa.list_(pa.int32()))})


def test_text_is_tokenised_then_packed_and_the_job_goes_on(lake: ib.Lake) -> None:
    lake.write("n.text", documents(300), "create")
    tokens = lake.table("n.text").map_batches(Tokenise, schema={"ids": pa.list_(pa.int32())})

    def loader() -> Any:
        return tokens.to_numpy(8, shuffle=True, drop_last=True, sequences=ib.Pack("ids", 32))

    undisturbed = [plain(batch) for batch in loader()]
    assert set(chain.from_iterable(chain.from_iterable(batch["ids"] for batch in undisturbed))) <= {0, 1, 2}
    killed = loader()
    passing = iter(killed)
    found = [plain(next(passing)) for _step in range(7)]
    other = loader()
    other.load_state_dict(killed.state_dict())
    assert found + [plain(batch) for batch in other] == undisturbed


def test_a_transform_tokenises_the_text_of_a_batch(lake: ib.Lake) -> None:
    lake.write("n.text", documents(60), "create")
    made = tokenizer()
    made.enable_padding()

    def tokenise(batch: dict[str, Any]) -> dict[str, Any]:
        found = made.encode_batch(batch["text"])
        return {name: np.array([getattr(one, name) for one in found]) for name in ("ids", "attention_mask")}

    texts = lake.table("n.text").select("text")
    batches = list(texts.to_torch(8, shuffle=True, sequences=ib.Bucket("text"), transform=tokenise))
    assert sum(len(batch["ids"]) for batch in batches) == 60
    for batch in batches:
        assert ((batch["ids"] > 0) == (batch["attention_mask"] > 0)).all()


def pictures(count: int) -> Iterator[bytes]:
    for number in range(count):
        file = io.BytesIO()
        Image.new("RGB", (3 + number % 5, 4), (number, 0, 0)).save(file, "PNG")
        yield file.getvalue()


def test_images_are_decoded_on_the_way(lake: ib.Lake) -> None:
    lake.write("n.pictures", {"row": range(50), "png": list(pictures(50))}, "create")
    decode = images.Decode("png", size=(8, 8), to="pixels")

    def transform(batch: dict[str, Any]) -> dict[str, Any]:
        pixels = decode(pa.record_batch({"png": batch["png"]}))
        return {"row": batch["row"], "pixels": np.concatenate([part["pixels"].to_numpy_ndarray() for part in pixels])}

    def loader() -> Any:
        return lake.table("n.pictures").to_torch(8, shuffle=True, text="arrow", transform=transform)

    undisturbed = [plain(batch) for batch in loader()]
    for batch in loader():
        assert batch["pixels"].shape == (len(batch["row"]), 8, 8, 3)
        assert (batch["pixels"][:, 0, 0, 0] == batch["row"]).all()
    killed = loader()
    passing = iter(killed)
    found = [plain(next(passing)) for _step in range(3)]
    other = loader()
    other.load_state_dict(killed.state_dict())
    assert found + [plain(batch) for batch in other] == undisturbed


def test_lists_of_different_lengths_are_refused_where_the_rows_lie(lake: ib.Lake) -> None:
    lake.write("n.uneven", {"ids": [[1, 2], [3]], "loss": [[1, 1], [1, 1]]}, "create")
    with pytest.raises(BatchContractBroken) as caught:
        lake.table("n.uneven").to_numpy(1, sequences=ib.Pack(["ids", "loss"], 4))
    assert "row group" in caught.value.where
