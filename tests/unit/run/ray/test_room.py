"""Rows that a worker waits for and nobody has any more."""

from __future__ import annotations

from typing import Any

import pytest
import ray

from iceblink.errors import RowsLost
from iceblink.run.ray import room

NODES = [{"NodeID": "here", "Alive": True}, {"NodeID": "there", "Alive": False}]


class Silent:
    """A Ray that never says whether an object will come, until it comes."""

    def __init__(self, patch: pytest.MonkeyPatch, node_ids: list[str], spilled: bool, comes_at: int) -> None:
        self.asked, self._comes_at = 0, comes_at
        location = {"node_ids": node_ids, "did_spill": spilled}
        patch.setattr(ray, "get", self.get)
        patch.setattr(ray, "put", lambda _: None)
        patch.setattr(ray, "nodes", lambda: NODES)
        patch.setattr(room, "get_object_locations", lambda refs, timeout_ms: {refs[0]: location})

    def get(self, reference: Any, timeout: float) -> str:
        assert timeout <= 60
        self.asked += 1
        if self.asked < self._comes_at:
            raise ray.exceptions.GetTimeoutError
        return f"what {reference} is"


@pytest.mark.parametrize("node_ids", [[], ["there"]])
def test_rows_of_a_node_that_is_gone_are_lost_though_ray_is_silent(
    monkeypatch: pytest.MonkeyPatch, node_ids: list[str]
) -> None:
    Silent(monkeypatch, node_ids, spilled=False, comes_at=9)
    with pytest.raises(RowsLost, match="5 rows are lost"):
        room.brought("a", 1 << 20, "5 rows", "join")


@pytest.mark.parametrize(
    ("node_ids", "spilled", "nbytes"), [(["there", "here"], False, 1 << 20), ([], True, 1 << 20), ([], False, 50_000)]
)
def test_rows_that_are_somewhere_are_waited_for(
    monkeypatch: pytest.MonkeyPatch, node_ids: list[str], spilled: bool, nbytes: int
) -> None:
    Silent(monkeypatch, node_ids, spilled, comes_at=3)
    assert room.brought("a", nbytes, "5 rows", "join") == "what a is"
