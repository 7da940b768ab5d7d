"""Who may ask: bearer tokens out of a file, compared in a time that tells nothing about them.

A client may also send a token of the file once, as the secret of its credentials, and go on with an access token, which
ends by itself. It is signed by what the server knows of the secret: all servers with the same file take it, as long as
the secret is in the file.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from iceblink.errors import ConfigError

SHORTEST = 16  # characters; what `openssl rand -hex 32` makes has 64
READ_ONLY = "read-only"

LIFE_S = 3600
"""How long an access token is good [s]."""

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""RFC 6750, section 2.1."""


@dataclass(frozen=True, repr=False)
class Tokens:
    """The tokens of a server, as SHA-256 digests: those that may change things, and those that may only look."""

    writing: tuple[bytes, ...]
    reading: tuple[bytes, ...] = ()
    clock: Callable[[], float] = time.time
    """Says by when an access token ends [s since 1970]."""

    @classmethod
    def of(cls, writing: Sequence[str], reading: Sequence[str] = ()) -> Self:
        """Return these tokens.

        Raises
        ------
        ConfigError
            There is none, or one that cannot be a token.
        """
        if not writing and not reading:
            raise ConfigError("there are no tokens", "tokens", "make one with: openssl rand -hex 32")
        for number, token in enumerate([*writing, *reading], start=1):
            if len(token) < SHORTEST or not _TOKEN.fullmatch(token):
                hint = f"{SHORTEST} or more letters, digits and -._~+/: openssl rand -hex 32"
                raise ConfigError(f"token {number} is too short, or has characters that no token has", "tokens", hint)
        return cls(tuple(map(_digest, writing)), tuple(map(_digest, reading)))

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Return the tokens in a file, one a line; ``read-only`` after one that may only look, ``#`` before a comment.

        Raises
        ------
        ConfigError
            The file cannot be read, or has no token, or something else.
        """
        try:
            lines = Path(path).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError("the file of tokens cannot be read", str(path), "name a text file") from error
        writing, reading = [], []
        for number, line in enumerate(lines, start=1):
            words = line.partition("#")[0].split()
            if len(words) == 2 and words[1] == READ_ONLY:
                reading.append(words[0])
            elif len(words) == 1:
                writing.append(words[0])
            elif words:
                hint = f"one token a line, followed by {READ_ONLY} if it may only look"
                raise ConfigError(f"line {number} is no token", str(path), hint)
        return cls.of(writing, reading)

    def may_read(self, token: str) -> bool:
        """Tell whether a token is known; compares all of them, whichever it is."""
        return self._among(token, (*self.writing, *self.reading))

    def may_write(self, token: str) -> bool:
        """Tell whether a token may change things."""
        return self._among(token, self.writing)

    def access(self, secret: str) -> str | None:
        """Return an access token that may do what `secret` may, or None if that is no token of the file."""
        given, known = _digest(secret), (*self.writing, *self.reading)
        found = [one for one in known if hmac.compare_digest(given, one)]
        return _signed(f"{int(self.clock()) + LIFE_S}", found[0]) if found else None

    def _among(self, token: str, known: Sequence[bytes]) -> bool:
        given, end = _digest(token), token.partition(".")[0]
        same = sum(hmac.compare_digest(given, one) for one in known)  # no `any`: it would stop at the first
        signed = sum(hmac.compare_digest(given, _digest(_signed(end, one))) for one in known)
        return same > 0 or (signed > 0 and end.isdecimal() and self.clock() < int(end))


def _signed(end: str, key: bytes) -> str:
    return f"{end}.{hmac.digest(key, f'access until {end}'.encode('utf-8', 'surrogateescape'), 'sha256').hex()}"


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
