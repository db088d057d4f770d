"""Paired differences of two methods over frames of one drive, in points."""

import numpy as np

from lpprop.evaluation.intervals import Difference, draw_images, mean_ratio, overlaps, pooled_mean
from lpprop.evaluation.intervals import difference as share_difference
from lpprop.evaluation.results import Result

__all__ = [
    "Difference",
    "difference",
    "drawn_images",
    "mean_ratio",
    "pooled_boundary",
    "pooled_miou",
]

DRAWS = 2000
BLOCK = 6  # consecutive frames that are drawn together


def drawn_images(count: int, draws: int = DRAWS, block: int = BLOCK, seed: int = 0) -> np.ndarray:
    """Draw blocks of frames of one drive: (draws, count) of how often each is drawn."""
    return draw_images(_drive(count), draws=draws, block=block, seed=seed)


def pooled_miou(result: Result, weights: np.ndarray) -> np.ndarray:
    """The mIoU of each draw of images."""
    return pooled_mean(*overlaps(result, "miou"), weights)


def pooled_boundary(result: Result, weights: np.ndarray) -> np.ndarray:
    """The mean Boundary IoU of each draw of images."""
    return pooled_mean(*overlaps(result, "boundary_iou"), weights)


def difference(before: Result, after: Result, *, boundary: bool = False) -> Difference:
    """Compare two methods on the same images, in points."""
    metric = "boundary_iou" if boundary else "miou"
    drive = _drive(len(before.images))
    found = share_difference(before, after, drive, metric=metric, draws=DRAWS, block=BLOCK)
    return Difference(100 * found.gain, 100 * found.low, 100 * found.high, found.better)


def _drive(count: int) -> list[str]:
    return ["drive"] * count
