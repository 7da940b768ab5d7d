from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.simulated_backend import NodeDies, RoomLacks, SimulatedBackend, WorkerDies, calls_of, working
from iceblink.config import MIB
from iceblink.errors import FunctionError, OutOfMemoryBudget
from iceblink.plan.function import OnError
from iceblink.run.pipeline.backend import Block, Call, Order, Output, Signal, Slots, Stored, Work
from iceblink.run.pipeline.operator import Operator
from iceblink.run.pipeline.scheduler import CREDIT, Scheduler
from iceblink.run.pipeline.stage import DEPTH, TASK_BYTES
from iceblink.run.pipeline.stats import Recorder
from iceblink.scan.batch import Batch

SCHEMA = pa.schema([("x", pa.int64())])
SLOTS = Slots(4, 1, 256 * MIB)


def batch(values: list[int], first_row: int = 0) -> Batch:
    return Batch(pa.record_batch({"x": pa.array(values, pa.int64())}), "f", first_row)


def source(sizes: list[int], marks: bool = False) -> Operator:
    """Yields 0, 1, 2, ... in batches of these sizes, a mark after each if asked for."""

    def work(call: Call, begun: Callable[[int], None]) -> Iterator[Output]:
        first = 0
        for number, size in enumerate(sizes, 1):
            yield Output("rows", batch(list(range(first, first + size)), first))
            first += size
            if marks:
                yield Output("mark", batch([], number))

    return Operator("source", Order("source", lambda: work), cpus=0.0)


def operator(
    function: Callable[[Batch], Iterator[Batch]],
    batch_rows: int | None = None,
    most: int = 1,
    ordered: bool = True,
    on_error: OnError = "raise",
    gpus: float = 0.0,
    label: str = "f",
) -> Operator:
    order = Order(label, working(function), gpus=gpus)
    return Operator(label, order, batch_rows, SCHEMA, 1, most, ordered=ordered, on_error=on_error)


def doubled(given: Batch) -> Iterator[Batch]:
    yield batch([2 * value for value in given.data.column(0).to_pylist()], given.first_row)


def run(backend: SimulatedBackend, *operators: Operator) -> list[tuple[int, str, Batch]]:
    scheduler = Scheduler(operators, backend, Recorder([item.label for item in operators]))
    return list(scheduler.run())


def values(items: list[tuple[int, str, Batch]]) -> list[int]:
    return [value for _, kind, found in items if kind == "rows" for value in found.data.column(0).to_pylist()]


sizes = st.lists(st.integers(0, 9), max_size=8)


@given(
    sizes=sizes,
    batches=st.lists(st.none() | st.integers(1, 7), min_size=1, max_size=3),
    most=st.integers(1, 3),
    copies=st.integers(0, 3),
    deaths=st.sampled_from([0.0, 0.1, 0.4]),
    seed=st.integers(0, 1 << 16),
)
def test_rows_come_out_once_and_in_order_whatever_dies(
    sizes: list[int], batches: list[int | None], most: int, copies: int, deaths: float, seed: int
) -> None:
    def copied(given: Batch) -> Iterator[Batch]:
        for _ in range(copies):
            yield given

    backend = SimulatedBackend(SLOTS, seed, deaths)
    stages = [operator(copied, rows, most, on_error="raise", label=f"f{n}") for n, rows in enumerate(batches)]
    try:
        items = run(backend, source(sizes), *stages)
    except FunctionError:  # the same call met death twice, which is told: see below
        if deaths:
            return
        raise
    if len(batches) == 1 and copies == 1:
        assert values(items) == list(range(sum(sizes)))
    counts = {value: values(items).count(value) for value in range(sum(sizes))}
    assert set(counts.values()) <= {copies ** len(batches)}
    assert not backend.alive


@given(sizes=sizes, rows=st.integers(1, 4), deaths=st.sampled_from([0.0, 0.1, 0.3]), seed=st.integers(0, 1 << 16))
def test_calls_that_give_no_output_or_several_are_done_again_without_a_row_too_many(
    sizes: list[int], rows: int, deaths: float, seed: int
) -> None:
    def several(given: Batch) -> Iterator[Batch]:
        for _ in range(given.first_row % 3):
            yield given

    try:
        items = run(SimulatedBackend(SLOTS, seed, deaths), source(sizes), operator(several, rows))
    except FunctionError:
        if deaths:
            return
        raise
    total = sum(sizes)
    calls = [list(range(first, min(first + rows, total))) for first in range(0, total, rows)]
    assert values(items) == [value for call in calls for _ in range(call[0] % 3) for value in call]


