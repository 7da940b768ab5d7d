"""Classify images that lie in a table as PNG bytes, one of them damaged.

    pip install 'iceblink[examples]' && python examples/classify_images.py

The bytes are decoded in threads while the model works; the damaged image ends in a table of its own, with the reason.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

import iceblink as ib
from iceblink import _
from iceblink.media import images

lake = ib.connect()  # ./lakehouse

# 1,797 handwritten digits of 8 x 8 pixels; every other one is for training
digits = load_digits()
pixels = (digits.images * 15).astype(np.uint8)
train, test = slice(0, None, 2), slice(1, None, 2)

# land the test images as files would come: bytes, and one of them cut short
tensor = pa.FixedShapeTensorArray.from_numpy_ndarray(pixels[test])
landed = lake.from_arrow(pa.table({"id": range(len(tensor)), "digit": digits.target[test], "image": tensor}))
rows = landed.map_batches(images.Encode("image", to="png")).to_pylist()
rows[100]["png"] = rows[100]["png"][:50]
lake.write("digits.files", rows, "replace")


class Classify:
    """A small model; a real one loads its weights here."""

    def __init__(self) -> None:
        self.model = LogisticRegression(max_iter=500).fit(pixels[train].reshape(-1, 64) / 255, digits.target[train])

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        flat = batch["image"].reshape(-1, 64) / 255
        return {"id": batch["id"], "digit": batch["digit"], "guess": self.model.predict(flat)}


guesses = (
    lake.table("digits.files")
    .map_batches(
        images.Decode("png", size=(8, 8), mode="L"), workers=2, on_error="quarantine", quarantine="digits.damaged"
    )
    .map_batches(Classify, batch_format="numpy", batch_size=64, schema={"id": "long", "digit": "long", "guess": "long"})
)
guesses.write("digits.guesses", "replace")

print(guesses.stats())
lake.table("digits.guesses").agg(images=_.count(), right=(_.digit == _.guess).mean().round(3)).show()
lake.table("digits.damaged").select("id", "iceblink_error").show()
