"""Groups of images that belong together, such as the frames of a video, and folds made of them.

Neighbouring frames are nearly copies. A method that is tuned on one and tested on the other is
tested on what it has seen; so a video is never divided among folds, unless there is only one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Sequence
from itertools import pairwise
from pathlib import PurePath
from typing import Any, NamedTuple

from lpprop._core.errors import InputError
from lpprop._core.options import check_integer, is_listed
from lpprop._core.text import printable
from lpprop.evaluation.datasets.dataset import SUFFIXES
from lpprop.evaluation.task import Samples

__all__ = ["Fold", "describe_groups", "find_groups", "guess_groups", "make_folds"]

#: Benchmarks of photographs, whose names are numbers although nothing connects neighbours.
_PHOTOGRAPHS = ("voc21", "voc20", "context60", "context59", "coco-object", "coco-stuff", "ade20k")

_FRAME = re.compile(r"^(?P<video>.*?)[ _.-]*(?:f|fr|frame|img|image)?[ _.-]*\d+$", re.IGNORECASE)

#: The folds if their number is not given: that many groups at most, or blocks of a single video.
_FOLDS, _BLOCKS, _LEAST = 5, 4, 3


class Fold(NamedTuple):
    """The images that are held out together, and those to tune on meanwhile, by their indices."""

    held: tuple[int, ...]
    rest: tuple[int, ...]


def find_groups(dataset: Samples, names: Sequence[str], groups: object = None) -> list[str]:
    """Return the group of each sample.

    Args:
        dataset: the samples.
        names: their names.
        groups: a list of labels, one per sample; a function from a sample to its label; or None
            to guess them from the names. Benchmarks of photographs are not guessed: each image is
            a group of its own.

    Raises:
        InputError: anything else, or a list of another length.
    """
    if groups is None:
        photographs = dataset.name in _PHOTOGRAPHS
        return list(names) if photographs else guess_groups(names)
    if callable(groups):
        label: Callable[[Any], Hashable] = groups
        return [str(label(dataset[index])) for index in range(len(dataset))]
    if not is_listed(groups) or len(groups) != len(names):
        raise InputError.of(
            "groups",
            got=f"{len(groups)} labels" if is_listed(groups) else repr(groups)[:200],
            expected=f"a label for each of {len(names)} samples, or a function of a sample",
            fix="Name the video of each sample, or leave groups out to guess it from the names.",
        )
    return [str(group) for group in groups]


def guess_groups(names: Sequence[str]) -> list[str]:
    """Guess from names which images are frames of one video: names that are alike but for a number.

    >>> guess_groups(["0006R0_f00930.png", "0006R0_f01050.png", "0016E5_00390.png", "cat.png"])
    ['0006R0', '0006R0', '0016E5_00390', 'cat']
    >>> guess_groups(["aachen_000000_000019", "aachen_000000_000020", "ulm_000003_000019"])
    ['aachen_000000', 'aachen_000000', 'ulm_000003_000019']
    """
    stems = [_stem(name) for name in names]
    found = [_FRAME.match(stem) for stem in stems]
    videos = [None if match is None else match["video"] for match in found]
    return [
        stem if video is None or videos.count(video) == 1 else video or "numbered"
        for stem, video in zip(stems, videos, strict=True)
    ]


def make_folds(groups: Sequence[str], names: Sequence[str], folds: int | None = None) -> list[Fold]:
    """Divide images into folds by groups; the largest group first, each into the smallest fold.

    A single group is a video: its folds are runs of consecutive frames, in the order of the names,
    and the frames on each side of the held-out ones are not tuned on, a quarter of a run, but one
    at least.

    Args:
        groups: the group of each image.
        names: the name of each image.
        folds: their number; if None 5, or as many as there are groups; 4 of a single video.

    Raises:
        InputError: too few images or groups for the folds.

    >>> make_folds(["a", "a", "b"], ["1", "2", "3"])
    [Fold(held=(0, 1), rest=(2,)), Fold(held=(2,), rest=(0, 1))]
    >>> make_folds(["a"] * 6, list("123456"), folds=2)[0]
    Fold(held=(0, 1, 2), rest=(4, 5))
    """
    members: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    single = len(members) == 1
    most = len(groups) // 2 if single else len(members)
    if most < 2:
        raise InputError.of(
            "groups",
            got="a single image" if len(groups) == 1 else f"{len(groups)} images of one group",
            expected="two groups, or four images of one video",
            fix="Label more images, or name the groups by groups= if these do not belong together.",
        )
    if folds is None:
        folds = max(2, min(_BLOCKS, most * 2 // _LEAST)) if single else min(_FOLDS, most)
    folds = check_integer("folds", folds, low=2)
    if folds > most:
        raise InputError.of(
            "folds",
            got=f"{folds} of {len(groups)} images in {len(members)} groups",
            expected="a group per fold, or two frames where there is a single group",
            fix="Add images, ask for fewer folds, or name the groups by groups=.",
        )
    if single:
        return _make_blocks(names, folds)
    held: list[list[int]] = [[] for _ in range(folds)]
    for listed in sorted(members.values(), key=len, reverse=True):  # stable: the first comes first
        min(held, key=len).extend(listed)
    return [
        Fold(tuple(sorted(own)), tuple(i for i in range(len(groups)) if i not in own))
        for own in held
    ]


def describe_groups(groups: Sequence[str], folds: Sequence[Fold]) -> str:
    """Say how images were grouped.

    >>> groups = ["a", "a", "b"]
    >>> print(describe_groups(groups, make_folds(groups, ["1", "2", "3"])))
    2 folds of 2 groups, each group in one fold: a (2 images), b (1).
    """
    names = list(dict.fromkeys(groups))
    if len(names) == len(groups):
        return f"{len(folds)} folds; each of the {len(groups)} images is a group of its own."
    if len(names) == 1:
        left_out = max(len(groups) - len(one.held) - len(one.rest) for one in folds)
        return (
            f"{len(folds)} folds of consecutive images of one group, {printable(names[0])}; up to "
            f"{left_out} beside the held-out ones are not tuned on."
        )
    counts = [f"{printable(name)} ({groups.count(name)})" for name in names[:6]]
    counts[0] = counts[0].replace(")", " image)" if groups.count(names[0]) == 1 else " images)")
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    return (
        f"{len(folds)} folds of {len(names)} groups, each group in one fold: "
        f"{', '.join(counts)}{more}."
    )


def _make_blocks(names: Sequence[str], folds: int) -> list[Fold]:
    order = sorted(range(len(names)), key=lambda index: _natural(names[index]))
    edges = [round(fold * len(order) / folds) for fold in range(folds + 1)]
    gap = max(1, len(order) // folds // 4)
    return [
        Fold(
            tuple(sorted(order[low:high])),
            tuple(sorted(order[: max(0, low - gap)] + order[high + gap :])),
        )
        for low, high in pairwise(edges)
    ]


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts numbers by their size: frame 9 before frame 10."""
    parts = re.split(r"(\d+)", _stem(name))
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _stem(name: str) -> str:
    path = PurePath(name)
    return str(path.with_suffix("")) if path.suffix.lower() in SUFFIXES else name
