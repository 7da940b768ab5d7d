"""Names of strangers: what comes through can be a folder and a row of the database, and comes back as it was."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from iceblink.lake.served.names import checked_key, checked_namespace
from iceblink.lake.served.refusal import Refusal


@given(st.lists(st.text(max_size=6) | st.sampled_from(["..", ".", "a/b", "\0", "\x1f", "a.b", " a", "täble 1"])))
@example(["\ud800"])
@example(["a" * 256])
@example(["a" * 200, "b" * 200])
def test_a_name_that_comes_through_is_one_folder_and_keeps_its_levels(levels: list[str]) -> None:
    try:
        checked = checked_namespace(levels)
    except Refusal:
        return
    assert list(checked) == levels
    assert ".".join(levels).split(".") == levels
    assert Path("/lake", ".".join(levels)).resolve().parent == Path("/lake")
    assert "\x1f".join(levels).split("\x1f") == levels
    assert not any(
        unicodedata.category(character).startswith("C") and ord(character) < 32 for character in "".join(levels)
    )
    assert checked_key(levels, levels[0]) == (".".join(levels), levels[0])


@pytest.mark.parametrize("levels", [None, [], "a", 7, [None], [["a"]], {"a": 1}])
def test_what_is_no_list_of_texts_is_no_namespace(levels: object) -> None:
    with pytest.raises(Refusal):
        checked_namespace(levels)
