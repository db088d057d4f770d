"""iSAID (Zamir et al., CVPR workshops 2019): objects in aerial images, 15 classes and background.

The images are those of DOTA 1.0. The folders are those of the authors' development kit; the
archives unpacked where they lie, with images and Semantic_masks apart; or the patches of 896 x 896
pixels that MMSegmentation's converter cuts, and that the literature evaluates. In the authors'
files a colour stands for a class, also in those called instance_color; in the patches, an index
does.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from lpprop.evaluation.datasets.benchmark import Benchmark, Found
from lpprop.evaluation.datasets.coloured import read_colours
from lpprop.evaluation.datasets.labels import kept, read_map
from lpprop.evaluation.datasets.layout import find_root, list_files, list_folders, pair_files
from lpprop.viz.palettes import colours

__all__ = ["ISAID"]

_LAYOUT = """
iSAID/
  {split}/images/P*.png
  {split}/images/P*_instance_color_RGB.png (or {split}/Semantic_masks/images/P*...)
or, as MMSegmentation cuts it into patches,
iSAID/
  img_dir/{split}/P*.png
  ann_dir/{split}/P*_instance_color_RGB.png
"""
_INSIDE = ("iSAID", "iSAID_patches")
_MASK = "_instance_color_RGB.png"
_OTHERS = ("_instance_color_RGB", "_instance_id_RGB")


def _find(root: Path, split: str, layout: str) -> Found:
    patches = (f"img_dir/{split}", f"ann_dir/{split}")
    homes = (root, *(root / folder for folder in _INSIDE))
    if any((home / patches[0]).is_dir() for home in homes):
        home = find_root(root, _INSIDE, patches, layout)
        images = list_files(home / patches[0], ".png")
        files = pair_files(images, images, list_files(home / patches[1], _MASK))
        return Found(files, partial(read_map, known=kept(16)), f"{patches[1]}/*{_MASK}")
    home = find_root(root, _INSIDE, (f"{split}/images",), layout)
    # The archives have a folder "images" inside.
    places = [home / split / inside for inside in ("images", "images/images")]
    masks = [*places, home / split / "Semantic_masks", home / split / "Semantic_masks/images"]
    found = list_folders([("", place) for place in places], ".png")
    images = {name: path for name, path in found.items() if not name.endswith(_OTHERS)}
    labels = list_folders([("", place) for place in masks], _MASK)
    files = pair_files(images, images, labels)
    return Found(files, read_colours(colours("isaid", 16)), f"{split}/*{_MASK}")


ISAID = Benchmark(
    name="isaid",
    title="iSAID val in patches of 896 x 896, 15 classes and background",
    class_list="isaid",
    find=_find,
    layout=_LAYOUT,
    split="val",
    size=11644,
    palette="isaid",
)
