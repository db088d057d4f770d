"""PASCAL-Context (Mottaghi et al., CVPR 2014): VOC 2010 images, 59 classes and background."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from lpprop._core.errors import InputError
from lpprop.evaluation.datasets.benchmark import Benchmark, Found
from lpprop.evaluation.datasets.labels import convert, kept, read_map, reduced_zero, table
from lpprop.evaluation.datasets.layout import find_root, list_files, pair_files, read_list
from lpprop.evaluation.label_maps import IGNORED
from lpprop.io.files import refuse_damaged

__all__ = ["CONTEXT59", "CONTEXT60"]

_LAYOUT = """
VOC2010/
  JPEGImages/*.jpg
  SegmentationClassContext/*.png
  ImageSets/SegmentationContext/{split}.txt
or, as the authors publish it,
VOC2010/
  JPEGImages/*.jpg
  ImageSets/Main/{split}.txt
  trainval/*.mat
  labels.txt
"""
_INSIDE = ("VOC2010", "VOCdevkit/VOC2010")


def _read_mat(name: str, path: Path, *, known: Sequence[int]) -> UInt8[np.ndarray, "H W"]:
    """Read a .mat file of the authors, `LabelMap` (H, W) with the numbers of labels.txt."""
    from scipy.io import loadmat

    with refuse_damaged(path, "labels", "an undamaged MATLAB file with a LabelMap"):
        stored = np.asarray(loadmat(path, variable_names=["LabelMap"])["LabelMap"])
    if stored.ndim != 2 or stored.dtype.kind not in "uif" or (stored % 1 != 0).any():
        raise InputError.of(
            "labels",
            got=f"{path} with a LabelMap of shape {stored.shape} and type {stored.dtype}",
            expected="whole numbers (H, W)",
            fix="Download or unpack it again.",
        )
    return convert(stored.astype(np.int64), known, path)


def _read_numbers(path: Path) -> dict[str, int]:
    """Read labels.txt, with lines such as "2: aeroplane"; blanks in names are ignored."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    matches = [re.fullmatch(r"\s*(\d{1,4})\s*:\s*(\S.*?)\s*", line) for line in lines]
    return {match[2].replace(" ", ""): int(match[1]) for match in matches if match}


def _table_by_name(path: Path, background: bool) -> tuple[int, ...]:
    """Find the 59 classes by name among the 459 labels; all other labels are background."""
    numbers = _read_numbers(path)
    names = [name.replace(" ", "") for name in CONTEXT59.prompts]
    missing = [name for name in names if name not in numbers]
    if missing:
        raise InputError.of(
            "root",
            got=f"{path} without {', '.join(missing[:5])}",
            expected="a line such as '2: aeroplane' for each of the 459 labels",
            fix="Download it again from the page of PASCAL-Context.",
        )
    every = dict.fromkeys((0, *numbers.values()), 0 if background else IGNORED)
    mine = {numbers[name]: label for label, name in enumerate(names, int(background))}
    return table({**every, **mine}, ignored=(), size=max(every) + 1)


def _find(root: Path, split: str, layout: str, background: bool) -> Found:
    listed = f"ImageSets/SegmentationContext/{split}.txt"
    needs = ("JPEGImages", "SegmentationClassContext", listed)
    official = (f"ImageSets/Main/{split}.txt", "trainval", "labels.txt")
    homes = [root, *(root / folder for folder in _INSIDE)]
    converted = any((home / "SegmentationClassContext").is_dir() for home in homes)
    if not converted and any((home / "trainval").is_dir() for home in homes):
        home = find_root(root, _INSIDE, ("JPEGImages", *official), layout)
        names = read_list(home / official[0])
        labels = list_files(home / "trainval", ".mat")
        read = partial(_read_mat, known=_table_by_name(home / "labels.txt", background))
        files = pair_files(names, list_files(home / "JPEGImages", ".jpg"), labels)
        return Found(files, read, "trainval/*.mat, the 59 classes found by name in labels.txt")
    home = find_root(root, _INSIDE, needs, layout)
    files = pair_files(
        read_list(home / listed),
        list_files(home / "JPEGImages", ".jpg"),
        list_files(home / "SegmentationClassContext", ".png"),
    )
    known = kept(60) if background else reduced_zero(59)
    return Found(files, partial(read_map, known=known), "SegmentationClassContext/*.png")


CONTEXT60 = Benchmark(
    name="context60",
    title="PASCAL-Context val with background",
    class_list="context",
    find=partial(_find, background=True),
    layout=_LAYOUT,
    split="val",
    size=5104,
    background="context",
)

CONTEXT59 = Benchmark(
    name="context59",
    title="PASCAL-Context val, background ignored",
    class_list="context",
    find=partial(_find, background=False),
    layout=_LAYOUT,
    split="val",
    size=5104,
)
