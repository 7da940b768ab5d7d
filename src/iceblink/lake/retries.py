"""Storage that stumbles: what may be tried again, how long to wait, and when to give up."""

from __future__ import annotations

import errno
import random
import re
import time
from collections.abc import Callable
from typing import TypeVar

from pyarrow.fs import AwsStandardS3RetryStrategy

from iceblink.errors import StorageError

Result = TypeVar("Result")

PATIENCE_S = 60.0
"""How long a file is tried for by default [s]; ``storage.patience-s`` of a catalog's properties says otherwise."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.05, 5.0
SDK_ATTEMPTS = 6
"""Tries of one request inside of Amazon's library: parts of an upload are sent again only there."""

_ERRNOS = {
    errno.ECONNRESET,
    errno.ECONNREFUSED,
    errno.ECONNABORTED,
    errno.EPIPE,
    errno.ETIMEDOUT,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.EAGAIN,
}
_TRANSIENT = re.compile(
    r"SLOW_DOWN|SlowDown|SERVICE_UNAVAILABLE|INTERNAL_FAILURE|NETWORK_CONNECTION|REQUEST_TIMEOUT|THROTTL|TOO_MANY"
    r"|HTTP (?:status|response|status code|response code)?:? ?(?:408|425|429|500|502|503|504)\b"
    r"|curlCode: (?:5|6|7|16|18|28|35|52|55|56|92)\b"
    r"|timed? ?out|connection (?:was )?(?:reset|closed|aborted|refused)|reset by peer|broken pipe|try again"
    r"|StandbyException|safe ?mode|RPC listener disconnected|channel closed"
    r"|unexpected end of file|cut short on the way",
    re.IGNORECASE,
)
"""What file systems say when the same request may well succeed a moment later."""
_DENIED = re.compile(
    r"ACCESS_DENIED|AccessDenied|INVALID_ACCESS_KEY|SIGNATURE_DOES_NOT_MATCH|AccessControl"
    r"|HTTP (?:status|response|status code|response code)?:? ?(?:401|403)\b",
    re.IGNORECASE,
)
_FINAL = (FileNotFoundError, PermissionError, FileExistsError, IsADirectoryError, NotADirectoryError)


class PatientS3(AwsStandardS3RetryStrategy):  # type: ignore[misc]
    """How Arrow's S3 client sends a request again: with backoff and jitter, also when it is told to slow down."""

    def __init__(self) -> None:
        super().__init__(max_attempts=SDK_ATTEMPTS)


class CutShort(OSError):
    """A store answered with fewer bytes than it said."""

    def __init__(self, path: str, offset: int, expected: int, got: int) -> None:
        super().__init__(f"{path} was cut short on the way: {got:,} of {expected:,} bytes from byte {offset:,}")


def is_transient(error: BaseException) -> bool:
    """Whether trying again may help: the store is busy, or the way to it is disturbed."""
    if not isinstance(error, OSError) or isinstance(error, _FINAL):
        return False
    return isinstance(error, TimeoutError | ConnectionError | CutShort) or (
        error.errno in _ERRNOS or _TRANSIENT.search(str(error)) is not None
    )


def is_unreachable(error: OSError) -> bool:
    """Whether it is the store that does not answer or refuses, rather than the file that is at fault."""
    return is_transient(error) or _DENIED.search(str(error)) is not None


def unreachable(error: OSError, owner: str, path: str) -> StorageError:
    """Return the error for a file that the store does not hand out.

    Parameters
    ----------
    owner : str
        Whose file it is, in words; may be empty.
    """
    said = str(error).strip().split("\n")[0]
    denied = _DENIED.search(said) is not None
    hint = "check the keys, and what they may do" if denied else "try again later, or check the way to the store"
    return StorageError(
        f"the store {'refuses' if denied else 'does not answer'}: {said}",
        ", ".join(part for part in (owner, f"file {path}") if part),
        hint,
    )


def patiently(call: Callable[[], Result], patience_s: float = PATIENCE_S) -> Result:
    """Call until it succeeds, for `patience_s` [s], waiting longer each time and out of step with others.

    Parameters
    ----------
    call : callable
        Harmless to repeat.
    patience_s : float
        After this long [s] the last error is raised.

    Raises
    ------
    OSError
        Whatever `call` raised that is not transient, or was so for too long.
    """
    deadline = time.monotonic() + patience_s
    wait_s = FIRST_WAIT_S
    while True:
        try:
            return call()
        except OSError as error:
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not is_transient(error):
                raise
        time.sleep(min(wait_s * random.uniform(0.5, 1.5), left_s))
        wait_s = min(2 * wait_s, LONGEST_WAIT_S)
