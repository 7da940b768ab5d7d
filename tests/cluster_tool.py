"""A real Ray cluster of several nodes on this machine: each has its own network and its own processes.

with Cluster() as cluster:
    node = cluster.add_node()
    with cluster.driver("contract.cluster_scenarios", "name of a scenario") as driver:
        driver.hear("kill")
        node.kill()
        driver.answer()

Needs the right to make namespaces; `why_not` says what is missing.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType

from iceblink.config import MIB

TESTS = Path(__file__).parent
STORE_BYTES = 100 * MIB
SAYS = "driver: "
SPILL = Path("/tmp/ib-spill")
_TRIES = 3
_START_S = 90
_numbers = itertools.count(os.getpid() % 200 * 10)


@cache
def why_not() -> str:
    """Say what is missing for a cluster, or nothing."""
    if missing := [tool for tool in ("ip", "unshare", "nsenter") if shutil.which(tool) is None]:
        return f"no {', '.join(missing)} here"
    probe = ["unshare", "--net", "--pid", "--fork", "--mount-proc", "ip", "link", "add", "probe", "type", "bridge"]
    made = subprocess.run(probe, capture_output=True, text=True)
    return f"no right to make namespaces: {made.stderr.strip()}" if made.returncode else ""


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


@dataclass
class Node:
    """One node: a network namespace, and a process namespace in which Ray runs."""

    name: str
    address: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def init(self) -> int:
        """The first process of the node, by its number out here; all others end with it."""
        (pid,) = map(int, Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split())
        return pid

    def kill(self) -> None:
        """Kill all processes of the node at once, as a power cut does."""
        with suppress(OSError, ValueError):
            os.kill(self.init, 9)
        self.process.wait()

    def cut(self) -> None:
        """Pull the network cable; all processes go on."""
        _run("ip", "link", "set", f"{self.name}h", "down")


@dataclass
class Talk:
    """What a driver on a node says, line by line, between whatever else it prints."""

    process: subprocess.Popen[str]

    def hear(self, word: str) -> None:
        """Wait until the driver has said the word."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line == f"{SAYS}{word}\n":
                return
            print(line, end="", file=sys.stderr)
        raise AssertionError(f"it ended before it said {word!r}")

    def answer(self) -> None:
        """Let it go on."""
        assert self.process.stdin is not None
        self.process.stdin.write("done\n")
        self.process.stdin.flush()