@pytest.mark.parametrize("seed", range(4))
def test_an_operator_nearer_the_sink_has_its_cpu_first(seed: int) -> None:
    made = taken = 0
    ahead = []

    def many(call: Call, begun: Callable[[int], None]) -> Iterator[Output]:
        nonlocal made
        for made in range(1, 201):
            if taken:
                ahead.append(made - taken)
            yield Output("rows", batch([made]), 0)

    def taking(given: Batch) -> Iterator[Batch]:
        nonlocal taken
        taken += given.data.num_rows
        yield given

    backend = SimulatedBackend(Slots(1, 0, 256 * MIB), seed)
    run(backend, source([1]), replace(operator(doubled), order=Order("many", lambda: many)), operator(taking))
    assert taken == 200
    assert ahead
    assert max(ahead) <= CREDIT + 1


def test_blocks_keep_to_their_part_of_the_memory() -> None:
    large = pa.record_batch({"x": pa.nulls(8192, pa.int64())})  # about 64 KiB of the four MiB that blocks may take

    def many(given: Batch) -> Iterator[Batch]:
        for _ in range(200):
            yield Batch(large, "f", given.first_row)

    class Watched(SimulatedBackend):
        def wait(self, timeout_s: float) -> list[Signal]:
            signals = super().wait(timeout_s)
            if not signals:
                still.set()
            return signals

    still = threading.Event()
    backend = Watched(Slots(1, 0, 16 * MIB), 7)
    operators = [source([1]), operator(many), operator(lambda given: iter([given]))]
    with closing(Scheduler(operators, backend, Recorder(["source", "f", "g"])).run()) as items:
        found = [next(items)]
        still.clear()
        assert still.wait(60)  # nobody takes, and all that may be made is
        found += items
    assert sum(given.data.num_rows for _, _, given in found) == 200 * 8192
    # two more: what the taker has is his, and who feeds an operator that has nothing makes one thing
    assert 3 * MIB < backend.most_bytes <= 4 * MIB + 2 * large.nbytes


def test_a_source_is_no_further_ahead_than_workers_can_have_tasks() -> None:
    large = pa.record_batch({"x": [1, 2], "image": [bytes(4 * MIB)] * 2})

    def many(call: Call, begun: Callable[[int], None]) -> Iterator[Output]:
        for number in range(100):
            yield Output("rows", Batch(large, "f", 2 * number))

    reading = Operator("source", Order("source", lambda: many), cpus=0.0)
    backend = SimulatedBackend(Slots(1, 0, 64 << 30), 7)
    found = run(backend, reading, operator(lambda given: iter([batch(given.data["x"].to_pylist())])))
    assert values(found) == [1, 2] * 100
    at_work = DEPTH * (TASK_BYTES + large.nbytes)
    assert backend.most_bytes <= at_work + DEPTH * TASK_BYTES + (CREDIT + 2) * large.nbytes


def test_a_source_goes_on_while_a_task_of_whole_blocks_lacks_some(monkeypatch: pytest.MonkeyPatch) -> None:
    large = pa.record_batch({"x": [1], "image": [bytes(8 * MIB)]})
    forced: list[Scheduler] = []
    force = Scheduler._force

    def counted(scheduler: Scheduler) -> None:
        forced.append(scheduler)
        force(scheduler)

    def many(call: Call, begun: Callable[[int], None]) -> Iterator[Output]:
        for number in range(40):
            yield Output("rows", Batch(large, "f", number))

    monkeypatch.setattr(Scheduler, "_force", counted)
    reading = Operator("source", Order("source", lambda: many), cpus=0.0)
    order = Order("f", working(lambda given: iter([batch([1])])))
    writing = Operator("f", order, schema=SCHEMA, call_bytes=128 * MIB, atomic=True)
    assert values(run(SimulatedBackend(Slots(1, 0, 64 << 30), 7), reading, writing)) == [1] * 40
    assert not forced


def test_an_error_that_is_kept_keeps_no_rows() -> None:
    def broken(given: Batch) -> Iterator[Batch]:
        if given.first_row:
            raise FunctionError("no", "f")
        yield given

    stages = [source([5] * 20), operator(broken, 5)]
    scheduler = Scheduler(stages, SimulatedBackend(SLOTS, 1), Recorder(["source", "f"]))
    with pytest.raises(FunctionError):
        list(scheduler.run())
    assert not scheduler.out
    assert not any(stage.queue or stage.lanes or stage.running for stage in scheduler.stages)


