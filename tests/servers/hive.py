"""A real Hive metastore, of the jars that PySpark has; what it knows is in Derby, in the memory of its JVM."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from servers.java import Jvm, jars, write_sites

METASTORE = "org.apache.hadoop.hive.metastore"
THRIFT = "org.apache.thrift"


def classpath() -> list[Path]:
    """Return what a metastore runs of."""
    spark = find_spec("pyspark")
    if spark is None or spark.origin is None:
        raise RuntimeError("no pyspark: make hive")
    return [*jars("shell"), *sorted(Path(spark.origin).parent.glob("jars/*.jar"))]


@contextmanager
def hive(folder: Path, **further: str) -> Iterator[str]:
    """Start a metastore with all that it has in `folder`, give its URI, and end it."""
    site = {
        "javax.jdo.option.ConnectionURL": "jdbc:derby:memory:metastore;create=true",
        "javax.jdo.option.ConnectionDriverName": "org.apache.derby.jdbc.EmbeddedDriver",
        "datanucleus.schema.autoCreateAll": "true",
        "datanucleus.connectionPoolingType": "HikariCP",
        "hive.metastore.schema.verification": "false",
        "hive.metastore.warehouse.dir": f"file://{folder}/warehouse",
        **further,
    }
    write_sites(folder, {"hive-site": site, "core-site": {"hadoop.tmp.dir": f"{folder}/tmp"}})
    jvm = Jvm(folder, classpath())
    try:
        jvm.tell("configuration = new org.apache.hadoop.hive.conf.HiveConf()")
        jvm.tell(f"{METASTORE}.txn.TxnDbUtil.setConfValues(configuration)")
        jvm.tell(f"{METASTORE}.txn.TxnDbUtil.prepDb(configuration)")
        jvm.tell(f'handler = {METASTORE}.HiveMetaStore.newRetryingHMSHandler("tests", configuration, true)')
        jvm.tell(f'door = new {THRIFT}.transport.TServerSocket(new java.net.InetSocketAddress("127.0.0.1", 0))')
        jvm.tell(f"settings = new {THRIFT}.server.TThreadPoolServer.Args(door)")
        jvm.tell(f"settings.processor(new {METASTORE}.TSetIpAddressProcessor(handler))")
        jvm.tell(f"server = new {THRIFT}.server.TThreadPoolServer(settings)")
        jvm.tell("new Thread(new Runnable() { run() { server.serve(); } }).start()")
        yield f"thrift://127.0.0.1:{jvm.tell('door.getServerSocket().getLocalPort()')}"
    finally:
        jvm.end()
