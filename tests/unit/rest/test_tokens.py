"""Tokens of a server: what a file may say, and who may do what."""

from __future__ import annotations

from pathlib import Path

import pytest

from iceblink.errors import ConfigError
from iceblink.rest.tokens import Tokens

ONE, TWO, THREE = (letter * 20 for letter in "abc")


def test_a_file_says_who_may_write_and_who_may_only_read(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"# of the team\n{ONE}\n\n  {TWO}   read-only  # a dashboard\n{THREE}\r\n")
    tokens = Tokens.read(file)
    assert [tokens.may_read(token) for token in (ONE, TWO, THREE, "d" * 20, "", ONE[:-1])] == [True] * 3 + [False] * 3
    assert [tokens.may_write(token) for token in (ONE, TWO, THREE)] == [True, False, True]
    assert ONE not in repr(tokens)


@pytest.mark.parametrize("text", ["", "# none\n", "short\n", f"{ONE} write\n", f"{ONE} read-only {TWO}\n", "ü" * 20])
def test_a_file_that_says_something_else_is_refused_and_not_repeated(tmp_path: Path, text: str) -> None:
    file = tmp_path / "tokens"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        Tokens.read(file)
    assert ONE not in str(caught.value)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        Tokens.read(tmp_path / "none")
