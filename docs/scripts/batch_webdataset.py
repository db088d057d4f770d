"""Segment a WebDataset shard into a shard of labels.

pip install webdataset
python docs/scripts/batch_webdataset.py
"""

from __future__ import annotations

import dataclasses
import io
import tempfile
from pathlib import Path

import numpy as np
import webdataset
from PIL import Image

import lpprop
from lpprop.models import RECIPES

# In practice shards that are there already.
folder = Path(tempfile.mkdtemp())
rng = np.random.default_rng(0)
with webdataset.TarWriter(str(folder / "images.tar")) as shard:
    for number, size in enumerate([(48, 64), (64, 48), (40, 40)]):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(file, "PNG")
        shard.write({"__key__": f"{number}", "png": file.getvalue()})

recipe = dataclasses.replace(RECIPES["offline"], shorter_side=64)
segment = lpprop.batch.Segment(["cat", "dog", "sofa"], recipe)

# The bytes go to the worker as they are, and are decoded there.
samples = webdataset.WebDataset(str(folder / "images.tar"), shardshuffle=False)
samples = samples.rename(image="png").map(segment.process)
done = {}
with webdataset.TarWriter(str(folder / "labels.tar")) as shard:
    for sample in samples:
        key, labels, error = sample["__key__"], sample["labels"], sample["error"]
        shard.write({"__key__": key, "labels.npy": labels, "error.txt": error})
        done[key] = labels.shape

print(done)
