"""Storage: names of files are taken as they are."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from iceblink.lake.storage import Storage

NAMES = ["plain", "a b", "50%20off", "x#y", "q?v=1", "ä\U0001f600", "a=b", "k=a%2Fb"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("prefix", ["", "file://", "file:", "file://localhost"])
def test_a_local_file_is_found_by_any_form_of_its_location(tmp_path: Path, name: str, prefix: str) -> None:
    file = tmp_path / name
    file.write_bytes(b"content")
    storage, location = Storage(), f"{prefix}{file}"
    assert storage.local_path(location) == str(file)
    assert storage.read(location) == b"content"
    assert storage.size(location) == 7
    filesystem, inside = storage.filesystem(location)
    assert filesystem.get_file_info(inside).size == 7
    storage.delete(location)
    assert not file.exists()


@pytest.mark.parametrize("location", ["s3://bucket/a b?c#d", "gs://b/x", "hdfs://host/x", "memory://x"])
def test_files_elsewhere_have_no_local_path(location: str) -> None:
    assert Storage().local_path(location) is None


def test_a_key_of_an_object_store_is_taken_as_it_is() -> None:
    properties = {"s3.region": "eu-central-1", "s3.access-key-id": "k", "s3.secret-access-key": "very secret"}
    filesystem, inside = Storage.of(properties).filesystem("s3://bucket/a b?c#d%20e")
    assert (filesystem.type_name, inside) == ("s3", "bucket/a b?c#d%20e")


def test_a_missing_file_is_no_error_to_delete_but_to_read(tmp_path: Path) -> None:
    storage, gone = Storage(), str(tmp_path / "gone")
    storage.delete(gone)
    for ask in (storage.open_input, storage.size, storage.read):
        with pytest.raises(FileNotFoundError):
            ask(gone)


def test_storage_pickles_and_hides_its_secrets() -> None:
    storage = Storage.of({"s3.secret-access-key": "very secret", "s3.retries": 3})
    assert pickle.loads(pickle.dumps(storage)) == storage
    assert "very secret" not in repr(storage)
