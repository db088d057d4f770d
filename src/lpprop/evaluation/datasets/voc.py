"""PASCAL VOC 2012 (Everingham et al., IJCV 2010), with and without its background class."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from lpprop.evaluation.datasets.benchmark import Benchmark, Found
from lpprop.evaluation.datasets.labels import kept, read_map, reduced_zero
from lpprop.evaluation.datasets.layout import find_root, list_files, pair_files, read_list

__all__ = ["VOC20", "VOC21"]

_LAYOUT = """
VOC2012/
  JPEGImages/*.jpg
  SegmentationClass/*.png
  ImageSets/Segmentation/{split}.txt
"""


def _find(root: Path, split: str, layout: str, known: tuple[int, ...]) -> Found:
    listed = f"ImageSets/Segmentation/{split}.txt"
    needs = ("JPEGImages", "SegmentationClass", listed)
    home = find_root(root, ("VOC2012", "VOCdevkit/VOC2012"), needs, layout)
    files = pair_files(
        read_list(home / listed),
        list_files(home / "JPEGImages", ".jpg"),
        list_files(home / "SegmentationClass", ".png"),
    )
    return Found(files, partial(read_map, known=known), "SegmentationClass/*.png")


VOC21 = Benchmark(
    name="voc21",
    title="PASCAL VOC 2012 val with background",
    class_list="voc",
    find=partial(_find, known=kept(21)),
    layout=_LAYOUT,
    split="val",
    size=1449,
    background="voc",
    palette="voc",
)

VOC20 = Benchmark(
    name="voc20",
    title="PASCAL VOC 2012 val, background ignored",
    class_list="voc",
    find=partial(_find, known=reduced_zero(20)),
    layout=_LAYOUT,
    split="val",
    size=1449,
    palette="voc",
    colour=1,
)
