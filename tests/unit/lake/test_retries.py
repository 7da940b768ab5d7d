"""What is tried again, for how long, and what is not."""

from __future__ import annotations

import errno

import pytest

from iceblink.lake import retries
from iceblink.lake.retries import CutShort, is_transient, is_unreachable, patiently

BUSY = [
    OSError("When reading: AWS Error SLOW_DOWN during GetObject operation: Please reduce your request rate"),
    OSError("AWS Error UNKNOWN (HTTP status 503) during PutObject operation: No response body."),
    OSError("HTTP status 429"),
    OSError("AWS Error NETWORK_CONNECTION during UploadPart operation: curlCode: 56, Failure when receiving data"),
    OSError(errno.ECONNRESET, "Connection reset by peer"),
    TimeoutError("the read operation timed out"),
    ConnectionRefusedError(),
    CutShort("s3://b/f", 0, 10, 5),
]
FINAL = [
    FileNotFoundError("s3://b/503"),
    PermissionError("no"),
    OSError(errno.ENOSPC, "No space left on device"),
    OSError("AWS Error ACCESS_DENIED during GetObject operation (HTTP status 403)"),
    ValueError("HTTP status 503"),
]


@pytest.mark.parametrize("error", BUSY, ids=str)
def test_what_may_pass_is_tried_again(error: OSError, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT_S", 0.0)
    answers: list[OSError | int] = [error, error, 7]

    def call() -> int:
        answer = answers.pop(0)
        if isinstance(answer, int):
            return answer
        raise answer

    assert patiently(call) == 7


@pytest.mark.parametrize("error", FINAL, ids=str)
def test_what_stays_is_raised_at_once(error: Exception) -> None:
    calls = []

    def call() -> None:
        calls.append(1)
        raise error

    with pytest.raises(type(error)):
        patiently(call)
    assert calls == [1]
    assert not is_transient(error)


def test_patience_ends() -> None:
    def call() -> None:
        raise TimeoutError("never")

    with pytest.raises(TimeoutError, match="never"):
        patiently(call, patience_s=0.05)


def test_a_store_that_refuses_is_told_from_a_file_that_is_damaged() -> None:
    assert is_unreachable(OSError("AWS Error ACCESS_DENIED during HeadObject"))
    assert not is_unreachable(OSError("Couldn't deserialize thrift"))
