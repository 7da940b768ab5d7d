"""What `hdfs-native` says becomes the error that it is: what may be tried again is no file that is gone."""

from __future__ import annotations

import pytest

from iceblink.lake.hdfs_files import _spoken
from iceblink.lake.retries import is_transient

IPC, HDFS = "org.apache.hadoop.ipc", "org.apache.hadoop.hdfs.server.namenode"


@pytest.mark.parametrize(
    ("said", "kind", "transient"),
    [
        ('RPCError("java.io.FileNotFoundException", "File does not exist: /a")', FileNotFoundError, False),
        ("FileNotFound(/a)", FileNotFoundError, False),
        ("File /a was not found", FileNotFoundError, False),
        ('RPCError("org.apache.hadoop.security.AccessControlException", "Permission denied")', PermissionError, False),
        (f'RPCError("{IPC}.RetriableException", "{HDFS}.SafeModeException: block not found yet")', OSError, True),
        (f'RPCError("{IPC}.StandbyException", "FileNotFound is not what this is about")', OSError, True),
        ("RPC listener disconnected", OSError, True),
        ('RPCError("java.io.IOException", "it does not exist, says the text")', OSError, False),
    ],
)
def test_an_answer_is_judged_by_its_class_and_not_by_words_in_it(
    said: str, kind: type[OSError], transient: bool
) -> None:
    def refuse() -> None:
        raise RuntimeError(said)

    with pytest.raises(OSError) as caught:
        _spoken(refuse)
    assert (type(caught.value), is_transient(caught.value)) == (kind, transient)