class Cluster:
    """A head and as many nodes of one CPU as are added; all is gone at the end of the `with`.

    Where the head has no CPU, all work is done on the others. With `spill_bytes` each node spills to a disk of its own,
    at `SPILL`, that is as large.
    """

    def __init__(self, head_cpus: int = 1, spill_bytes: int = 0) -> None:
        self._head_cpus, self._spill_bytes, self._number = head_cpus, spill_bytes, next(_numbers)
        self._bridge = f"ibb{self._number}"
        self._net = f"10.{77 + self._number // 250}.{self._number % 250}"
        self._nodes: list[Node] = []
        self._addresses = itertools.count(3)  # none is used again, for the head remembers who was there
        self._folder = tempfile.mkdtemp(prefix="ib", dir="/tmp")  # short: sockets lie in it

    def __enter__(self) -> Cluster:
        _run("ip", "link", "add", self._bridge, "type", "bridge")
        _run("ip", "addr", "add", f"{self._net}.1/24", "dev", self._bridge)
        _run("ip", "link", "set", self._bridge, "up")
        try:
            self.add_node()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def head(self) -> Node:
        return self._nodes[0]

    @property
    def address(self) -> str:
        """Where drivers and nodes join."""
        return f"{self._net}.2:6379"

    def add_node(self) -> Node:
        """Start one more node, the first as head; Ray's own time limits are short, so this is tried again."""
        for attempt in range(_TRIES):
            node = self._start(next(self._addresses) if self._nodes else 2, attempt)
            if node is not None:
                self._nodes.append(node)
                return node
        raise RuntimeError(f"no node started in {_TRIES} tries; see {self._folder}")

    def leave_alone(self) -> None:
        """End all nodes but the head."""
        for node in self._nodes[1:]:
            self._end(node)
        del self._nodes[1:]

    def node_at(self, address: str) -> Node:
        """Return the node of an address."""
        return next(node for node in self._nodes if node.address == address)

    @contextmanager
    def driver(self, module: str, *arguments: str) -> Iterator[Talk]:
        """Run ``python -m module`` on the head node."""
        enter = ["nsenter", "-t", str(self.head.init), "-p", "-m", "-n", sys.executable, "-m", module, *arguments]
        environment = {**_environment(), "RAY_ADDRESS": self.address}
        pipe = subprocess.PIPE
        with subprocess.Popen(enter, text=True, env=environment, stdin=pipe, stdout=pipe) as process:
            try:
                yield Talk(process)
            finally:
                process.kill()

    def close(self) -> None:
        """End all nodes and take their networks away."""
        for node in self._nodes:
            self._end(node)
        subprocess.run(["ip", "link", "del", self._bridge], capture_output=True)
        shutil.rmtree(self._folder, ignore_errors=True)
        with suppress(OSError):  # it is not there, or another cluster's too
            SPILL.rmdir()

    def _end(self, node: Node) -> None:
        node.kill()
        subprocess.run(["ip", "netns", "del", node.name], capture_output=True)

    def _start(self, last: int, attempt: int) -> Node | None:
        name, address = f"ib{self._number}n{last}", f"{self._net}.{last}"
        _run("ip", "netns", "add", name)
        _run("ip", "link", "add", f"{name}h", "type", "veth", "peer", "name", "eth0", "netns", name)
        _run("ip", "link", "set", f"{name}h", "master", self._bridge, "up")
        for command in (
            ("addr", "add", f"{address}/24", "dev", "eth0"),
            ("link", "set", "eth0", "up"),
            ("link", "set", "lo", "up"),
        ):
            _run("ip", "-n", name, *command)
        ray = str(Path(sys.executable).with_name("ray"))
        role = ["--address", self.address, "--num-cpus=1"]
        if not self._nodes:
            role = ["--head", "--port=6379", "--include-dashboard=false", f"--temp-dir={self._folder}/r{attempt}"]
            role += [f"--num-cpus={self._head_cpus}"]
        limits = [f"--object-store-memory={STORE_BYTES}", "--disable-usage-stats"]
        own = ["ip", "netns", "exec", name, "unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
        start = [ray, "start", "--block", f"--node-ip-address={address}", *role, *limits]
        if self._spill_bytes:  # in the node's own view of the file system
            SPILL.mkdir(exist_ok=True)
            mount = f'mount -t tmpfs -o size={self._spill_bytes} tmpfs {SPILL} && exec "$@"'
            start = ["sh", "-c", mount, "sh", *start, f"--object-spilling-directory={SPILL}"]
        log = Path(self._folder, f"{name}.log")
        with log.open("wb") as sink:
            process = subprocess.Popen(
                [*own, *start], env=_environment(), stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, process_group=0
            )
        node = Node(name, address, process, log)
        end = time.monotonic() + _START_S
        while time.monotonic() < end and process.poll() is None:
            if "Ray runtime started" in log.read_text(errors="replace"):
                return node
            time.sleep(0.2)
        node.kill()
        _run("ip", "netns", "del", name)
        return None


def _environment() -> dict[str, str]:
    """Return what nodes and drivers run with: modules found, no token, deaths of nodes noticed soon."""
    checks = {"period_ms": "500", "timeout_ms": "1000", "failure_threshold": "3"}
    soon = {f"RAY_health_check_{name}": value for name, value in checks.items()}
    path = os.pathsep.join([str(TESTS.parent / "src"), str(TESTS)])
    return {**os.environ, "PYTHONPATH": path, "RAY_AUTH_MODE": "disabled", **soon}
