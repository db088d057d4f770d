"""Segment a data set of Hugging Face's `datasets` in two processes.

pip install datasets
python docs/scripts/batch_datasets.py
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import datasets
import numpy as np
from PIL import Image

import lpprop
from lpprop.models import RECIPES


def main() -> datasets.Dataset:
    """Make a data set, and map it."""
    # In practice datasets.load_dataset(...), or the files of a folder.
    folder = Path(tempfile.mkdtemp())
    rng = np.random.default_rng(0)
    for number, size in enumerate([(48, 64), (64, 48), (40, 40), (48, 48)]):
        pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    paths = [str(path) for path in sorted(folder.glob("*.png"))]
    images = datasets.Dataset.from_dict({"image": paths, "number": range(4)})
    images = images.cast_column("image", datasets.Image())

    recipe = dataclasses.replace(RECIPES["offline"], shorter_side=64)
    segment = lpprop.batch.Segment(["cat", "dog", "sofa"], recipe)
    # with_rank tells each process its number, by which it picks a GPU.
    labelled: datasets.Dataset = images.map(
        segment, batched=True, batch_size=2, num_proc=2, with_rank=True, remove_columns=["image"]
    )
    return labelled


# Where processes are started by "spawn", as CUDA asks for, each of them reads this file.
if __name__ == "__main__":
    labelled = main()
    for row in labelled.with_format("numpy"):
        print(row["number"], row["labels"].shape, row["error"] or "fine")
