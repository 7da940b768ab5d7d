"""Metadata files, read and written as PyIceberg asks for them."""

from __future__ import annotations

import pickle
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.catalog.rest import TableResponse

from iceblink.lake.catalog import Catalog
from iceblink.lake.storage import Storage
from iceblink.lake.storage_io import StorageIO, StoredFile
from iceblink.rest.server import Server

IO = StorageIO()


def write(location: str, content: bytes, overwrite: bool = False) -> None:
    with IO.new_output(location).create(overwrite) as stream:
        stream.write(content)


@pytest.mark.parametrize("form", ["{}", "file:{}", "file://{}"])
def test_what_was_written_is_read_by_path_and_by_uri(tmp_path: Path, form: str) -> None:
    location = form.format(tmp_path / "a folder" / "100% of it.json")
    write(location, b"{}")
    with IO.new_input(location).open() as stream:
        assert stream.read() == b"{}"
    assert len(IO.new_input(location)) == 2
    assert (tmp_path / "a folder" / "100% of it.json").read_bytes() == b"{}"


def test_what_is_there_is_kept_unless_it_may_be_overwritten(tmp_path: Path) -> None:
    location = str(tmp_path / "v1.json")
    write(location, b"old, and long")
    with pytest.raises(FileExistsError):
        write(location, b"new")
    assert Path(location).read_bytes() == b"old, and long"
    write(location, b"new", overwrite=True)
    assert Path(location).read_bytes() == b"new"


def test_what_is_written_can_be_read_back_by_the_same_object(tmp_path: Path) -> None:
    output = IO.new_output(str(tmp_path / "v1.json"))
    with output.create() as stream:
        stream.write(b"{}")
    with output.to_input_file().open() as stream:
        assert stream.read() == b"{}"


def test_a_file_that_was_deleted_is_gone(tmp_path: Path) -> None:
    locations = [str(tmp_path / name) for name in ("by path", "by file")]
    for location in locations:
        write(location, b"{}")
    IO.delete(locations[0])
    IO.delete(IO.new_input(locations[1]))
    for location in locations:
        assert not IO.new_input(location).exists()
        with pytest.raises(FileNotFoundError):
            IO.new_input(location).open()
        IO.delete(location)  # as if it had been removed by it


def test_what_a_failing_block_wrote_elsewhere_is_not_written() -> None:
    written: dict[str, bytes] = {}

    class Elsewhere(Storage):
        def write(self, path: str, content: bytes) -> None:
            written[path] = content

        def exists(self, path: str) -> bool:
            return path in written

    whole, half = (StoredFile(f"s3://bucket/{name}", Elsewhere()) for name in ("whole", "half"))
    with whole.create() as stream:
        stream.write(b"{}")
    with suppress(ZeroDivisionError), half.create() as stream:
        stream.write(b"{")
        raise ZeroDivisionError
    assert written == {"s3://bucket/whole": b"{}"}
    with pytest.raises(FileExistsError):
        whole.create()


def test_it_pickles() -> None:
    assert pickle.loads(pickle.dumps(StorageIO({"s3.region": "x"}))).properties == {"s3.region": "x"}


EVIL = {"s3.endpoint": "http://evil.example", "http.origins": "http://evil.example", "py-io-impl": "evil.FileIO"}


@pytest.mark.parametrize("kind", ["embedded", "sql"])
def test_a_table_does_not_say_whom_keys_are_sent_to(tmp_path: Path, kind: str) -> None:
    own = {"s3.access-key-id": "key", "s3.secret-access-key": "sesame"}
    sql = {"uri": f"sqlite:///{tmp_path}/c.db", "warehouse": f"file://{tmp_path}/house"}
    catalog = Catalog.embedded(tmp_path / "lake") if kind == "embedded" else Catalog.of(type="sql", **sql, **own)
    made = catalog.create("n.t", {"id": "long"}, properties=EVIL)
    for table in (made, catalog.load("n.t"), made.refresh(), pickle.loads(pickle.dumps(made))):
        assert table.properties.items() >= EVIL.items()
        assert dict(table.storage.properties) == ({} if kind == "embedded" else own)


def test_what_a_rest_catalog_answers_beside_the_metadata_counts(tmp_path: Path) -> None:
    with Server(Catalog.embedded(tmp_path), port=0) as server:
        catalog = Catalog.of(type="rest", uri=server.url)
        rest: Any = catalog.pyiceberg
        loaded = catalog.create("n.t", {"id": "long"})
        answer = TableResponse.model_validate(
            {
                "metadata-location": loaded.pyiceberg.metadata_location,
                "metadata": loaded.pyiceberg.metadata.model_copy(update={"properties": EVIL}),
                "config": {"s3.endpoint": "https://told.example"},
            }
        )
        for make in (rest._response_to_table, rest._response_to_staged_table):
            table = make(("n", "t"), answer)
            assert table.properties == EVIL
            assert Storage.of(table.io.properties).properties == (("s3.endpoint", "https://told.example"),)
