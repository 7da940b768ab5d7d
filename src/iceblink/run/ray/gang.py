"""A gang on Ray: actors in a placement group, which Ray gives whole or not at all."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import ray
from ray.util import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from iceblink.errors import ConfigError, FunctionError, IceblinkError
from iceblink.run.pipeline.function_pickle import pickled, rebuilt
from iceblink.run.ray.joining import Membership
from iceblink.run.ray.session import Session
from iceblink.run.stop import AWAKE_S

PATIENCE_S, GROWTH_S = 60.0, 600.0
"""Members are waited for so long, whoever else has the CPUs of a cluster now, and of one that may grow."""
_MOMENT_S = 5.0  # who is left may fail before Ray says who died
_LOOK_S = 1  # Ray takes whole seconds here
_AGAIN = "run it again: what its members had is gone with them"


class _Member:
    """The actor."""

    def __init__(self, build: bytes, label: str, number: int, path: Sequence[str]) -> None:
        sys.path += [folder for folder in path if folder not in sys.path]
        self._build, self._label, self._number = build, label, number

    def begin(self) -> str:
        """Make it, and return the address of its node; an error of an actor's `__init__` would be its death."""
        make: Callable[..., Any] = rebuilt(self._build, self._label)
        self._made = make(self._number)
        return str(ray.util.get_node_ip_address())

    def ask(self, method: str, arguments: Sequence[Any]) -> Any:
        return getattr(self._made, method)(*arguments)


@dataclass(frozen=True)
class RayPost:
    """The members' handles."""

    label: str
    actors: tuple[Any, ...]

    def tell(self, member: int, method: str, *arguments: Any) -> None:
        """Call a method of a member, and wait until it is done; raises FunctionError if it is gone."""
        _answer(self.actors[member].ask.remote(method, arguments), self.label)


class RayGang:
    """See `run.gang.Gang`.

    Parameters
    ----------
    session : Session
    label : str
        What it is for.
    count : int
    cpus : int
        That Ray keeps for each member.
    build : callable
        Given a member's number, makes what it is; picklable.

    Raises
    ------
    ConfigError
        The cluster has no room for all of them, or not in a minute, of one that may grow in ten.
    FunctionError
        One died while it was built, or it cannot be pickled.
    PlanError
        Here and whenever they are asked: the engine was closed.
    """

    def __init__(self, session: Session, label: str, count: int, cpus: int, build: Callable[[int], Any]) -> None:
        self.label, self._session = label, session
        made = pickled(build, label)
        patience_s = GROWTH_S if session.capacity.grows else PATIENCE_S
        self._refuse_more_than_there_can_be(session, count, cpus)
        with session.asking(label):
            self._group = placement_group([{"CPU": cpus}] * count, strategy="SPREAD")
        self._actors: tuple[Any, ...] = ()
        try:
            if not self._placed(patience_s):
                raise ConfigError(
                    f"there was no room for {count} workers of {cpus} CPUs together in {patience_s:g} s",
                    label,
                    "wait until others are done with the cluster, or ask for fewer workers or threads",
                )
            with session.asking(label):
                self._actors = tuple(
                    ray.remote(max_restarts=0)(_Member)
                    .options(
                        num_cpus=cpus,
                        scheduling_strategy=PlacementGroupSchedulingStrategy(self._group, number),
                        runtime_env=session.runtime_env,
                    )
                    .remote(made, label, number, sys.path)
                    for number in range(count)
                )
                begun = [actor.begin.remote() for actor in self._actors]
            self.addresses: Sequence[str] = self._answers(begun)
        except BaseException:
            self.close()
            raise

    @property
    def post(self) -> RayPost:
        """What workers reach the members by."""
        return RayPost(self.label, self._actors)

    def ask(self, member: int, method: str, *arguments: Any) -> Any:
        """Call a method of one member, and return what it returns."""
        with self._session.asking(self.label):
            asked = self._actors[member].ask.remote(method, arguments)
        (found,) = self._answers([asked])
        return found

    def ask_all(self, method: str, *arguments: Any) -> list[Any]:
        """Call a method of all members at the same time, and return what each of them returns."""
        with self._session.asking(self.label):
            asked = [actor.ask.remote(method, arguments) for actor in self._actors]
        return self._answers(asked)

    def close(self) -> None:
        """End all members at once, and give back what was kept for them."""
        with Membership.there() as there:
            if not there:  # so they are gone
                return
            for actor in self._actors:
                with suppress(ray.exceptions.RayError):
                    ray.kill(actor)
            with suppress(ray.exceptions.RayError):
                remove_placement_group(self._group)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _answers(self, asked: list[Any]) -> list[Any]:
        """Wait for all answers, or the first error: who waits for a member that failed would wait for ever."""
        waiting, failed = list(asked), None
        while waiting and failed is None:
            with self._session.asking(self.label):
                done, waiting = ray.wait(waiting, timeout=AWAKE_S)
                failed = next(_errors(done, self.label), None)
        with self._session.asking(self.label):
            if failed is None:
                return [_answer(one, self.label) for one in asked]
            done, _ = ray.wait(waiting, num_returns=len(waiting), timeout=_MOMENT_S) if waiting else ([], [])
            deaths = (error for error in _errors(done, self.label) if isinstance(error, _MemberGone))
            raise failed if isinstance(failed, _MemberGone) else next(deaths, failed)

    def _placed(self, patience_s: float) -> bool:
        """Wait until Ray has given the whole group, and say whether it has."""
        until = time.monotonic() + patience_s
        while time.monotonic() < until:
            with self._session.asking(self.label):
                if self._group.wait(_LOOK_S):
                    return True
        return False

    def _refuse_more_than_there_can_be(self, session: Session, count: int, cpus: int) -> None:
        """Refuse at once what a cluster that does not grow has no CPUs for."""
        if session.capacity.grows:
            return
        room = sum(int(node.resources.get("CPU", 0.0)) // cpus for node in session.capacity.nodes())
        if room < count:
            raise ConfigError(
                f"{count} workers of {cpus} CPUs are to be there together, and the cluster has room for {room}",
                self.label,
                "ask for fewer workers or threads, or join a larger cluster",
            )


class _MemberGone(FunctionError):
    """A member's process has ended, and with it what it had."""


def _errors(asked: Sequence[Any], label: str) -> Iterator[Exception]:
    """Yield what answers that are there are instead of answers."""
    for one in asked:
        try:
            _answer(one, label)
        except IceblinkError as error:
            yield error


def _answer(asked: Any, label: str) -> Any:
    try:
        return ray.get(asked)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, IceblinkError):
            raise error.cause from error
        raise FunctionError(f"a worker failed: {type(error.cause).__name__}: {_first(error.cause)}", label) from error
    except ray.exceptions.RayError as error:
        raise _MemberGone(f"one of the workers that were together is gone: {_first(error)}", label, _AGAIN) from error


def _first(error: Exception) -> str:
    """Return the first line of what an error says."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "")
