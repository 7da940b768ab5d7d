"""Credentials are told once and shown nowhere: they are taken out of every text that an error carries."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"

_SECRET_KEY = re.compile(
    r"secret|password|passwd|token|credential|api-?key|access-?key|account-key|\bsas\b|connection-string|keytab"
    r"|private-key|authorization",
    re.IGNORECASE,
)
"""Names of properties whose values are secrets: ``s3.secret-access-key``, ``token``, ``adls.sas-token``, ..."""

_IN_TEXT = (
    re.compile(r"(?<=://)()[^\s/@'\"]*:[^\s/@'\"]*(?=@)"),  # user:password@host
    re.compile(
        r"([?&](?:sig|signature|token|password|secret|client_secret|x-amz-signature|x-amz-credential|x-amz-security-token"
        r"|x-goog-signature|x-goog-credential)=)[^&\s'\"]+",
        re.IGNORECASE,
    ),
    re.compile(r"(\bBearer )[\w.~+/=-]+"),
)
"""What is a secret in any text, behind its first group: user and password of a URL, what signs it; a bearer's token."""

_SHORTEST = 4  # characters; less would hide parts of words that have nothing to do with it
_known: set[str] = set()


def remember(properties: Mapping[str, Any]) -> None:
    """Take note of the secrets among a catalog's or a file system's properties, so that `hidden` finds them."""
    for key, value in properties.items():
        if isinstance(value, Mapping):
            remember(value)
        elif _SECRET_KEY.search(key):
            parts = str(value).partition(":")[2] if key == "credential" else ""  # of client-id:client-secret
            _known.update(secret for secret in (str(value), parts) if len(secret) >= _SHORTEST)


def hidden(text: str) -> str:
    """Return `text` with ``***`` in the place of every credential in it, known ones and those of any URL."""
    for secret in sorted(_known, key=len, reverse=True):
        if secret in text:
            text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", HIDDEN, text)
    for pattern in _IN_TEXT:
        text = pattern.sub(_behind, text)
    return text


def _behind(found: re.Match[str]) -> str:
    """Return what stands for a secret; no template, which `re` would import a module for while the process ends."""
    return found[1] + HIDDEN
