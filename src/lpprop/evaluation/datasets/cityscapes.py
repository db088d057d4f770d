"""Cityscapes (Cordts et al., CVPR 2016): street scenes, 19 evaluated classes."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from lpprop.evaluation.datasets.benchmark import Benchmark, Found
from lpprop.evaluation.datasets.labels import kept, read_map, table
from lpprop.evaluation.datasets.layout import find_root, list_folders, pair_files
from lpprop.evaluation.label_maps import IGNORED

__all__ = ["CITYSCAPES"]

_LAYOUT = """
cityscapes/
  leftImg8bit/{split}/CITY/*_leftImg8bit.png
  gtFine/{split}/CITY/*_gtFine_labelIds.png (or *_gtFine_labelTrainIds.png)
"""

# The label ids that are evaluated, in the order of the train ids 0 to 18. The others among 0 to 33
# (void, parking, rail track, guard rail, bridge, tunnel, polegroup, caravan, trailer) are ignored.
_EVALUATED = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
_LABEL_IDS = table(
    {stored: label for label, stored in enumerate(_EVALUATED)},
    ignored=(*sorted(set(range(34)) - set(_EVALUATED)), IGNORED),
)


def _find(root: Path, split: str, layout: str) -> Found:
    needs = (f"leftImg8bit/{split}", f"gtFine/{split}")
    home = find_root(root, ("cityscapes",), needs, layout)
    images = _in_cities(home / needs[0], "_leftImg8bit.png")
    labels = _in_cities(home / needs[1], "_gtFine_labelIds.png")
    kind, known = "labelIds", _LABEL_IDS
    trained = {} if labels else _in_cities(home / needs[1], "_gtFine_labelTrainIds.png")
    if trained:
        kind, known, labels = "labelTrainIds", kept(19), trained
    files = pair_files(images, images, labels)
    return Found(files, partial(read_map, known=known), f"gtFine/*_{kind}.png")


def _in_cities(folder: Path, suffix: str) -> dict[str, Path]:
    cities = sorted(path for path in folder.iterdir() if path.is_dir())
    return list_folders([("", city) for city in cities], suffix)


CITYSCAPES = Benchmark(
    name="cityscapes",
    title="Cityscapes val",
    class_list="cityscapes",
    find=_find,
    layout=_LAYOUT,
    split="val",
    size=500,
    palette="cityscapes",
)
