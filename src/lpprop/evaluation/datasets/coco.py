"""COCO (Lin et al., ECCV 2014) in two protocols: COCO-Stuff and COCO-Object.

COCO-Stuff (Caesar et al., CVPR 2018) labels every pixel. Its maps number things and stuff from 0 to
181, one less than COCO's ids, and 255 is unlabelled; 11 of the thing numbers have no images.
COCO-Object keeps the 80 things; all other pixels, also the unlabelled ones, are background.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from lpprop.evaluation.datasets.benchmark import Benchmark, Found
from lpprop.evaluation.datasets.instances import list_images, paint_instances
from lpprop.evaluation.datasets.labels import read_map, table
from lpprop.evaluation.datasets.layout import layout_error, list_files, pair_files
from lpprop.evaluation.label_maps import IGNORED

__all__ = ["COCO_OBJECT", "COCO_STUFF"]

# Ids that COCO set aside and never annotated: street sign, hat, shoe, eye glasses, plate, mirror,
# window, desk, door, blender, hair brush.
_UNUSED = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)
_IDS = tuple(number for number in range(1, 183) if number not in _UNUSED)
_OBJECTS = {number: label for label, number in enumerate(_IDS[:80], 1)}

_STUFF_MAPS = table({number - 1: label for label, number in enumerate(_IDS)})
_OBJECT_MAPS = table(
    {number - 1: 0 for number in _IDS}
    | {number - 1: label for number, label in _OBJECTS.items()}
    | {IGNORED: 0},
    ignored=(),
)

_LAYOUT = """
coco/
  images/{split}/*.jpg (or {split}/*.jpg)
  annotations/{split}/*.png (or stuffthingmaps/{split}/*.png)
"""
_OBJECT_LAYOUT = f"""{_LAYOUT.rstrip()}
or, in place of the maps,
  annotations/instances_{{split}}.json
"""


def _images(root: Path, split: str, layout: str) -> tuple[Path, dict[str, Path]]:
    """Find the data set's folder, and its images in either of two places."""
    for folder in ("images", "."):
        for home in (root, root / "coco", root / "coco_stuff164k"):
            if (home / folder / split).is_dir():
                return home, list_files(home / folder / split, ".jpg")
    raise layout_error(root, [f"images/{split}"], layout)


def _maps(home: Path, split: str) -> dict[str, Path]:
    """List the pixel maps, if there are any in either of two places."""
    for folder in ("annotations", "stuffthingmaps"):
        if (home / folder / split).is_dir():
            return list_files(home / folder / split, ".png")
    return {}


def _find_stuff(root: Path, split: str, layout: str) -> Found:
    home, images = _images(root, split, layout)
    maps = _maps(home, split)
    if not maps:
        raise layout_error(home, [f"annotations/{split}/*.png"], layout)
    read = partial(read_map, known=_STUFF_MAPS)
    return Found(pair_files(images, images, maps), read, "COCO-Stuff's pixel maps")


def _find_object(root: Path, split: str, layout: str) -> Found:
    home, images = _images(root, split, layout)
    maps = _maps(home, split)
    if maps:
        read = partial(read_map, known=_OBJECT_MAPS)
        files = pair_files(images, images, maps)
        return Found(files, read, "the things of COCO-Stuff's pixel maps")
    path = home / "annotations" / f"instances_{split}.json"
    if not path.is_file():
        raise layout_error(home, [f"annotations/{split}/*.png", f"annotations/{path.name}"], layout)
    files = pair_files(images, images, dict.fromkeys(list_images(path), path))
    paint = partial(paint_instances, classes=_OBJECTS)
    return Found(files, paint, "instance annotations, smaller ones on top")


COCO_OBJECT = Benchmark(
    name="coco-object",
    title="COCO-Object val2017: 80 things and background",
    class_list="coco_object",
    find=_find_object,
    layout=_OBJECT_LAYOUT,
    split="val2017",
    size=5000,
    background="coco-object",
)

COCO_STUFF = Benchmark(
    name="coco-stuff",
    title="COCO-Stuff 164k val2017",
    class_list="coco_stuff",
    find=_find_stuff,
    layout=_LAYOUT,
    split="val2017",
    size=5000,
)
