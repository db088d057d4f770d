"""LoveDA (Wang et al., NeurIPS 2021, data sets track): land cover from the air, 7 classes.

The folders are those of the authors' archives, Train.zip and Val.zip, or what MMSegmentation's
converter makes of them: both areas in one folder.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from lpprop.evaluation.datasets.benchmark import Benchmark, Found
from lpprop.evaluation.datasets.labels import read_map, reduced_zero
from lpprop.evaluation.datasets.layout import find_root, list_folders, pair_files

__all__ = ["LOVEDA"]

_LAYOUT = """
LoveDA/
  {split}/Rural/images_png/*.png
  {split}/Rural/masks_png/*.png
  {split}/Urban/images_png/*.png
  {split}/Urban/masks_png/*.png
or, as MMSegmentation converts it, with splits in lower case,
loveDA/
  img_dir/{split}/*.png
  ann_dir/{split}/*.png
"""
_INSIDE = ("LoveDA", "loveDA")


def _find(root: Path, split: str, layout: str) -> Found:
    converted = (f"img_dir/{split.lower()}", f"ann_dir/{split.lower()}")
    homes = (root, *(root / folder for folder in _INSIDE))
    if any((home / converted[0]).is_dir() for home in homes):
        home = find_root(root, _INSIDE, converted, layout)
        images, labels = (list_folders([("", home / folder)], ".png") for folder in converted)
        source = f"{converted[1]}/*.png"
    else:
        areas = tuple(f"{split}/{area}" for area in ("Rural", "Urban"))
        needs = [f"{area}/{kind}" for area in areas for kind in ("images_png", "masks_png")]
        home = find_root(root, _INSIDE, needs, layout)
        # The numbers of the files are unique in a split, across both areas.
        images, labels = (
            list_folders([("", home / area / kind) for area in areas], ".png")
            for kind in ("images_png", "masks_png")
        )
        source = f"{split}/*/masks_png/*.png"
    return Found(
        pair_files(images, images, labels), partial(read_map, known=reduced_zero(7)), source
    )


LOVEDA = Benchmark(
    name="loveda",
    title="LoveDA Val, 7 classes",
    class_list="loveda",
    find=_find,
    layout=_LAYOUT,
    split="Val",
    size=1669,
    palette="loveda",
)
