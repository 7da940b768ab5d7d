"""What is answered instead: a refusal, in the words of the REST specification.

References
----------
.. [1] Iceberg REST catalog, open-api/rest-catalog-open-api.yaml, ``ErrorModel`` and the responses of each operation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self


class Refusal(Exception):
    """A request that is not done; `status` is HTTP's, `kind` the ``type`` of an ``ErrorModel``.

    Its message is for whoever asked, anywhere: it has no keys, no places outside of the warehouse, no traceback.
    """

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(status, kind, message)
        self.status, self.kind, self.message = status, kind, message

    @classmethod
    def bad(cls, message: str) -> Self:
        """Something is wrong with the request itself."""
        return cls(400, "BadRequestException", message)

    @classmethod
    def unknown_token(cls) -> Self:
        """Nobody that we know asks."""
        return cls(401, "NotAuthorizedException", "give a bearer token that this server knows")

    @classmethod
    def forbidden(cls, message: str) -> Self:
        """Whoever asks may not have this done."""
        return cls(403, "ForbiddenException", message)

    @classmethod
    def no_namespace(cls, levels: Sequence[str]) -> Self:
        return cls(404, "NoSuchNamespaceException", f"no namespace {'.'.join(levels)!r}")

    @classmethod
    def no_entry(cls, kind: str, name: str) -> Self:
        """There is no such table, or view."""
        return cls(404, f"NoSuch{kind.capitalize()}Exception", f"no {kind.lower()} {name!r}")

    @classmethod
    def no_plan_task(cls) -> Self:
        """None of ours, or of a snapshot that is over."""
        return cls(404, "NoSuchPlanTaskException", "no such plan task: plan the scan again")

    @classmethod
    def unsupported(cls, message: str) -> Self:
        """The specification has it, and this catalog does not."""
        return cls(406, "UnsupportedOperationException", message)

    @classmethod
    def no_views(cls) -> Self:
        return cls.unsupported("the database of this catalog was made before there were views in it")

    @classmethod
    def entry_exists(cls, name: str) -> Self:
        return cls(409, "AlreadyExistsException", f"the name {name!r} is taken")

    @classmethod
    def namespace_exists(cls, levels: Sequence[str]) -> Self:
        return cls.entry_exists(".".join(levels))

    @classmethod
    def not_empty(cls, levels: Sequence[str]) -> Self:
        return cls(409, "NamespaceNotEmptyException", f"namespace {'.'.join(levels)!r} is not empty")

    @classmethod
    def conflict(cls, message: str) -> Self:
        """A requirement does not hold: nothing was changed."""
        return cls(409, "CommitFailedException", message)

    @classmethod
    def too_large(cls, limit_bytes: int) -> Self:
        return cls(413, "RequestTooLargeException", f"a request has {limit_bytes} bytes at most")

    @classmethod
    def contradiction(cls, message: str) -> Self:
        return cls(422, "UnprocessableEntityException", message)

    @classmethod
    def broken(cls, message: str) -> Self:
        """What the catalog has is damaged, or we have a bug."""
        return cls(500, "InternalServerError", message)

    @classmethod
    def unknown(cls) -> Self:
        """The database took the change and never said whether it was made."""
        return cls(500, "CommitStateUnknownException", "the database did not answer: the change may have been made")

    @classmethod
    def overtaken(cls) -> Self:
        return cls.unavailable("others change the properties of this namespace, too: try again")

    @classmethod
    def unavailable(cls, message: str) -> Self:
        """Not now; certainly nothing was changed."""
        return cls(503, "ServiceUnavailableException", message)
