"""Clicks as a user may set them: at random inside the classes, or where the result is worst."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ..transformer.scenes import IGNORED

SMALLEST = 0.005  # of the pixels: nobody clicks on a class that has fewer
MARGIN = 4  # pixels from a border, where the class is wide enough
Labels = npt.NDArray[np.uint8]


class Clicked(NamedTuple):
    """Row, column and class of each click, the classes numbered as in `shown`."""

    points: list[tuple[int, int]]
    labels: list[int]


def shown(gt: Labels) -> list[int]:
    """The classes of a picture that are clicked on."""
    sizes = np.bincount(gt.ravel(), minlength=256)[:IGNORED]
    return [int(x) for x in np.flatnonzero(sizes >= SMALLEST * gt.size)]


def at_random(gt: Labels, n: int, rng: np.random.Generator) -> Clicked:
    """`n` clicks on each class, away from its borders."""
    points, labels = [], []
    for number, value in enumerate(shown(gt)):
        depth = _depth(gt == value)
        inside = np.argwhere(depth >= min(MARGIN, depth.max()))
        chosen = inside[rng.choice(len(inside), n, replace=len(inside) < n)]
        points += [(int(r), int(c)) for r, c in chosen]
        labels += [number] * n
    return Clicked(points, labels)


def centres(gt: Labels) -> Clicked:
    """One click per class, in the middle of where it is widest."""
    found = [_middle(gt == value) for value in shown(gt)]
    return Clicked(found, list(range(len(found))))


def corrected(before: Clicked, gt: Labels, predicted: npt.NDArray[np.int64]) -> Clicked:
    """One more click, in the middle of the largest connected error, with its true class."""
    classes = shown(gt)
    worst: tuple[int, npt.NDArray[np.bool_] | None, int] = (0, None, 0)
    for number, value in enumerate(classes):
        pieces, _ = ndimage.label((gt == value) & (predicted != number))
        sizes = np.bincount(pieces.ravel())[1:]
        if len(sizes) and sizes.max() > worst[0]:
            worst = int(sizes.max()), pieces == 1 + sizes.argmax(), number
    if worst[1] is None:
        return before
    return Clicked([*before.points, _middle(worst[1])], [*before.labels, worst[2]])


def score(gt: Labels, predicted: npt.NDArray[np.int64]) -> float:
    """Mean IoU over the clicked classes of one picture."""
    counted = gt != IGNORED
    ious: Sequence[float] = [
        float(((gt == value) & mine).sum() / ((gt == value) | (mine & counted)).sum())
        for number, value in enumerate(shown(gt))
        for mine in [predicted == number]
    ]
    return float(np.mean(ious))


def _depth(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """How far each pixel of a mask is from the mask's and the image's edge."""
    found: npt.NDArray[np.float64] = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    return found


def _middle(mask: npt.NDArray[np.bool_]) -> tuple[int, int]:
    row, column = np.unravel_index(_depth(mask).argmax(), mask.shape)
    return int(row), int(column)
