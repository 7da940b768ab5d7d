"""What a job's events add up to: rates, what is left, and which pipelines are told of."""

from __future__ import annotations

import pytest

from iceblink.events import (
    Event,
    FileWritten,
    OperatorProgress,
    PipelineProgress,
    QueryProgress,
    ScanPlanned,
    SplitRead,
)
from iceblink.watch.job import Job, JobSeen

PLANNED = ScanPlanned("ns.t", files=1, files_total=1, splits=2, rows=1000, decoded_bytes=1)


def at(
    seconds: float, read: int, through: int, *, made: int | None = None, pipeline: int = 1, ended: bool = False
) -> PipelineProgress:
    """A pipeline of a scan and a function that has dealt with `through` rows, and made as many or `made`."""
    operators = (
        OperatorProgress("scan ns.t", rows_out=read, bytes_out=8 * read),
        OperatorProgress("f", rows_in=through, rows_out=through if made is None else made),
    )
    return PipelineProgress(pipeline, operators, seconds, 0, ended)


def seen(*events: Event) -> JobSeen:
    job = Job()
    for event in events:
        job(event)
    return job.seen()


def left(*events: Event) -> float | None:
    (pipeline,) = seen(*events).pipelines
    return pipeline.left_s


def test_rates_are_of_the_last_seconds() -> None:
    (pipeline,) = seen(at(0, 0, 0), at(1, 1000, 0), at(7, 1100, 0), at(12, 1600, 0)).pipelines
    source = pipeline.operators[0]
    assert source.now.rows_out == 1600
    assert source.rows_s == 100
    assert source.bytes_s == 800


def test_one_look_tells_no_rate() -> None:
    (pipeline,) = seen(at(3, 500, 0)).pipelines
    assert [operator.rows_s for operator in pipeline.operators] == [0, 0]


def test_what_is_left_goes_by_the_rows_that_are_through_since_the_first_were() -> None:
    assert left(PLANNED, at(30, 1000, 100), at(40, 1000, 300)) == pytest.approx(35)
    assert left(PLANNED, at(30, 500, 100), at(40, 500, 300)) == pytest.approx(35)


def test_what_is_left_counts_rows_dealt_with_not_rows_made() -> None:
    assert left(PLANNED, at(30, 1000, 100, made=7), at(40, 1000, 300, made=7)) == pytest.approx(35)


def test_nobody_knows_what_is_left_before_two_looks_or_without_a_total() -> None:
    assert left(PLANNED, at(30, 1000, 0)) is None
    assert left(PLANNED, at(30, 1000, 100)) is None
    assert left(at(30, 1000, 100), at(40, 1000, 300)) is None


def test_a_statement_below_tells_how_far_it_is() -> None:
    assert left(QueryProgress(0.5), at(10, 80, 20), at(20, 80, 40)) == pytest.approx(60)


def test_of_two_pipelines_nobody_knows_whose_a_statement_is() -> None:
    both = [at(seconds, 80, 2 * seconds, pipeline=number) for seconds in (10, 20) for number in (1, 2)]
    assert [pipeline.left_s for pipeline in seen(QueryProgress(0.5), *both).pipelines] == [None, None]


def test_a_pipeline_that_has_ended_is_told_of_until_something_begins() -> None:
    over = at(5, 10, 10, ended=True)
    (pipeline,) = seen(over).pipelines
    assert pipeline.ended
    assert pipeline.left_s is None
    assert seen(over, PLANNED).pipelines == ()
    assert [found.seconds for found in seen(over, at(1, 0, 0, pipeline=2)).pipelines] == [1]
    assert [found.seconds for found in seen(at(5, 1, 1), at(1, 0, 0, pipeline=2)).pipelines] == [5, 1]


def test_rows_read_planned_and_written_add_up() -> None:
    written = FileWritten("ns.u", "f.parquet", rows=5, file_bytes=1)
    job = seen(PLANNED, PLANNED, SplitRead("ns.t", 300, 1), SplitRead("ns.t", 200, 1), written, written)
    assert (job.rows_planned, job.rows_read, job.rows_written) == (2000, 500, 10)
