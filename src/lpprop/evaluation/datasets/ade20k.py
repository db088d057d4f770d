"""ADE20K as in the scene parsing challenge of 2016 (Zhou et al., CVPR 2017): 150 classes."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from lpprop.evaluation.datasets.benchmark import Benchmark, Found
from lpprop.evaluation.datasets.labels import read_map, reduced_zero
from lpprop.evaluation.datasets.layout import find_root, list_files, pair_files

__all__ = ["ADE20K"]

_LAYOUT = """
ADEChallengeData2016/
  images/{split}/*.jpg
  annotations/{split}/*.png
"""


def _find(root: Path, split: str, layout: str) -> Found:
    needs = (f"images/{split}", f"annotations/{split}")
    inside = ("ADEChallengeData2016", "ade/ADEChallengeData2016")
    home = find_root(root, inside, needs, layout)
    images = list_files(home / needs[0], ".jpg")
    files = pair_files(images, images, list_files(home / needs[1], ".png"))
    return Found(files, partial(read_map, known=reduced_zero(150)), f"{needs[1]}/*.png")


ADE20K = Benchmark(
    name="ade20k",
    title="ADE20K validation, 150 classes",
    class_list="ade20k",
    find=_find,
    layout=_LAYOUT,
    split="validation",
    size=2000,
    palette="ade20k",
)
