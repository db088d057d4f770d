"""Intervals of a pooled metric, and of the difference of two methods, by a bootstrap over images.

    from lpprop.evaluation import bootstrap, difference
    bootstrap(report["lposs+"], groups=videos)
    difference(report["bilinear"], report["lposs+"], groups=videos)

Frames of one video are alike: drawn one by one, neighbours would count as more evidence than they
are. So blocks of consecutive frames are drawn, each video's from that video (the circular block
bootstrap of Politis and Romano, 1992). An interval speaks of scenes like these: with two videos it
does not know how much a third one would differ.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from lpprop._core.errors import InputError
from lpprop._core.options import check_choice, check_integer, is_listed
from lpprop.evaluation.metrics import SegmentationMetrics
from lpprop.evaluation.results import Result

__all__ = [
    "METRICS",
    "Difference",
    "Interval",
    "bootstrap",
    "difference",
    "draw_images",
    "mean_ratio",
    "overlaps",
    "pooled_mean",
]

#: The metrics that are means over classes of a ratio of counts, which sum over images.
METRICS = ("miou", "boundary_iou")

#: The most consecutive frames that are drawn together, and the number of draws.
_BLOCK, _DRAWS = 6, 2000

Images = Result | Sequence[SegmentationMetrics]


class Interval(NamedTuple):
    """A pooled metric in [0, 1], and its 95 % interval."""

    value: float
    low: float
    high: float


class Difference(NamedTuple):
    """A gain of the pooled metric, in [-1, 1], with its 95 % interval.

    Attributes:
        gain: the metric after minus the metric before.
        low: lower bound.
        high: upper bound.
        better: number of images whose own metric rises.
    """

    gain: float
    low: float
    high: float
    better: int


def bootstrap(
    images: Images,
    groups: Sequence[Hashable] | None = None,
    *,
    metric: str = "miou",
    draws: int = _DRAWS,
    block: int | None = None,
    seed: int = 0,
) -> Interval:
    """Compute a pooled metric, and its 95 % interval over draws of the images.

    Args:
        images: a result of a report, or the metrics of each image.
        groups: the video of each image, in the order of the images; those of one video count as
            consecutive. Each image stands for itself if None.
        metric: "miou" or "boundary_iou".
        draws: number of draws.
        block: number of consecutive images that are drawn together; if None a quarter of a video,
            from 1 to 6.
        seed: of the draws.

    Raises:
        InputError: groups that do not fit the images, or an option out of range.

    >>> rng = np.random.default_rng(0)
    >>> gt = rng.integers(0, 2, (8, 6, 6))
    >>> labels = np.where(rng.random(gt.shape) < 0.2, 1 - gt, gt)
    >>> alone = [SegmentationMetrics(2).update(*maps) for maps in zip(labels, gt, strict=True)]
    >>> [round(number, 2) for number in bootstrap(alone)]
    [0.65, 0.6, 0.7]
    """
    part, whole = overlaps(images, metric)
    weights = draw_images(_as_groups(groups, len(part)), draws=draws, block=block, seed=seed)
    return interval_of(part, whole, weights)


def difference(
    before: Images,
    after: Images,
    groups: Sequence[Hashable] | None = None,
    *,
    metric: str = "miou",
    draws: int = _DRAWS,
    block: int | None = None,
    seed: int = 0,
) -> Difference:
    """Compare two methods on the same images: both are pooled over the same draws.

    Args:
        before: the one method's result, or its metrics of each image.
        after: the other's, of the same images in the same order.
        groups: as for `bootstrap`, like all other options.
        metric: "miou" or "boundary_iou".
        draws: number of draws.
        block: number of consecutive images that are drawn together.
        seed: of the draws.

    Raises:
        InputError: different numbers of images; or as `bootstrap` raises it.

    >>> gt = np.random.default_rng(0).integers(0, 2, (8, 6, 6))
    >>> true, shifted = (
    ...     [SegmentationMetrics(2).update(np.roll(one, by, 1), one) for one in gt] for by in (0, 1)
    ... )
    >>> found = difference(shifted, true)
    >>> found.low > 0.5, found.better
    (True, 8)
    """
    pairs = overlaps(before, metric), overlaps(after, metric)
    if pairs[0][0].shape != pairs[1][0].shape:
        raise InputError.of(
            "after",
            got=f"{len(pairs[1][0])} images of {pairs[1][0].shape[1]} classes",
            expected=f"{len(pairs[0][0])} of {pairs[0][0].shape[1]}, as before",
            fix="Compare two methods on the same images.",
        )
    groups = _as_groups(groups, len(pairs[0][0]))
    return difference_of(*pairs, draw_images(groups, draws=draws, block=block, seed=seed))


def interval_of(
    part: Int[np.ndarray, "images C"],
    whole: Int[np.ndarray, "images C"],
    weights: Int[np.ndarray, "draws images"],
) -> Interval:
    """Compute the interval of counts; see `bootstrap`."""
    once = np.ones((1, len(part)), dtype=np.int64)
    return Interval(
        float(pooled_mean(part, whole, once)[0]), *_bounds(pooled_mean(part, whole, weights))
    )


def difference_of(
    before: tuple[Int[np.ndarray, "images C"], Int[np.ndarray, "images C"]],
    after: tuple[Int[np.ndarray, "images C"], Int[np.ndarray, "images C"]],
    weights: Int[np.ndarray, "draws images"],
) -> Difference:
    """Compare two pairs of counts; see `difference`."""
    gains = pooled_mean(*after, weights) - pooled_mean(*before, weights)
    once = np.ones((1, len(before[0])), dtype=np.int64)
    gain = pooled_mean(*after, once) - pooled_mean(*before, once)
    better = int((mean_ratio(*after) > mean_ratio(*before)).sum())
    return Difference(float(gain[0]), *_bounds(gains), better)


def draw_images(
    groups: Sequence[Hashable], *, draws: int = _DRAWS, block: int | None = None, seed: int = 0
) -> Int[np.ndarray, "draws images"]:
    """Draw images, and count how often each is drawn.

    The images of a group are drawn from that group, in blocks of consecutive ones; images that are
    alone in their group are drawn among themselves, one by one.

    Args:
        groups: the group of each image.
        draws: number of draws.
        block: number of images that are drawn together; if None a quarter of a group, from 1 to 6.
        seed: of the draws.

    Raises:
        InputError: an option out of range.

    >>> draw_images(["a", "a", "a", "b", "b"], draws=50)[:, :3].sum(1).tolist() == [3] * 50
    True
    """
    draws = check_integer("draws", draws)
    block = None if block is None else check_integer("block", block)
    members: dict[Hashable, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    alone = [listed[0] for listed in members.values() if len(listed) == 1]
    strata = [(listed, block) for listed in members.values() if len(listed) > 1]
    random = np.random.default_rng(seed)
    weights = np.zeros((draws, len(groups)), dtype=np.int64)
    for listed, length in [*strata, *([(alone, 1)] if alone else [])]:
        count = len(listed)
        length = min(length or max(1, min(_BLOCK, count // 4)), count)
        first = random.integers(0, count, (draws, -(-count // length)))
        picked = ((first[..., None] + np.arange(length)) % count).reshape(draws, -1)[:, :count]
        weights[:, listed] = [np.bincount(one, minlength=count) for one in picked]
    return weights


def overlaps(
    images: Images, metric: str
) -> tuple[Int[np.ndarray, "images C"], Int[np.ndarray, "images C"]]:
    """Return the counts of each image and class whose ratio a metric is: its part and its whole."""
    metric = check_choice("metric", metric, METRICS)
    alone = [one.metrics for one in images.images] if isinstance(images, Result) else images
    if not is_listed(alone) or not all(isinstance(x, SegmentationMetrics) for x in alone):
        raise InputError.of(
            "images",
            got=type(images).__name__,
            expected="a result of a report, or SegmentationMetrics of each image",
            fix='Pass report["lposs+"].',
        )
    if not len(alone):
        raise InputError.of("images", got="none", expected="one or more", fix="Label some first.")
    if metric == "boundary_iou":
        pairs = [(one.boundary_intersection, one.boundary_union) for one in alone]
    else:
        pairs = [one.overlaps for one in alone]
    part, whole = (np.stack(counts) for counts in zip(*pairs, strict=True))
    return part, whole


def pooled_mean(
    part: Int[np.ndarray, "images C"],
    whole: Int[np.ndarray, "images C"],
    weights: Int[np.ndarray, "draws images"],
) -> Float[np.ndarray, " draws"]:
    """Pool the counts of each draw, and average the ratio over the classes that occur."""
    return mean_ratio(weights @ part, weights @ whole)


def mean_ratio(
    part: Int[np.ndarray, "rows C"], whole: Int[np.ndarray, "rows C"]
) -> Float[np.ndarray, " rows"]:
    """Average a ratio of counts over the classes that occur; NaN where none does."""
    there = whole > 0
    ratio = np.divide(part, whole, out=np.zeros(part.shape), where=there)
    count = there.sum(1)
    mean: Float[np.ndarray, " rows"] = np.divide(
        ratio.sum(1), count, out=np.full(len(part), np.nan), where=count > 0
    )
    return mean


def _bounds(values: Float[np.ndarray, " draws"]) -> tuple[float, float]:
    values = values[~np.isnan(values)]  # without draws in which no pixel counts
    if not len(values):
        return math.nan, math.nan
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def _as_groups(groups: object, images: int) -> Sequence[Hashable]:
    if groups is None:
        return range(images)
    if not is_listed(groups) or len(groups) != images:
        raise InputError.of(
            "groups",
            got=f"{len(groups)} labels" if is_listed(groups) else type(groups).__name__,
            expected=f"a list of {images}, one per image",
            fix="Name the video of each image, in the order of the images.",
        )
    return groups