@given(sizes=sizes, rows=st.integers(1, 7), seed=st.integers(0, 1 << 16), most=st.integers(1, 4))
def test_each_call_but_the_last_has_exactly_the_rows_asked_for(
    sizes: list[int], rows: int, seed: int, most: int
) -> None:
    seen: dict[int, int] = {}

    def looking(given: Batch) -> Iterator[Batch]:
        seen[given.first_row] = given.data.num_rows
        yield given

    run(SimulatedBackend(SLOTS, seed), source(sizes), operator(looking, rows, most))
    total = sum(sizes)
    assert [seen[first] for first in sorted(seen)] == [min(rows, total - at) for at in range(0, total, rows)]


@given(sizes=sizes, rows=st.none() | st.integers(1, 7), seed=st.integers(0, 1 << 16))
def test_a_mark_comes_after_all_rows_before_it_and_before_all_after_it(
    sizes: list[int], rows: int | None, seed: int
) -> None:
    items = run(
        SimulatedBackend(SLOTS, seed), source(sizes, marks=True), operator(doubled, rows, 3), operator(doubled, None, 2)
    )
    seen: list[list[int]] = [[]]
    for _, kind, found in items:
        if kind == "mark":
            assert found.first_row == len(seen)
            seen.append([])
        else:
            seen[-1] += found.data.column(0).to_pylist()
    assert [len(part) for part in seen] == [*sizes, 0]
    assert [value for part in seen for value in part] == [4 * value for value in range(sum(sizes))]


@given(sizes=sizes, rows=st.none() | st.integers(1, 7), seed=st.integers(0, 1 << 16))
def test_no_row_passes_a_mark_even_where_rows_pass_each_other(sizes: list[int], rows: int | None, seed: int) -> None:
    stages = [operator(doubled, rows, 3, ordered=False), operator(doubled, None, 2, ordered=False)]
    seen: list[list[int]] = [[]]
    for _, kind, found in run(SimulatedBackend(SLOTS, seed), source(sizes, marks=True), *stages):
        if kind == "mark":
            assert found.first_row == len(seen)
            seen.append([])
        else:
            seen[-1] += found.data.column(0).to_pylist()
    assert [len(part) for part in seen] == [*sizes, 0]
    assert sorted(value for part in seen for value in part) == [4 * value for value in range(sum(sizes))]


@given(sizes=sizes, seed=st.integers(0, 1 << 16), ordered=st.booleans())
def test_a_rejected_row_says_which_unit_it_came_of(sizes: list[int], seed: int, ordered: bool) -> None:
    def deadly(given: Batch) -> Iterator[Batch]:
        if given.data.num_rows:
            raise WorkerDies
        yield given

    stages = [operator(deadly, 1, ordered=ordered, on_error="quarantine"), operator(doubled)]
    items = run(SimulatedBackend(SLOTS, seed), source(sizes, marks=True), *stages)
    refused = [
        (found.first_row, row["x"]) for _, kind, found in items if kind == "rejected" for row in found.data.to_pylist()
    ]
    units = [unit for unit, size in enumerate(sizes) for _ in range(size)]
    assert sorted(refused) == list(zip(units, range(sum(sizes)), strict=True))


@given(seed=st.integers(0, 1 << 16))
def test_what_lies_before_a_mark_is_handed_on_though_the_run_fails(seed: int) -> None:
    def failing(given: Batch) -> Iterator[Batch]:
        if given.first_row >= 6:
            raise ValueError("broken")
        yield from doubled(given)

    scheduler = Scheduler(
        [source([3, 3, 3], marks=True), operator(failing, 3)], SimulatedBackend(SLOTS, seed), Recorder(["", ""])
    )
    items: list[tuple[int, str, Batch]] = []
    with pytest.raises(ValueError, match="broken"):
        items.extend(scheduler.run())
    assert [found.first_row for _, kind, found in items if kind == "mark"] == [1, 2]
    assert values(items) == [0, 2, 4, 6, 8, 10]


@given(sizes=sizes, seed=st.integers(0, 1 << 16), deaths=st.sampled_from([0.0, 0.05]))
def test_unordered_output_has_the_same_rows(sizes: list[int], seed: int, deaths: float) -> None:
    backend = SimulatedBackend(SLOTS, seed, deaths)
    stage = operator(doubled, 2, 4, ordered=False, on_error="skip")
    items = run(backend, source(sizes), stage)
    assert set(values(items)) <= {2 * value for value in range(sum(sizes))}
    if not backend.deaths:
        assert sorted(values(items)) == [2 * value for value in range(sum(sizes))]


