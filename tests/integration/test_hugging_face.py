"""Data sets of a hub on loopback: the right files, each fetched once, and nothing said that is secret."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import huggingface_hub as hub_client
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import constants, file_download
from PIL import Image

import iceblink as ib
from iceblink import _
from iceblink.errors import PlanError, StorageError
from iceblink.media import images
from iceblink.neighbours import hugging_face
from iceblink.neighbours.hugging_face import CONVERTED, Shard
from servers.hub import TOKEN, Hub, running


def parquet(rows: dict[str, Any] | pa.Table) -> bytes:
    sink = BytesIO()
    pq.write_table(rows if isinstance(rows, pa.Table) else pa.table(rows), sink)
    return sink.getvalue()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running() as served:
        monkeypatch.setenv("HF_ENDPOINT", served.url)
        # read from HF_HOME and such when the client was imported
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache ü"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no token"))
        hub_client.close_session()
        served.files["me/plain", CONVERTED] = {
            ".gitattributes": b"",
            "default/train/0000.parquet": parquet({"id": [1, 2]}),
            "default/train/0001.parquet": parquet({"id": [3]}),
            "default/test/0000.parquet": parquet({"id": [9]}),
        }
        yield served
        hub_client.close_session()


def fetched(hub: Hub) -> list[str]:
    return sorted(
        path.rpartition("/resolve/")[2][41:] for method, path, _ in hub.asked if method == "GET" and "resolve" in path
    )


def test_the_files_of_one_split_are_fetched_once_and_read_in_order(hub: Hub, lake: ib.Lake) -> None:
    rows = lake.read_hugging_face("me/plain", split="train")
    assert rows.to_arrow()["id"].to_pylist() == [1, 2, 3]
    assert rows.filter(_.id > 1).count() == 2
    again = lake.read_hugging_face("me/plain", split="train")
    assert again.count() == 3
    assert fetched(hub) == ["default/train/0000.parquet", "default/train/0001.parquet"]
    lake.write("n.t", rows, "create")
    assert lake.table("n.t").count() == 3


def test_what_was_not_named_is_asked_for_with_what_there_is(hub: Hub, lake: ib.Lake) -> None:
    hub.files["me/many", CONVERTED] = {
        "da/train/0000.parquet": parquet({"id": [1]}),
        "de/train/0000.parquet": parquet({"id": [2]}),
        "de/partial-test/0000.parquet": parquet({"id": [3]}),
    }
    hub.files["me/text", "main"] = {"README.md": b"", "data.csv": b"a"}
    wrong: list[tuple[str, dict[str, Any], str]] = [
        ("me/plain", {}, "'test', 'train'"),
        ("me/plain", {"split": "trian"}, "train"),
        ("me/many", {}, "'da', 'de'"),
        ("me/many", {"config": "df"}, "de"),
        ("me/many", {"config": "de", "split": "test"}, "partial-test"),
        ("me/text", {}, "Parquet"),
        ("me/plain", {"revision": "gone", "split": "train"}, "branch"),
        ("me/nobody", {}, "hf auth login"),
        ("no/data/set", {}, "owner/name"),
    ]
    for name, given, said in wrong:
        with pytest.raises(PlanError, match=said):
            lake.read_hugging_face(name, **given)
    assert not fetched(hub)
    assert lake.read_hugging_face("me/many", config="da").to_pylist() == [{"id": 1}]
    assert lake.read_hugging_face("me/many", config="de", split="partial-test").to_pylist() == [{"id": 3}]


def test_what_the_hub_has_not_converted_is_read_as_it_lies(hub: Hub, lake: ib.Lake) -> None:
    hub.files["me/own", "main"] = {
        "data/train-00000-of-00002-3a1f.parquet": parquet({"id": [1]}),
        "data/train-00001-of-00002-9b2e.parquet": parquet({"id": [2], "more": ["x"]}),
    }
    hub.files["me/own", "v1"] = {"train.parquet": parquet({"id": [0]})}
    rows = lake.read_hugging_face("me/own").to_pylist()
    assert rows == [{"id": 1, "more": None}, {"id": 2, "more": "x"}]
    assert lake.read_hugging_face("me/own", revision="v1").to_pylist() == [{"id": 0}]


@pytest.mark.parametrize(
    ("path", "config", "split"),
    [
        ("default/train/0000.parquet", "default", "train"),
        ("en/partial-train/0012.parquet", "en", "partial-train"),
        ("data/train-00000-of-00001.parquet", "default", "train"),
        ("data/test-00000-of-00001-4e3f2a1b.parquet", "default", "test"),
        ("cola/validation-00000-of-00001.parquet", "cola", "validation"),
        ("test.parquet", "default", "test"),
        ("0000.parquet", "default", "train"),
        ("a/b/train_sft-00000-of-00003.parquet", "a/b", "train_sft"),
    ],
)
def test_the_place_of_a_file_tells_config_and_split(path: str, config: str, split: str) -> None:
    assert Shard.of(path) == Shard(path, config, split)


def test_who_was_cut_off_goes_on_with_the_files_that_are_not_here(
    hub: Hub, lake: ib.Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    really_get = file_download.http_get
    # what the client tries again within one call is its own: here the process ended instead
    monkeypatch.setattr(
        file_download, "http_get", lambda *given, **named: really_get(*given, **{**named, "_nb_retries": 0})
    )
    monkeypatch.setattr(hugging_face, "DOWNLOADS", 1)
    hub.cut_at = "default/train/0001.parquet"
    with pytest.raises(StorageError):
        lake.read_hugging_face("me/plain", split="train")
    assert lake.read_hugging_face("me/plain", split="train").to_arrow()["id"].to_pylist() == [1, 2, 3]
    first, second = "default/train/0000.parquet", "default/train/0001.parquet"
    assert fetched(hub) == [first, second, second]


def test_no_message_has_the_token_and_a_private_data_set_opens_with_it(
    hub: Hub, lake: ib.Lake, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    hub.files["me/secret", CONVERTED] = {"default/train/0000.parquet": parquet({"id": [1]})}
    hub.private.add("me/secret")
    with pytest.raises(PlanError, match="HF_TOKEN"):
        lake.read_hugging_face("me/secret")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert lake.read_hugging_face("me/secret").count() == 1
    hub.failing = True
    with pytest.raises(StorageError) as caught:
        lake.read_hugging_face("me/plain", split="train")
    hub.failing = False
    with pytest.raises(PlanError) as named:
        lake.read_hugging_face("me/plain", split=TOKEN)
    out = capfd.readouterr()
    for text in (str(caught.value), repr(caught.value), str(named.value), out.out, out.err):
        assert TOKEN not in text


def test_images_pass_through_as_structs_and_are_decoded(hub: Hub, lake: ib.Lake) -> None:
    sink = BytesIO()
    Image.new("RGB", (4, 2), (10, 20, 30)).save(sink, "PNG")
    picture = {"bytes": sink.getvalue(), "path": "a ü.png"}
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    rows = pa.table({"id": [1, 2, 3], "picture": pa.array([picture, None, {"bytes": None, "path": "gone"}], kind)})
    hub.files["me/pictures", CONVERTED] = {"default/train/0000.parquet": parquet(rows)}
    found = lake.read_hugging_face("me/pictures")
    assert found.to_arrow().to_pylist() == rows.to_pylist()
    decoded = found.map_batches(images.Decode("picture", size=(2, 4))).order_by("id").to_arrow()
    first, *others = decoded["image"].to_pylist()
    assert list(first) == [10, 20, 30] * 8
    assert others == [None, None]
