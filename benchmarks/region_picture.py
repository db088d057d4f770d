"""`python -m benchmarks.region_picture`: the picture of docs/regions.md, which takes seconds.

An astronaut's portrait, coarse labels as `lpprop demo` makes them, and what a vote in regions of
colour adds to them and behind refiners.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from skimage import data

import lpprop
from lpprop.backbones import EfficientNetLite0, class_groups
from lpprop.cli.demo_picture import DEMO_CLASSES
from lpprop.comparison import Row
from lpprop.io.images import save_image

FILE = Path(__file__).parents[1] / "docs" / "images" / "regions.png"
METHODS = {
    "bilinear": "bilinear",
    "region_vote": "region_vote",
    "auto": "auto",
    "lposs+regions": "lposs+regions",
}


def draw() -> None:
    image = torch.from_numpy(np.array(data.astronaut())).movedim(-1, 0)[None] / 255
    seen = EfficientNetLite0()(image, DEMO_CLASSES)
    assert seen.logits is not None
    comparison = lpprop.compare(
        seen.logits, seen.feats, image, methods=METHODS, regions="felzenszwalb", repeats=1,
        class_names=class_groups(DEMO_CLASSES).class_names,
    )  # fmt: skip
    bare = replace(comparison, rows=[Row(row.method) for row in comparison.rows])
    figure = bare.figure(columns=3, side=220)
    save_image(FILE, figure.quantize(192, kmeans=3, dither=Image.Dither.NONE))


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    draw()
