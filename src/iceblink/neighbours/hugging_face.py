"""Data sets of the Hugging Face hub: their Parquet files, brought to this machine once.

The hub keeps data sets as Parquet on a branch that it makes itself; what lies on other branches may be Parquet too.
Files go to the hub's own cache, by its own client, and one that is there is fetched no more: whoever was ended goes on
with the next.

References
----------
.. [1] Hugging Face, "Dataset viewer", section "List Parquet files"; "Data files configuration".
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import huggingface_hub as hub
from huggingface_hub import errors as refused

from iceblink.credentials import remember
from iceblink.errors import PlanError, StorageError, nearest
from iceblink.mapped import in_threads

CONVERTED = "refs/convert/parquet"
"""The branch that the hub makes of every public data set, up to 5 GB of each split."""
PART = "partial-"
"""What a split is called there of which only the beginning was converted."""
DOWNLOADS = 8
"""Files fetched at once."""
_UNREACHABLE = tuple(kind for kind in refused.HfHubHTTPError.__bases__ if issubclass(kind, Exception))
"""OSError, and what the client's own client of HTTP raises, whichever that is."""
_NUMBERED = re.compile(r"(?:(?P<split>.+?)-)?\d{3,}(?:-of-\d+)?(?:-[0-9a-f]+)?")


@dataclass(frozen=True)
class Shard:
    """One Parquet file of a data set, and what its place says that it belongs to."""

    path: str
    config: str
    split: str

    @classmethod
    def of(cls, path: str) -> Shard:
        """Read ``config/split/0000.parquet``, ``config/split-00000-of-00002.parquet``, ``data/split-00000.parquet``."""
        *folders, name = path.split("/")
        stem = name.removesuffix(".parquet")
        numbered = _NUMBERED.fullmatch(stem)
        split = stem if numbered is None else numbered["split"]
        if split is None:
            split = folders.pop() if folders else "train"
        config = "/".join(folders)
        return cls(path, "default" if config in ("", "data") else config, split)


def downloaded(name: str, config: str | None, split: str | None, revision: str | None) -> list[str]:
    """Bring the Parquet files of one split here, and return their paths in order; see `Lake.read_hugging_face`."""
    where = f"read_hugging_face({name!r})"
    remember({"token": hub.get_token() or ""})
    api = hub.HfApi(os.environ.get("HF_ENDPOINT"), library_name="iceblink")
    try:
        commit, shards = _listed(api, name, revision)
        chosen = _chosen(shards, config, split, where)
        fetch = partial(_fetched, api, name, commit)
        return list(in_threads(fetch, [one.path for one in chosen], DOWNLOADS, "iceblink-hub"))
    except refused.RevisionNotFoundError as error:
        raise PlanError(f"the data set has no revision {revision!r}", where, "a branch, a tag or a commit") from error
    except refused.RepositoryNotFoundError as error:  # a gated one too
        hint = "if it is private or gated, log in with `hf auth login`, or set HF_TOKEN"
        raise PlanError("there is no such data set, or you may not read it", where, hint) from error
    except refused.HFValidationError as error:
        raise PlanError(str(error), where, "write it as 'owner/name'") from error
    except _UNREACHABLE as error:
        hint = "call it again: files that are here already stay"
        raise StorageError(f"the hub cannot be read: {error}", where, hint) from error


def _listed(api: hub.HfApi, name: str, revision: str | None) -> tuple[str, list[Shard]]:
    """Return the commit that a revision is at, and its Parquet files; by default of the hub's own branch."""
    try:
        info = api.dataset_info(name, revision=revision or CONVERTED)
    except refused.RevisionNotFoundError:
        if revision is not None:
            raise
        info = api.dataset_info(name)
    paths = sorted(one.rfilename for one in info.siblings or () if one.rfilename.endswith(".parquet"))
    return info.sha or revision or "main", [Shard.of(path) for path in paths]


def _chosen(shards: list[Shard], config: str | None, split: str | None, where: str) -> list[Shard]:
    """Return the files of one split of one configuration.

    Raises
    ------
    PlanError
        There is none of that name; none was named, and there are several; no file is Parquet.
    """
    if not shards:
        hint = "give revision= of a branch that has them, or load it with Hugging Face's datasets and lake.from_arrow"
        raise PlanError("the data set has no Parquet files", where, hint)
    config = _one("config", config, (one.config for one in shards), where)
    shards = [one for one in shards if one.config == config]
    names = {one.split for one in shards}
    if split is not None and split not in names and f"{PART}{split}" in names:
        raise PlanError(
            f"the hub converted only the beginning of split {split!r}",
            where,
            f"split={PART + split!r} takes that; revision='main' takes all, if its own files are Parquet",
        )
    split = _one("split", split, names, where)
    return [one for one in shards if one.split == split]


def _one(kind: str, wanted: str | None, there: Iterable[str], where: str) -> str:
    names = sorted(set(there))
    if wanted is not None and wanted not in names:
        raise PlanError(f"no {kind} {wanted!r}", where, nearest(wanted, names, f"{kind}s"))
    if wanted is not None:
        return wanted
    if len(names) > 1 and "default" not in names:
        raise PlanError(f"the data set has several {kind}s", where, f"give {kind}= one of {names}")
    return names[0] if len(names) == 1 else "default"


def _fetched(api: hub.HfApi, name: str, commit: str, path: str) -> str:
    return str(api.hf_hub_download(name, path, repo_type="dataset", revision=commit))
