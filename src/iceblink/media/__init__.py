"""Building blocks for `Dataset.map_batches`: files fetched, images and audio decoded, each with its schema declared.

>>> from iceblink.media import audio, files, images
>>> ds.map_batches(files.Download("url")).map_batches(images.Decode("bytes", size=(224, 224)))  # doctest: +SKIP

They are ordinary callables: each may be called with a RecordBatch, and gives RecordBatches of about 8 MiB. The extra
``iceblink[media]`` installs what they use.
"""

from __future__ import annotations

from iceblink.media import audio, files, images

__all__ = ["audio", "files", "images"]
