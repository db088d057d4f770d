"""The picture: labels of consecutive frames, refined one by one and together."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lpprop.viz.palettes import colours
from lpprop.viz.sheets import Cell, sheet

from ..transformer.scenes import CLASSES
from .study import BILINEAR, MANY, SETTINGS, Clip

START, SHOWN, SIZE = "DINOv2 prototypes, 4", slice(9, 13), (320, 240)
NAMES = (
    "sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian",
    "bicyclist",
)  # fmt: skip
COLUMNS = {"LPOSS, T = 1": 1, "LPOSS, T = 3": 3, "LPOSS, T = 5": 5}


def draw(clip: Clip, file: Path) -> None:
    """Write a column per method and a row per frame; labels alone, since images are others'."""
    logits = clip.logits(START)
    made: dict[str, Sequence[Any]] = {"true labels": [view.picture.gt for view in clip.views]}
    made[BILINEAR] = clip.upsample(logits)
    for name, window in COLUMNS.items():
        made[name] = clip.refine(logits, window, **SETTINGS[MANY])
    cells = [
        Cell(
            name, [_picture(x) for x in labels[SHOWN]], f"{100 * clip.changes(labels):.1f} % change"
        )
        for name, labels in made.items()
    ]
    keys = [
        (name, _rgb(colour)) for name, colour in zip(NAMES, colours("camvid", CLASSES), strict=True)
    ]
    page = sheet(cells, [keys], "four frames in a row, 0.27 s apart", columns=5, unit=9)
    page.save(file, "WEBP", quality=80, method=6)


def _picture(labels: Any) -> Image.Image:
    palette = colours("camvid", CLASSES, background=True)  # unlabelled pixels are the last
    drawn = Image.fromarray(palette[np.minimum(np.asarray(labels), CLASSES)])
    return drawn.resize(SIZE, Image.Resampling.NEAREST)


def _rgb(colour: Any) -> tuple[int, int, int]:
    red, green, blue = colour.tolist()
    return red, green, blue
