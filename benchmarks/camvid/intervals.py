"""Paired differences of two methods over frames of one drive, with bootstrap intervals."""

from functools import cache
from typing import NamedTuple

import numpy as np

from lpprop.evaluation.results import Result

DRAWS = 2000
BLOCK = 6  # consecutive frames that are drawn together


class Difference(NamedTuple):
    """A gain of the pooled metric in points, with its 95 % bootstrap interval."""

    gain: float
    low: float
    high: float
    better: int  # number of images whose own metric rises


@cache
def drawn_images(count: int, draws: int = DRAWS, block: int = BLOCK, seed: int = 0) -> np.ndarray:
    """Draw images by a circular block bootstrap: (draws, count) of how often each is drawn.

    Neighbouring frames are alike: drawn one by one, they would count as more evidence than they are
    (Politis and Romano, 1992).
    """
    draw = np.random.default_rng(seed)
    block = min(block, count)
    first = draw.integers(0, count, (draws, -(-count // block)))
    picked = ((first[..., None] + np.arange(block)) % count).reshape(draws, -1)[:, :count]
    return np.stack([np.bincount(one, minlength=count) for one in picked])


def pooled_miou(result: Result, weights: np.ndarray) -> np.ndarray:
    """The mIoU of each draw of images."""
    counts = np.stack([image.metrics.confusion for image in result.images])
    pooled = np.tensordot(weights, counts, 1)
    hits = np.diagonal(pooled, axis1=1, axis2=2)
    return mean_ratio(hits, pooled.sum(1) + pooled.sum(2) - hits)


def pooled_boundary(result: Result, weights: np.ndarray) -> np.ndarray:
    """The mean Boundary IoU of each draw of images."""
    metrics = [image.metrics for image in result.images]
    met = np.stack([one.boundary_intersection for one in metrics])
    either = np.stack([one.boundary_union for one in metrics])
    return mean_ratio(weights @ met, weights @ either)


def mean_ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """The mean over classes (..., C) of a ratio of counts, without classes that have none."""
    ratio = np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
    return np.nanmean(ratio, axis=1)


def difference(before: Result, after: Result, *, boundary: bool = False) -> Difference:
    """Compare two methods on the same images."""
    pooled = pooled_boundary if boundary else pooled_miou
    count = len(before.images)
    gains = pooled(after, drawn_images(count)) - pooled(before, drawn_images(count))
    once = np.ones((1, count), dtype=int)
    gain = pooled(after, once) - pooled(before, once)
    of_image = "image_boundary_iou" if boundary else "image_miou"
    better = int((getattr(after, of_image) > getattr(before, of_image)).sum())
    low, high = np.percentile(gains, [2.5, 97.5])
    return Difference(100 * float(gain[0]), 100 * float(low), 100 * float(high), better)
