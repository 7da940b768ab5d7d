"""Sketches against sets of Python, and against Apache's own library in both directions."""

from __future__ import annotations

import datasketches
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iceblink.lake.theta import NOMINAL, NotASketch, Theta
from iceblink.lake.value_hashes import hashes

sets = st.sets(st.integers(1, 2**63 - 2), max_size=40)


def of(values: range | list[str]) -> Theta:
    return Theta().adding(hashes(pa.array(values, pa.string() if isinstance(values, list) else pa.int64())))


def some(found: set[int]) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    return np.array(sorted(found, key=lambda one: one % 97), np.uint64)


@settings(max_examples=50)
@given(sets, sets)
def test_few_values_are_counted_and_parts_merge_to_the_whole(one: set[int], other: set[int]) -> None:
    whole = Theta().adding(some(one)).adding(some(other)).adding(some(one))
    merged = Theta().adding(some(one)).merged(Theta().adding(some(other)))
    assert whole.estimate == merged.estimate == len(one | other)
    assert whole.to_bytes() == merged.to_bytes()


@pytest.mark.parametrize("count", [NOMINAL - 1, NOMINAL, NOMINAL + 1, 20_000, 300_000])
def test_many_values_are_estimated_and_the_order_of_merging_is_nothing(count: int) -> None:
    parts = [of(range(start, min(count, start + 7_001))) for start in range(0, count, 7_000)]
    forth, back = Theta(), Theta()
    for part in parts:
        forth = forth.merged(part)
    for part in reversed(parts):
        back = part.merged(back)
    assert forth.to_bytes() == back.to_bytes() == of(range(count)).to_bytes()
    assert forth.estimate == pytest.approx(count, rel=4 / 64 if count > NOMINAL else 0)


@pytest.mark.parametrize("count", [0, 1, 2, NOMINAL, 50_000])
def test_apache_reads_ours_and_we_read_apaches(count: int) -> None:
    theirs = datasketches.update_theta_sketch()
    for number in range(count):
        theirs.update(number)
    ours = of(range(count))
    read = datasketches.compact_theta_sketch.deserialize(ours.to_bytes())
    assert read.get_estimate() == pytest.approx(ours.estimate)
    assert read.is_ordered()
    assert list(read) == ours.hashes.tolist()
    back = Theta.from_bytes(theirs.compact().serialize())
    assert back.estimate == pytest.approx(theirs.get_estimate())
    union = datasketches.theta_union()
    union.update(read)
    union.update(theirs)
    assert union.get_result().get_estimate() == pytest.approx(count, rel=4 / 64)
    assert back.merged(ours).estimate == pytest.approx(count, rel=4 / 64 if count > NOMINAL else 0)


def test_texts_have_the_hashes_that_apache_gives_them() -> None:
    theirs = datasketches.update_theta_sketch()
    texts = ["", "a", "ü", "snow\0man ☃", "x" * 1000]
    for text in texts:
        theirs.update(text)
    assert of(texts).hashes.tolist() == sorted(theirs.compact())


def test_what_is_no_sketch_is_refused_and_never_half_read() -> None:
    content = of(range(5_000)).to_bytes()
    assert Theta.from_bytes(content).to_bytes() == content
    for cut in (0, 1, 7, 8, 15, 23, 24, 25, len(content) - 1):
        with pytest.raises(NotASketch):
            Theta.from_bytes(content[:cut])
    other_seed = datasketches.update_theta_sketch(seed=7)
    other_seed.update(1)
    for wrong in (b"\x03\x01" + content[2:], content[:2] + b"\x02" + content[3:], other_seed.compact().serialize()):
        with pytest.raises(NotASketch):
            Theta.from_bytes(wrong)
