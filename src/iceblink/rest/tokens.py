"""Who may ask: bearer tokens out of a file, compared in a time that tells nothing about them."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from iceblink.errors import ConfigError

SHORTEST = 16  # characters; what `openssl rand -hex 32` makes has 64
READ_ONLY = "read-only"

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""RFC 6750, section 2.1."""


@dataclass(frozen=True, repr=False)
class Tokens:
    """The tokens of a server, as SHA-256 digests: those that may change things, and those that may only look."""

    writing: tuple[bytes, ...]
    reading: tuple[bytes, ...] = ()

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
        return _among(token, (*self.writing, *self.reading))

    def may_write(self, token: str) -> bool:
        """Tell whether a token may change things."""
        return _among(token, self.writing)


def _among(token: str, known: Sequence[bytes]) -> bool:
    given = _digest(token)
    return sum(hmac.compare_digest(given, one) for one in known) > 0  # no `any`: it would stop at the first


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
