"""Room in the object store of a node: waited for while the lack of it may pass, and named when it does not.

Where the store is full, and the disk that it spills to too (above 95 %), Ray refuses an object at once, whether it is
made there or brought there from another node, and does not try again to bring it. Whoever asks for one that was spilled
waits for ever.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.experimental import get_object_locations

from iceblink.config import KIB
from iceblink.errors import OutOfMemoryBudget, RowsLost

PATIENCE_S = 30.0
"""Room is waited for so long."""
AGAIN_S = 1.0
"""After so long it is asked for again."""
REFUSALS = (ray.exceptions.ObjectStoreFullError, ray.exceptions.OutOfDiskError)
"""What Ray says where there is no room."""
_INLINE_BYTES = 100 * KIB  # of Ray: `max_direct_call_object_size`
_HINT = (
    "free space on that disk, or start Ray with another --object-spilling-directory or more --object-store-memory; "
    "where the engine starts it, those are spill_dir= and memory_bytes="
)


class NoRoom(OutOfMemoryBudget):
    """A store has refused an object; it, or that of another node, may have room for it in a moment."""


@dataclass(frozen=True, slots=True)
class SpillDisk:
    """Where the store of a node spills to, and how much is free there; both are None where they cannot be seen."""

    node: str
    folder: str | None
    free_bytes: int | None

    @classmethod
    def here(cls) -> SpillDisk:
        """Look at the disk of this node."""
        node, folder = ray.util.get_node_ip_address(), _spill_folder()
        try:
            disk = None if folder is None else os.statvfs(folder)
        except OSError:
            disk = None
        return cls(node, folder, None if disk is None else disk.f_bavail * disk.f_frsize)

    def refused(self, what: str, where: str) -> NoRoom:
        """Return what to raise where there was no room for `what`."""
        disk = "the disk that it spills to too"
        if self.free_bytes is not None:
            disk = f"its spill folder {self.folder} has {self.free_bytes:,} bytes free"
        return NoRoom(f"no room for {what}: the object store of node {self.node} is full, and {disk}", where, _HINT)


class Refusals:
    """Since when the workers of a run have met with refusals, and no task was done; any thread may call."""

    def __init__(self) -> None:
        self._since: float | None = None

    def last_too_long(self) -> bool:
        """Take note of one more, and say whether that has gone on for long."""
        since = self._since
        if since is None:
            since = self._since = time.monotonic()
        return time.monotonic() - since > PATIENCE_S

    def end(self) -> None:
        """Take note that a task was done: what it read is about to be let go of."""
        self._since = None


def kept(data: Any, nbytes: int, where: str, patience_s: float | None = None) -> Any:
    """Put an object into the store of this node, and return the reference.

    Raises
    ------
    OutOfMemoryBudget
        There has been no room for `patience_s`, default `PATIENCE_S`.
    """
    end = time.monotonic() + (PATIENCE_S if patience_s is None else patience_s)
    while True:
        try:
            return ray.put(data)
        except REFUSALS as error:
            if time.monotonic() >= end:
                raise SpillDisk.here().refused(f"{nbytes:,} bytes", where) from error
        time.sleep(AGAIN_S)


def brought(reference: Any, nbytes: int, what: str, where: str) -> Any:
    """Return an object, brought to this node if it is elsewhere or on disk.

    Raises
    ------
    RowsLost
        Nobody has it any more.
    NoRoom
        It was refused.
    OutOfMemoryBudget
        It was waited for in vain, and the store refused another one that is as large, twice.
    """
    wait_s = PATIENCE_S / 2
    before: Exception | None = None
    while True:
        try:
            return ray.get(reference, timeout=wait_s)
        except ray.exceptions.GetTimeoutError as error:
            if not _is_somewhere(reference, nbytes):  # Ray itself says so after ten minutes
                raise _lost(what, where) from error
            refusal = _refusal(nbytes)
        except REFUSALS as error:
            raise SpillDisk.here().refused(what, where) from error
        except ray.exceptions.RayError as error:  # of the object, or of the actor that made it and cannot do so again
            raise _lost(what, where) from error
        if refusal is None:
            wait_s *= 2  # it is only slow, and Ray may begin anew to bring it
        elif before is not None:
            raise OutOfMemoryBudget(*SpillDisk.here().refused(what, where).args) from refusal
        before = refusal


def _lost(what: str, where: str) -> RowsLost:
    hint = "run it again; with checkpoint= a write goes on"
    return RowsLost(f"{what} are lost: the node that had them is gone", where, hint)


def _is_somewhere(reference: Any, nbytes: int) -> bool:
    """Whether its owner knows of a node that lives and has an object, or of a disk; small ones travel in messages."""
    if nbytes <= _INLINE_BYTES:
        return True
    try:
        known = get_object_locations([reference], timeout_ms=int(1e3 * AGAIN_S)).get(reference)
    except ray.exceptions.RayError:  # its owner is busy
        return True
    alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
    return known is None or known["did_spill"] or not alive.isdisjoint(known["node_ids"])


def _refusal(nbytes: int) -> Exception | None:
    """Return what Ray says against one more object of this size."""
    try:
        ray.put(bytes(nbytes))
    except (ray.exceptions.ObjectStoreFullError, ray.exceptions.OutOfDiskError) as error:
        refusal: Exception = error
        return refusal
    return None


def _spill_folder() -> str | None:
    """Return what the raylet of this node was told."""
    ours = f"--raylet_socket_name={ray._private.worker._global_node.raylet_socket_name}"
    for told in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = told.read_text(errors="replace").split("\0")
        except OSError:  # it has ended, or is somebody else's
            continue
        if ours in words:
            folder = next((word for word in words if word.startswith("--fallback_directory=")), "")
            return folder.partition("=")[2] or None
    return None
