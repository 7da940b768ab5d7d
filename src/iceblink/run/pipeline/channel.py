"""Small messages and file descriptors over a socket between two processes."""

from __future__ import annotations

import errno
import os
import pickle
import socket
import struct
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from iceblink.config import KIB
from iceblink.run.pipeline.shared_rows import anonymous_file

_HEADER = struct.Struct("=QI?")  # bytes, descriptors, whether the last descriptor is the message
_INT = struct.Struct("=i")
_INLINE = 64 * KIB
_GROUP = 200  # a kernel passes at most 253 descriptors at a time
_CLOSE_ON_EXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


class Channel:
    """One end of a socket pair; any thread may send, one thread receives.

    A message is anything that pickles. A large one, a function with a model in it, travels in a shared file.

    Parameters
    ----------
    end : socket.socket
    folder : str
        For large messages, on systems that have no anonymous memory.
    """

    def __init__(self, end: socket.socket, folder: str) -> None:
        self._socket, self._folder = end, folder
        self._sending = threading.Lock()

    def fileno(self) -> int:
        """Return the socket's descriptor, to wait for a message."""
        return self._socket.fileno()

    def send(self, message: object, descriptors: Sequence[int] = ()) -> None:
        """Send a message with descriptors, which stay open here.

        Raises
        ------
        OSError
            The other end is closed.
        """
        payload = pickle.dumps(message, protocol=5)
        if len(payload) <= _INLINE:
            self._send(_HEADER.pack(len(payload), len(descriptors), False) + payload, descriptors)
            return
        file = anonymous_file(self._folder)
        try:
            with open(file, "wb", closefd=False) as target:
                target.write(payload)
            self._send(_HEADER.pack(0, len(descriptors) + 1, True), [*descriptors, file])
        finally:
            os.close(file)

    def _send(self, data: bytes, descriptors: Sequence[int]) -> None:
        groups = [descriptors[at : at + _GROUP] for at in range(0, len(descriptors), _GROUP)] or [()]
        with self._sending:
            for group in groups:
                sent = socket.send_fds(self._socket, [data], group) if group else 0
                self._socket.sendall(data[sent:])
                data = b"+"  # each further group needs a byte to travel with

    def receive(self) -> tuple[Any, list[int]]:
        """Return the next message and its descriptors, the caller's from now on.

        Raises
        ------
        EOFError
            The other end is closed.
        OSError
            This process may not have so many descriptors.
        """
        header, descriptors = self._receive(_HEADER.size)
        header += self._exactly(_HEADER.size - len(header))
        size, count, in_file = _HEADER.unpack(header)
        payload = self._exactly(size)
        for _ in range(_GROUP, count, _GROUP):
            descriptors += self._receive(1)[1]
        if len(descriptors) < count:
            for descriptor in descriptors:
                os.close(descriptor)
            raise OSError(errno.EMFILE, "too many open files; raise the limit with ulimit -n")
        if in_file:
            with open(descriptors.pop(), "rb") as source:
                source.seek(0)  # the position was the writer's
                return pickle.load(source), descriptors
        return pickle.loads(payload), descriptors

    def _receive(self, size: int) -> tuple[bytes, list[int]]:
        # socket.recv_fds takes flags and forgets them: what the user's programs start would inherit the descriptors
        data, attached, _, _ = self._socket.recvmsg(size, socket.CMSG_SPACE(_GROUP * _INT.size), _CLOSE_ON_EXEC)
        if not data:
            raise EOFError
        descriptors = []
        for level, kind, carried in attached:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                whole = len(carried) - len(carried) % _INT.size  # the kernel may have cut the last one off
                descriptors += [descriptor for (descriptor,) in _INT.iter_unpack(carried[:whole])]
        return data, descriptors

    def _exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            part = self._socket.recv(size - len(data))
            if not part:
                raise EOFError
            data += part
        return bytes(data)

    def finish(self) -> None:
        """Let the other end know that nothing more will be sent."""
        with suppress(OSError):  # it is gone already
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close this end; the other one reads its end."""
        self._socket.close()
