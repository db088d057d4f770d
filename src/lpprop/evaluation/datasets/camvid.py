"""CamVid (Brostow et al., 2009) with the 11 classes of SegNet, 480 x 360, as grey label maps."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from lpprop.evaluation.datasets.benchmark import Benchmark, Found
from lpprop.evaluation.datasets.labels import kept, read_map
from lpprop.evaluation.datasets.layout import find_root, list_files, pair_files
from lpprop.evaluation.label_maps import IGNORED

__all__ = ["CAMVID"]

_LAYOUT = """
CamVid/
  {split}/*.png
  {split}annot/*.png (grey: 0 sky to 10 bicyclist, 11 unlabelled)
or, of one split alone,
camvid/
  images/*.png
  labels/*.png
"""


def _find(root: Path, split: str, layout: str) -> Found:
    homes = (root, root / "CamVid", root / "camvid")
    unnamed = any((home / "images").is_dir() and (home / "labels").is_dir() for home in homes)
    # Folders without a split's name are taken for the split that is evaluated.
    whole = unnamed and split == CAMVID.split
    needs = ("images", "labels") if whole else (split, f"{split}annot")
    home = find_root(root, ("CamVid", "camvid"), needs, layout)
    images = list_files(home / needs[0], ".png")
    files = pair_files(images, images, list_files(home / needs[1], ".png"))
    read = partial(read_map, known=kept(11, ignored=(11, IGNORED)))
    return Found(files, read, f"{needs[1]}/*.png")


CAMVID = Benchmark(
    name="camvid",
    title="CamVid val, 11 classes",
    class_list="camvid",
    find=_find,
    layout=_LAYOUT,
    split="val",
    size=101,
    palette="camvid",
)
