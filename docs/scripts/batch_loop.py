"""Segment a folder of images in a plain loop; one that is damaged costs no other one.

python docs/scripts/batch_loop.py
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import lpprop
from lpprop.models import RECIPES

# In practice your photographs.
folder = Path(tempfile.mkdtemp())
rng = np.random.default_rng(0)
for number, size in enumerate([(48, 64), (64, 48), (40, 40)]):
    pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / f"{number}.png")
(folder / "3.png").write_bytes(b"cut off")

# In practice the recipe "clip-dino", with the shorter side that it has.
recipe = dataclasses.replace(RECIPES["offline"], shorter_side=64)
segment = lpprop.batch.Segment(["cat", "dog", "sofa"], recipe)

paths = sorted(folder.glob("*.png"))
done, failed = {}, {}
for start in range(0, len(paths), 2):
    out = segment({"image": paths[start : start + 2], "path": paths[start : start + 2]})
    for path, labels, error in zip(out["path"], out["labels"], out["error"], strict=True):
        if error:
            failed[path.name] = error
        else:
            np.save(path.with_suffix(".npy"), labels)
            done[path.name] = labels.shape

print(done)
print(failed)
