"""Credentials are in no text that leaves the library."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import iceblink as ib
from iceblink.credentials import hidden, remember
from iceblink.errors import CatalogError, IceblinkError
from iceblink.lake.catalog import Catalog
from iceblink.lake.storage import Storage

PASSWORDS = st.text("abcdefghijklmnopqrstuvwxyzABC0123456789+=._-", min_size=4, max_size=30)


@given(
    password=PASSWORDS, before=st.text(max_size=20), key=st.sampled_from(["s3.secret-access-key", "token", "password"])
)
def test_a_secret_that_was_told_is_in_no_error(password: str, before: str, key: str) -> None:
    remember({key: f"S{password}S", "s3.region": "here"})
    error = IceblinkError(f"{before} S{password}S", f"'S{password}S'", f"(S{password}S)")
    assert f"S{password}S" not in str(error)
    assert f"S{password}S" not in repr(pickle.loads(pickle.dumps(error)))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql+psycopg2://ice:p%40ss@db:5432/lake", "postgresql+psycopg2://***@db:5432/lake"),
        (
            "GET https://a.blob.core.windows.net/c/f?sv=1&sig=abc%2B failed",
            "https://a.blob.core.windows.net/c/f?sv=1&sig=*** ",
        ),
        ("Authorization: Bearer eyJ.x-y", "Authorization: Bearer ***"),
        ("https://s3/b?X-Amz-Credential=AK/2026&X-Amz-Signature=0f", "X-Amz-Credential=***&X-Amz-Signature=***"),
    ],
)
def test_what_is_secret_in_any_url_is_hidden(text: str, shown: str) -> None:
    assert shown in hidden(text)


@pytest.mark.parametrize(
    "text", ["hdfs://host:8020/a@b", "a token of 3 parts", "s3://bucket/key=1/x", "mail ice@example.com"]
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert hidden(text) == text


def test_a_catalog_that_cannot_be_reached_is_named_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(CatalogError) as caught:
        ib.connect(uri="postgresql+psycopg2://ice:sesame-open@127.0.0.1:1/lake", warehouse=str(tmp_path))
    assert "sesame" not in str(caught.value)
    catalog = Catalog("prod", {"uri": "mysql+pymysql://ice:sesame-open@db/lake", "token": "sesame-too"})
    storage = Storage.of({"adls.sas-token": "sig-sesame", "s3.endpoint": "http://store"})
    assert "sesame" not in f"{catalog!r} {storage!r} {storage}"
    assert "db/lake" in repr(catalog)
