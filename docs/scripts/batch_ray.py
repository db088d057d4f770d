"""Segment images with Ray Data: one actor per worker, which loads the models once.

pip install 'ray[data]'
python docs/scripts/batch_ray.py
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import ray
import ray.data
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

# In practice ray.init(address="auto"), on a cluster.
ray.init(num_cpus=2, include_dashboard=False, ignore_reinit_error=True)
recipe = dataclasses.replace(RECIPES["offline"], shorter_side=64)
paths = [str(path) for path in sorted(folder.glob("*.png"))]
rows = (
    ray.data.from_items([{"image": path, "path": path} for path in paths])
    # The class and its arguments, so that each actor makes one object: an object itself would be
    # pickled for each batch, and load its models each time. With GPUs, num_gpus=1.
    .map_batches(
        lpprop.batch.Segment,
        fn_constructor_args=[["cat", "dog", "sofa"], recipe],
        compute=ray.data.ActorPoolStrategy(size=1),
        batch_size=2,
    )
    .take_all()
)
for row in rows:
    print(Path(row["path"]).name, row["labels"].shape, row["error"] or "fine")
