"""UAVid (Lyu et al., ISPRS Journal 2020): frames of drone videos over streets, 8 classes.

The folders are those of the authors' download, or as their toolkit has them renamed; the colours of
the labels are those of the toolkit.
"""

from __future__ import annotations

from pathlib import Path

from lpprop.evaluation.datasets.benchmark import Benchmark, Found
from lpprop.evaluation.datasets.coloured import read_colours
from lpprop.evaluation.datasets.layout import layout_error, list_folders, pair_files
from lpprop.viz.palettes import colours

__all__ = ["UAVID"]

_LAYOUT = """
uavid_v1.5_official_release_image/ (or UAVid/)
  uavid_{split}/seq*/Images/*.png
  uavid_{split}/seq*/Labels/*.png (in colours)
or, as the authors' toolkit has it, with the folders train, valid and test
  valid/seq*/Images/*.png
  valid/seq*/Labels/*.png
"""
_INSIDE = ("uavid_v1.5_official_release_image", "UAVid", "uavid")


def _find(root: Path, split: str, layout: str) -> Found:
    folder = _split_folder(root, split, layout)
    sequences = sorted(
        path for path in folder.iterdir() if path.is_dir() and path.name.startswith("seq")
    )
    # Frames of several sequences have one name: 000000.png and so on.
    images, labels = (
        list_folders([(f"{path.name}_", path / kind) for path in sequences], ".png")
        for kind in ("Images", "Labels")
    )
    files = pair_files(images, images, labels)
    return Found(files, read_colours(colours("uavid", 8)), f"{folder.name}/*/Labels/*.png")


def _split_folder(root: Path, split: str, layout: str) -> Path:
    """Find the folder of a split, under the authors' name or that of their toolkit."""
    named = (f"uavid_{split}", *(["valid"] if split == "val" else []), split)
    for home in (root, *(root / folder for folder in _INSIDE)):
        for name in named:
            if (home / name).is_dir():
                return home / name
    raise layout_error(root, [named[0]], layout)


UAVID = Benchmark(
    name="uavid",
    title="UAVid val, 8 classes",
    class_list="uavid",
    find=_find,
    layout=_LAYOUT,
    split="val",
    size=70,
    palette="uavid",
)
