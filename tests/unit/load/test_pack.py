"""Documents in sequences: every token once, in its document's order, and no more sequences than it takes."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from iceblink.errors import BatchContractBroken, ConfigError
from iceblink.load.pack import packed_units
from iceblink.load.sequences import Pack
from iceblink.load.units import Stretch


@dataclass(eq=False)
class Tables:
    """Units that are tables."""

    tables: list[pa.Table]
    decoded_bytes: int = 0

    @property
    def schema(self) -> pa.Schema:
        return self.tables[0].schema

    @property
    def rows(self) -> NDArray[np.int64]:
        return np.array([table.num_rows for table in self.tables], np.int64)

    @property
    def identity(self) -> dict[str, str]:
        return {"tables": "these"}

    def read(self, unit: int) -> pa.Table:
        return self.tables[unit]

    def key(self, unit: int) -> str:
        return str(unit)

    def place(self, unit: int) -> str:
        return f"unit {unit}"

    def stretches(self, unit: int) -> tuple[Stretch, ...]:
        return (Stretch("", 0, self.tables[unit].num_rows),)

    def untouched(self, _unit: int) -> bool:
        return True


def documents(lengths: list[int | None], first: int = 0) -> pa.Table:
    """Documents whose tokens say which document and which place they are of."""
    tokens = [
        None if length is None else [(first + number) * 1000 + place + 1 for place in range(length)]
        for number, length in enumerate(lengths)
    ]
    weights = [None if row is None else [-token for token in row] for row in tokens]
    return pa.table(
        {"ids": pa.array(tokens, pa.list_(pa.int64())), "loss": pa.array(weights, pa.large_list(pa.int64()))}
    )


def flat(parts: list[list[int]]) -> list[int]:
    return list(chain.from_iterable(parts))


def packed(units: Tables, pack: Pack, shuffle: bool = False) -> Any:
    return packed_units(units, pack, shuffle, 2, None, "to_torch")


units = st.lists(st.lists(st.none() | st.integers(0, 25), max_size=12), min_size=1, max_size=3)


@given(units, st.integers(1, 12), st.booleans(), st.booleans())
def test_every_token_comes_once(lengths: list[list[int | None]], length: int, whole: bool, shuffle: bool) -> None:
    tables = [documents(each, 100 * unit) for unit, each in enumerate(lengths)]
    made = packed(Tables(tables), Pack(["ids", "loss"], length, whole, fill=-9), shuffle)
    for unit, table in enumerate(tables):
        got = made.read(unit)
        assert got.schema == made.schema
        assert got.num_rows == made.rows[unit]
        found: list[list[int]] = []
        for row in got.to_pylist():
            real = sum(number > 0 for number in row["document"])
            assert real > 0
            assert row["ids"][real:] == row["loss"][real:] == [-9] * (length - real)
            assert row["position"][real:] == row["document"][real:] == [0] * (length - real)
            assert row["loss"][:real] == [-token for token in row["ids"][:real]]
            for place in range(real):
                if row["position"][place] == 0:
                    found.append([])
                    assert row["document"][place] == (row["document"][place - 1] if place else 0) + 1
                else:
                    assert row["document"][place] == row["document"][place - 1]
                found[-1].append(row["ids"][place])
                assert row["position"][place] == len(found[-1]) - 1
        wanted = [row for row in table["ids"].to_pylist() if row]
        if whole:
            parts = [row[begin : begin + length] for row in wanted for begin in range(0, len(row), length)]
            assert sorted(found) == sorted(parts)
            halves = sum(2 * sum(number > 0 for number in row["document"]) <= length for row in got.to_pylist())
            assert halves <= 1, "two such sequences would be one"
        else:
            assert sorted(flat(found)) == sorted(flat(wanted))
            assert got.num_rows == -(-sum(map(len, wanted)) // length)
            if not shuffle:
                assert flat(found) == flat(wanted)
    assert made.tokens == sum(length or 0 for each in lengths for length in each)


def test_documents_that_fit_stay_whole() -> None:
    made = packed(Tables([documents([3, 6, 4, 1, 9, 2, 5])]), Pack("ids", 10, whole=True))
    assert made.rows.tolist() == [3]
    assert made.note == "30 tokens packed in sequences of 10: 0.00 % are padding"
    assert made.read(0)["document"].to_pylist() == [[1] * 9 + [2], [1] * 6 + [2] * 4, [1] * 5 + [2] * 3 + [3] * 2]


def test_packing_is_a_part_of_what_names_the_rows() -> None:
    tables = Tables([documents([3, 6, 4])])
    made = [packed(tables, Pack("ids", 5, whole), shuffle) for whole in (False, True) for shuffle in (False, True)]
    assert len({str(one.identity) for one in made}) == len({one.key(0) for one in made}) == 4
    assert pickle.loads(pickle.dumps(made[1])).read(0) == made[1].read(0)
    assert made[0].place(0) == "unit 0"


def test_what_cannot_be_packed_is_said() -> None:
    tables = Tables(
        [pa.table({"ids": [[1]], "text": ["a"], "position": [[1]], "bytes": pa.array([[1]], pa.list_(pa.uint8()))})]
    )
    for pack in (
        Pack("text", 4),
        Pack("ids", 0),
        Pack([], 4),
        Pack("position", 4),
        Pack("bytes", 4, fill=-1),
    ):
        with pytest.raises(ConfigError):
            packed(tables, pack)
    uneven = Tables([pa.table({"ids": [[1, 2], [3]], "loss": [[1], [2, 3]]})])
    with pytest.raises(BatchContractBroken, match="not as long"):
        packed(uneven, Pack(["ids", "loss"], 4)).read(0)
    with pytest.raises(BatchContractBroken, match="nulls inside"):
        packed(Tables([pa.table({"ids": [[1, None]]})]), Pack("ids", 4)).read(0)
