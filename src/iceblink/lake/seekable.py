"""A file that is read by places, with the words that Python's protocol, and so Arrow, has for one."""

from __future__ import annotations


class Seekable:
    """What remains to be said of a file is `read_at`."""

    closed = False

    def __init__(self, size: int) -> None:
        self._size, self._at = size, 0

    def read_at(self, nbytes: int, offset: int) -> bytes:
        """Read at a place, which moves nothing; by several threads at once."""
        raise NotImplementedError

    def size(self) -> int:
        return self._size

    def read(self, nbytes: int = -1) -> bytes:
        content = self.read_at(self._size if nbytes < 0 else nbytes, self._at)
        self._at += len(content)
        return content

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def flush(self) -> None:
        """Nothing to flush."""

    def close(self) -> None:
        self.closed = True