@given(bad=st.sets(st.integers(0, 29), max_size=4), rows=st.integers(1, 6), seed=st.integers(0, 1 << 16))
def test_a_call_that_kills_two_workers_is_rejected_with_its_rows_and_nothing_else(
    bad: set[int], rows: int, seed: int
) -> None:
    def fragile(given: Batch) -> Iterator[Batch]:
        if bad & set(given.data.column(0).to_pylist()):
            raise WorkerDies
        yield given

    backend = SimulatedBackend(SLOTS, seed)
    items = run(backend, source([10, 10, 10]), operator(fragile, rows, 2, on_error="quarantine"))
    poison = {value for value in range(30) if any(other // rows == value // rows for other in bad)}
    assert values(items) == [value for value in range(30) if value not in poison]
    refused = [row for _, kind, found in items if kind == "rejected" for row in found.data.to_pylist()]
    assert sorted(row["x"] for row in refused) == sorted(poison)
    assert all(row["iceblink_row"] == row["x"] and row["iceblink_file"] == "f" for row in refused)
    assert backend.deaths == 2 * len({value // rows for value in bad})


@given(
    rows=st.integers(1, 4),
    deadly=st.frozensets(st.integers(0, 19), max_size=3),
    most=st.integers(1, 2),
    seed=st.integers(0, 1 << 16),
)
def test_an_output_that_kills_two_workers_is_told_from_calls_made_at_the_same_time(
    rows: int, deadly: frozenset[int], most: int, seed: int
) -> None:
    def same(given: Batch) -> Iterator[Batch]:
        yield given

    backend = SimulatedBackend(SLOTS, seed)
    backend.deadly = deadly
    items = run(backend, source([7, 13]), operator(same, rows, most, on_error="skip"))
    assert values(items) == [value for value in range(20) if value // rows not in {value // rows for value in deadly}]
    assert not backend.alive


@given(sizes=sizes, rows=st.integers(1, 4), deaths=st.sampled_from([0.1, 0.3]), seed=st.integers(0, 1 << 16))
def test_a_row_is_rejected_once_though_its_worker_dies_in_the_middle_of_a_call(
    sizes: list[int], rows: int, deaths: float, seed: int
) -> None:
    def rejecting() -> Work:
        """Reject odd values, and say only with the last row of a call that it is dealt with."""

        def work(call: Call, begun: Callable[[int], None]) -> Iterator[Output]:
            consumed, skip = 0, call.skip
            for part in calls_of(call):
                values = part.data.column(0).to_pylist()
                for place, value in enumerate(values, 1):
                    if skip:
                        skip -= 1
                    else:
                        done = consumed + len(values) if place == len(values) else consumed
                        yield Output("rejected" if value % 2 else "rows", batch([value]), done)
                consumed += len(values)

        return work

    try:
        items = run(SimulatedBackend(SLOTS, seed, deaths), source(sizes), Operator("f", Order("f", rejecting), rows))
    except FunctionError:  # the same call met death twice
        return
    rejected = [row["x"] for _, kind, found in items if kind == "rejected" for row in found.data.to_pylist()]
    assert rejected == list(range(1, sum(sizes), 2))
    assert values(items) == list(range(0, sum(sizes), 2))


def test_poison_that_another_function_made_is_rejected_without_its_place() -> None:
    def fragile(given: Batch) -> Iterator[Batch]:
        raise WorkerDies

    def made(given: Batch) -> Iterator[Batch]:
        yield replace(given, exact=False)

    stages = [operator(made), operator(fragile, 2, on_error="quarantine", label="g")]
    items = run(SimulatedBackend(SLOTS, 1), source([4]), *stages)
    refused = [row for _, kind, found in items if kind == "rejected" for row in found.data.to_pylist()]
    assert [(row["x"], row["iceblink_file"], row["iceblink_row"]) for row in refused] == [
        (value, "f", None) for value in range(4)
    ]


def test_a_poison_batch_is_named_after_its_second_kill() -> None:
    def fragile(given: Batch) -> Iterator[Batch]:
        if 17 in given.data.column(0).to_pylist():
            raise WorkerDies
        yield given

    backend = SimulatedBackend(SLOTS, 1)
    with pytest.raises(FunctionError, match="twice, on the same 5 rows") as caught:
        run(backend, source([30]), operator(fragile, 5, 2))
    assert "rows 15 to 19 of f" in caught.value.where
    assert backend.deaths == 2
    assert backend.closed


def test_what_a_function_raises_reaches_the_reader_and_everything_ends() -> None:
    def broken(given: Batch) -> Iterator[Batch]:
        if given.data.num_rows:
            raise FunctionError("no", "f")
        yield given

    backend = SimulatedBackend(SLOTS, 1)
    with pytest.raises(FunctionError, match="no"):
        run(backend, source([30]), operator(broken))
    assert backend.closed


def test_a_reader_that_stops_ends_everything() -> None:
    backend = SimulatedBackend(SLOTS, 1)
    stages = [source([1] * 1000), operator(doubled, 1)]
    with closing(Scheduler(stages, backend, Recorder(["source", "f"])).run()) as items:
        next(items)
    assert backend.closed
    assert not [thread for thread in threading.enumerate() if thread.name == "iceblink-scheduler"]


@settings(max_examples=10)
@given(seed=st.integers(0, 1 << 16), factor=st.sampled_from([1, 20]))
def test_blocks_stay_inside_their_part_of_the_budget(seed: int, factor: int) -> None:
    inflated_rows = factor * 8192  # 64 KiB, or more than a MiB, of the four that blocks may take

    def inflated(given: Batch) -> Iterator[Batch]:
        for _ in range(given.data.num_rows):
            yield Batch(zeros.slice(0, inflated_rows), "f", given.first_row)

    def passed(given: Batch) -> Iterator[Batch]:
        yield given

    zeros = pa.record_batch({"x": pa.nulls(20 * 8192, pa.int64())})
    backend = SimulatedBackend(Slots(4, 0, 16 * MIB), seed)
    items = run(backend, source([20] * 5), operator(inflated, 4, 3), operator(passed, None, 3))
    assert sum(found.data.num_rows for _, _, found in items) == 100 * inflated_rows
    # a fixed surplus: a task of each worker may be its credit ahead
    assert backend.most_bytes <= 4 * MIB + 3 * 2 * 9 * inflated_rows


def test_an_output_too_large_for_the_budget_is_refused_with_the_knob() -> None:
    def huge(given: Batch) -> Iterator[Batch]:
        yield batch([1] * (2 * MIB))

    with pytest.raises(OutOfMemoryBudget, match="more than half of the budget") as caught:
        run(SimulatedBackend(Slots(2, 0, 16 * MIB), 1), source([1]), operator(huge))
    assert "batch_size" in caught.value.hint


@given(seed=st.integers(0, 1 << 16), sizes=sizes)
def test_two_operators_may_share_a_device_that_only_one_can_hold(seed: int, sizes: list[int]) -> None:
    stages = [operator(doubled, 2, gpus=1.0), operator(doubled, 2, gpus=1.0)]
    items = run(SimulatedBackend(Slots(4, 1, 256 * MIB), seed), source(sizes), *stages)
    assert values(items) == [4 * value for value in range(sum(sizes))]


def test_a_gpu_that_others_hold_is_waited_for() -> None:
    class Shared(SimulatedBackend):
        asked = 0

        def slots(self) -> Slots:
            self.asked += 1
            return Slots(2, float(self.asked > 3), 64 * MIB)

    assert values(run(Shared(SLOTS, 1), source([3]), operator(doubled, gpus=1.0))) == [0, 2, 4]


def test_no_worker_is_started_for_an_operator_without_input() -> None:
    backend = SimulatedBackend(SLOTS, 1)
    assert run(backend, source([]), operator(doubled, 2, 4)) == []
    assert backend.started == 1  # the source's


def test_workers_grow_by_backlog_up_to_the_most() -> None:
    backend = SimulatedBackend(Slots(8, 0, 256 * MIB), 3)
    run(backend, source([64]), operator(doubled, 1, 3))
    assert backend.started == 1 + 3


def test_outputs_of_different_types_are_refused_across_workers() -> None:
    def drifting(given: Batch) -> Iterator[Batch]:
        late = given.first_row >= 8
        yield Batch(pa.record_batch({"x": pa.array(["a" if late else 1] * given.data.num_rows)}), "f", given.first_row)

    stage = Operator("f", Order("f", working(drifting)), 4, None, most=2)
    with pytest.raises(FunctionError) as caught:
        run(SimulatedBackend(SLOTS, 5), source([20]), stage)
    assert caught.value.code == "batch-contract-broken"
    assert "rows 8 to 11 of f" in caught.value.where


def test_a_worker_that_dies_while_it_is_built_twice_is_an_error() -> None:
    def build() -> Work:
        raise WorkerDies

    with pytest.raises(FunctionError, match="while it was built"):
        run(SimulatedBackend(SLOTS, 1), source([1]), Operator("f", Order("f", build)))


def test_workers_that_are_lost_with_their_nodes_while_they_are_built_are_built_again() -> None:
    nodes = iter(range(4))

    def build() -> Work:
        if next(nodes, None) is not None:
            raise NodeDies
        return working(doubled)()

    backend = SimulatedBackend(SLOTS, 1)
    assert values(run(backend, source([1]), Operator("f", Order("f", build)))) == [0]
    assert backend.deaths == 4


@given(seed=st.integers(0, 1 << 16), refusals=st.integers(0, 9))
def test_rows_for_whose_output_there_was_no_room_are_not_to_blame(seed: int, refusals: int) -> None:
    left = iter(range(refusals))

    def crowded(given: Batch) -> Iterator[Batch]:
        if next(left, None) is not None:
            raise RoomLacks
        yield from doubled(given)

    backend = SimulatedBackend(SLOTS, seed)
    assert values(run(backend, source([9, 4]), operator(crowded, 4))) == [2 * value for value in range(13)]
    assert backend.deaths == refusals


@given(
    groups=st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=4), max_size=5),
    deaths=st.sampled_from([0.0, 0.1, 0.3]),
    ordered=st.booleans(),
    seed=st.integers(0, 1 << 16),
)
def test_an_exchange_gives_each_row_to_its_part_once_though_workers_die_in_the_middle(
    groups: list[list[int]], deaths: float, ordered: bool, seed: int
) -> None:
    backend = SimulatedBackend(SLOTS, seed, deaths)
    kept = [[backend.put(batch([value])) for value in group] for group in groups]

    def stored(call: Call, begun: Callable[[int], None]) -> Iterator[Stored]:
        for blocks in kept:
            yield Stored(Block(None, len(blocks), 8 * len(blocks), SCHEMA, parts=tuple(blocks)))

    calls: list[list[int]] = []

    def dealt(call: Call, begun: Callable[[int], None]) -> Iterator[Output]:
        found = [value for part in call.parts for value in part.data.column(0).to_pylist()]
        calls.append(found)
        for value in found:
            yield Output("rows", batch([value]), part=value % 3)

    head = Operator("source", Order("source", lambda: stored), cpus=0.0)
    order = Order("exchange", lambda: dealt)
    sink = Operator("exchange", order, None, SCHEMA, 1, 2, ordered=ordered, call_bytes=1, atomic=True, exchanged=True)
    scheduler = Scheduler([head, sink], backend, Recorder(["source", "exchange"]), lent=True)
    try:
        taken = [(item.part, backend.fetch(item.block).data.column(0).to_pylist()) for _, item, _ in scheduler.taken()]
    except FunctionError:
        if deaths:
            return
        raise
    assert sorted(taken) == sorted((value % 3, [value]) for group in groups for value in group)
    assert {tuple(call) for call in calls} <= {tuple(group) for group in groups}  # a group is one call, never cut
    if ordered:
        assert [value for _, one in taken for value in one] == [value for group in groups for value in group]
    assert all(id(block) in backend.alive for group in kept for block in group)  # whoever made a group lets go of it


@given(sizes=st.lists(st.integers(1, 9), max_size=8), least=st.integers(1, 100), seed=st.integers(0, 1 << 16))
def test_a_call_waits_for_as_many_bytes_as_it_wants_and_takes_blocks_uncut(
    sizes: list[int], least: int, seed: int
) -> None:
    calls: list[list[int]] = []

    def counted(call: Call, begun: Callable[[int], None]) -> Iterator[Output]:
        calls.append([part.data.num_rows for part in call.parts])
        yield from (Output("rows", part) for part in call.parts)

    order = Order("wide", lambda: counted)
    wide = Operator("wide", order, None, SCHEMA, call_bytes=least)
    items = run(SimulatedBackend(SLOTS, seed), source(sizes), wide)
    assert values(items) == list(range(sum(sizes)))
    assert all(8 * sum(call) >= least for call in calls[:-1])
    assert all(8 * sum(call[:-1]) < least for call in calls)
    assert [size for call in calls for size in call] == sizes
