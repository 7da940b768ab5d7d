"""Workers that are there together, or not at all: for algorithms whose parts speak with each other."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Protocol, Self


class Post(Protocol):
    """Reaches the members from any worker of the engine; it pickles."""

    def tell(self, member: int, method: str, *arguments: Any) -> None:
        """Call a method of a member, and wait until it is done.

        Raises
        ------
        FunctionError
            The member is gone.
        """


class Gang(Protocol):
    """Members, each an object in a process of its own that all live until the gang is left.

    What a method raises is raised here, and FunctionError where a member died: then all are ended.
    """

    @property
    def addresses(self) -> Sequence[str]:
        """The network address of each member's node."""

    @property
    def post(self) -> Post:
        """What workers reach the members by."""

    def ask(self, member: int, method: str, *arguments: Any) -> Any:
        """Call a method of one member, and return what it returns."""

    def ask_all(self, method: str, *arguments: Any) -> list[Any]:
        """Call a method of all members at the same time, and return what each of them returns."""

    def __enter__(self) -> Self:
        """Return it."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End all members."""
