"""An HDFS of high availability: two NameNodes, a JVM each, that share a JournalNode, and a DataNode for both."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from servers.hadoop import DATA_SITE, NAME_NODE, NAME_SITE, classpath, prepare, start_data_node
from servers.java import Jvm, write_sites
from servers.processes import free_port

SERVICE = "lakes"
BOTH = ("first", "second")
_ACTIVE = """
names.getRpcServer().transitionTo{state}(new org.apache.hadoop.ha.HAServiceProtocol$StateChangeRequestInfo(
    org.apache.hadoop.ha.HAServiceProtocol$RequestSource.REQUEST_BY_USER_FORCED))
"""


class Pair:
    """Two NameNodes, of which the first is active.

    Attributes
    ----------
    url : str
        Of the name service.
    site : dict of str to str
        What a client must know of it, as it is in ``hdfs-site.xml``.
    folder : Path
        Has such files, for ``HADOOP_CONF_DIR``.
    """

    def __init__(self, folder: Path) -> None:
        self.url, self.folder = f"hdfs://{SERVICE}", folder
        self.ports = {name: free_port() for name in BOTH}
        journal = free_port()
        self.site = {
            "dfs.nameservices": SERVICE,
            f"dfs.ha.namenodes.{SERVICE}": ",".join(BOTH),
            **{f"dfs.namenode.rpc-address.{SERVICE}.{name}": f"127.0.0.1:{port}" for name, port in self.ports.items()},
            f"dfs.client.failover.proxy.provider.{SERVICE}": (
                "org.apache.hadoop.hdfs.server.namenode.ha.ConfiguredFailoverProxyProvider"
            ),
        }
        self._shared = {
            **NAME_SITE,
            **DATA_SITE,
            **self.site,
            **{f"dfs.namenode.http-address.{SERVICE}.{name}": f"127.0.0.1:{free_port()}" for name in BOTH},
            "dfs.namenode.shared.edits.dir": f"qjournal://127.0.0.1:{journal}/{SERVICE}",
            "dfs.journalnode.edits.dir": f"{folder}/journal",
            "dfs.journalnode.rpc-address": f"127.0.0.1:{journal}",
            "dfs.journalnode.http-address": "127.0.0.1:0",
            "dfs.datanode.data.dir": f"file://{folder}/data",
            "dfs.ha.automatic-failover.enabled": "false",
            "dfs.ha.fencing.methods": "shell(/bin/true)",
            "dfs.ha.tail-edits.period": "1",
        }
        self._shared.pop("dfs.namenode.http-address")
        self._classpath = classpath(folder)
        write_sites(folder, {"core-site": {"fs.defaultFS": self.url}, "hdfs-site": self.site})
        self._under = self._jvm("under", {})
        self._names = {name: self._name_node_jvm(name) for name in BOTH}

    def _jvm(self, name: str, further: dict[str, str]) -> Jvm:
        place = self.folder / name
        core = {"fs.defaultFS": self.url, "hadoop.tmp.dir": f"{place}/tmp"}
        write_sites(place, {"core-site": core, "hdfs-site": {**self._shared, **further}})
        jvm = Jvm(place, self._classpath)
        prepare(jvm)
        return jvm

    def _name_node_jvm(self, name: str) -> Jvm:
        return self._jvm(
            name,
            {"dfs.ha.namenode.id": name, "dfs.namenode.name.dir": f"file://{self.folder}/{name}/image"},
        )

    def start(self) -> None:
        """Start all of it; the first NameNode is active then, and can write."""
        self._under.tell("journal = new org.apache.hadoop.hdfs.qjournal.server.JournalNode()")
        self._under.tell("journal.setConf(configuration); journal.start()")
        first, second = BOTH
        self._names[first].tell(f"{NAME_NODE}.format(configuration)")
        shutil.copytree(self.folder / first / "image", self.folder / second / "image")
        for jvm in self._names.values():
            jvm.tell(f"names = {NAME_NODE}.createNameNode(new String[0], configuration)")
        self._turn(first, "Active")
        start_data_node(self._under)
        for jvm in self._names.values():
            jvm.tell("while (names.getNamesystem().getCapacityRemaining() == 0) Thread.sleep(10)")

    def _turn(self, name: str, state: str) -> None:
        self._names[name].tell(_ACTIVE.format(state=state))

    def swap(self, active: str, standby: str) -> None:
        """Make one the standby, then the other active, as an administrator does."""
        self._turn(standby, "Standby")
        self._turn(active, "Active")

    def kill(self, name: str) -> None:
        """Kill a NameNode as a machine is lost."""
        self._names[name].kill()

    def take_over(self, name: str) -> None:
        """Make a NameNode active whose other is dead."""
        self._turn(name, "Active")

    def revive(self, name: str) -> None:
        """Start a NameNode again that was killed; it is a standby."""
        self._names[name] = self._name_node_jvm(name)
        self._names[name].tell(f"names = {NAME_NODE}.createNameNode(new String[0], configuration)")

    def end(self) -> None:
        """End all of it."""
        for jvm in (*self._names.values(), self._under):
            jvm.end()


@contextmanager
def pair(folder: Path) -> Iterator[Pair]:
    """Start one with all that it has in `folder`, and end it."""
    started = Pair(folder)
    try:
        started.start()
        yield started
    finally:
        started.end()
