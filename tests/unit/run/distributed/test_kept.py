from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from iceblink.config import GIB, MIB
from iceblink.run.distributed.kept import Kept, group_size, partitions_for, shares_of_blocks, shares_of_partitions
from iceblink.run.pipeline.backend import Block

SCHEMA = pa.schema([("x", pa.int64())])


def block(nbytes: int) -> Block:
    return Block(object(), nbytes // 8, nbytes, SCHEMA)


def kept(sizes: list[list[int]]) -> Kept:
    made = Kept(SCHEMA, max(1, len(sizes)))
    for part, blocks in enumerate(sizes):
        for nbytes in blocks:
            made.add(part, block(nbytes * MIB))
    return made


partitions = st.lists(st.lists(st.integers(1, 200), max_size=4), min_size=1, max_size=12)


@given(left=partitions, right=partitions, cpus=st.integers(1, 8))
def test_a_partition_of_all_reads_meets_in_some_task_whatever_is_merged_or_divided(
    left: list[list[int]], right: list[list[int]], cpus: int
) -> None:
    ours, theirs = kept(left), kept(right)
    shares = list(shares_of_partitions({"a": [ours], "b": [theirs]}, ["a"], cpus))
    assert [id(one) for share in shares for one in share["a"]] == [id(one) for one in ours.all()]  # once, in order
    for part in range(max(len(left), len(right))):
        for mine in ours.blocks.get(part, ()):
            (share,) = [share for share in shares if any(one is mine for one in share["a"])]
            assert all(any(one is other for one in share["b"]) for other in theirs.blocks.get(part, ()))
        for other in theirs.blocks.get(part, ()):
            assert any(one is other for share in shares for one in share["b"])


def test_a_partition_that_may_not_be_divided_is_one_task_however_large() -> None:
    shares = list(shares_of_partitions({"a": [kept([[200, 200, 200], [1], [1]])]}, [], 2))
    assert [len(share["a"]) for share in shares] == [3, 2]


def test_a_skewed_partition_is_shared_out_and_its_tasks_see_the_other_side_whole() -> None:
    left, right = kept([[1], [100] * 8, [1]]), kept([[1], [5, 5], [1]])
    shares = list(shares_of_partitions({"a": [left], "b": [right]}, ["a"], 2))
    of_the_large = [share for share in shares if len(share["b"]) == 2 and share["b"][0].nbytes == 5 * MIB]
    assert len(of_the_large) >= 4


def test_nothing_at_all_is_one_share_because_some_statements_answer_even_that() -> None:
    assert list(shares_of_partitions({"a": [kept([[]])]}, [], 4)) == [{"a": ()}]


@given(sizes=st.lists(st.integers(1, 300), max_size=30), cpus=st.integers(1, 8))
def test_shares_of_blocks_are_in_order_and_none_is_much_too_large(sizes: list[int], cpus: int) -> None:
    blocks = [block(size * MIB) for size in sizes]
    shares = list(shares_of_blocks("a", blocks, cpus))
    assert [id(one) for share in shares for one in share["a"]] == [id(one) for one in blocks]
    assert all(
        sum(one.nbytes for one in share["a"]) <= 128 * MIB + max(one.nbytes for one in share["a"]) for share in shares
    )


def test_partitions_grow_with_the_bytes_and_their_pieces_stay_large_enough() -> None:
    assert partitions_for(MIB, 64) == 1
    assert partitions_for(100 * MIB, 8) == 8
    assert partitions_for(4 * GIB, 2) == 32
    for gib in (16, 1024, 100 * 1024):
        count = partitions_for(gib * GIB, 2)
        assert gib * GIB / count**2 >= MIB * 0.99


def test_rows_are_divided_in_two_rounds_where_the_driver_would_be_slower_over_the_pieces_than_the_workers() -> None:
    assert group_size(tasks=32, partitions=32, nbytes=4 * GIB, cpus=2) == 1
    assert group_size(tasks=256, partitions=80, nbytes=10 * GIB, cpus=64) == 8
    assert group_size(tasks=8192, partitions=1600, nbytes=1024 * GIB, cpus=1600) == 40
    assert group_size(tasks=1_000_000, partitions=3, nbytes=1024 * GIB, cpus=1600) == 1  # it would spare nothing
