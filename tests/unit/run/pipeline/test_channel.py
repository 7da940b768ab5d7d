"""Messages and descriptors come out of a channel as they went in, in order."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator

import pytest

from iceblink.run.pipeline.channel import Channel


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    one, two = socket.socketpair()
    with one, two:
        yield Channel(one, "."), Channel(two, ".")


@pytest.mark.parametrize("size", [0, 1, 65_000, 70_000, 5_000_000])
@pytest.mark.parametrize("count", [0, 1, 200, 201, 450])
def test_a_message_arrives_with_its_descriptors(ends: tuple[Channel, Channel], size: int, count: int) -> None:
    one, two = ends
    read, write = os.pipe()
    before = len(os.listdir("/dev/fd"))

    def send() -> None:
        for n in range(2):
            one.send(("x" * size, n), [write] * count)

    sender = threading.Thread(target=send)
    sender.start()
    for n in range(2):
        message, descriptors = two.receive()
        assert message == ("x" * size, n)
        assert [os.fstat(each).st_ino for each in descriptors] == [os.fstat(write).st_ino] * count
        assert not any(os.get_inheritable(each) for each in descriptors)
        for each in descriptors:
            os.close(each)
    sender.join()
    assert len(os.listdir("/dev/fd")) == before
    os.close(read)
    os.close(write)


def test_several_threads_may_send(ends: tuple[Channel, Channel]) -> None:
    one, two = ends

    def send(at: int) -> None:
        for n in range(50):
            one.send((at, n))

    senders = [threading.Thread(target=send, args=(at,)) for at in range(4)]
    for sender in senders:
        sender.start()
    got = [two.receive()[0] for _ in range(200)]
    assert all([n for at, n in got if at == sender] == list(range(50)) for sender in range(4))
    for sender in senders:
        sender.join()


def test_the_end_is_an_eof_after_the_last_message(ends: tuple[Channel, Channel]) -> None:
    one, two = ends
    one.send("last")
    one.finish()
    assert two.receive() == ("last", [])
    with pytest.raises(EOFError):
        two.receive()


def test_sending_to_a_closed_end_is_an_error(ends: tuple[Channel, Channel]) -> None:
    one, two = ends
    two.close()
    with pytest.raises(OSError):
        one.send("nobody hears")
