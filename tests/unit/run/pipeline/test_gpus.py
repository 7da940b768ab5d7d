"""GPUs: which there are, and that nobody gets more than a device has."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iceblink.errors import ConfigError
from iceblink.run.pipeline.gpus import Gpus, Share, visible_devices


@pytest.mark.parametrize(
    ("named", "devices"),
    [
        ("", ()),
        ("0", ("0",)),
        ("2, 0", ("2", "0")),
        ("-1", ()),
        ("1,-1,0", ("1",)),
        ("GPU-8a,MIG-7", ("GPU-8a", "MIG-7")),
    ],
)
def test_the_environment_names_the_devices(
    named: str, devices: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert visible_devices() == devices


def test_devices_are_counted_as_cuda_counts_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("nvidia3", "nvidia12", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("iceblink.run.pipeline.gpus._DEV", tmp_path)
    assert visible_devices() == ("0", "1")


def taken(gpus: Gpus, amount: float) -> Share:
    share = gpus.take(amount, "op")
    assert share is not None
    return share


def test_fractions_share_a_device_and_leave_the_others_whole() -> None:
    gpus = Gpus(["0", "1", "2"])
    assert [taken(gpus, 0.25).devices for _ in range(4)] == [("0",)] * 4
    assert taken(gpus, 2).devices == ("1", "2")
    assert gpus.take(0.1, "op") is None


def test_a_share_that_is_given_back_can_be_taken_again() -> None:
    gpus = Gpus(["7"])
    for _ in range(20):
        shares = [taken(gpus, 0.1) for _ in range(10)]
        for share in shares:
            gpus.give_back(share)
    assert taken(gpus, 1).devices == ("7",)


@pytest.mark.parametrize("amount", [-1.0, 1.5])
def test_an_amount_that_cannot_be_is_refused(amount: float) -> None:
    with pytest.raises(ConfigError):
        Gpus(["0"]).take(amount, "op")


def test_no_share_is_no_device() -> None:
    assert taken(Gpus([]), 0).devices == ()


@given(amounts=st.lists(st.sampled_from([0.1, 0.3, 0.5, 1.0, 2.0]), max_size=30))
def test_no_device_is_given_out_twice(amounts: list[float]) -> None:
    gpus, used = Gpus(["a", "b", "c"]), dict.fromkeys("abc", 0.0)
    for amount in amounts:
        share = gpus.take(amount, "op")
        for device in share.devices if share is not None else ():
            used[device] += share.of_each if share is not None else 0.0
    assert max(used.values()) <= 1 + 1e-6
