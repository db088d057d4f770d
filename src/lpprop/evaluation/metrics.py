"""Metrics of segmentation: IoU from pooled confusion, and Boundary IoU.

    metrics = SegmentationMetrics(classes=21)
    for labels, gt in results:
        alone = metrics.update(labels, gt)      # the metrics of this image
    metrics.miou, metrics.mean_boundary_iou, alone.miou

All counts are integers, so that sums do not depend on their order or on the number of processes.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from lpprop._core.errors import InputError
from lpprop._core.label_maps import check_ignore_index
from lpprop._core.options import check_boolean, check_integer, check_number
from lpprop.evaluation.counts import (
    boundary_counts,
    checked_maps,
    confusion_matrix,
    count_boundaries,
    count_pairs,
)
from lpprop.evaluation.label_maps import IGNORED

if TYPE_CHECKING:
    import numpy.typing as npt

    from lpprop.evaluation.label_maps import ArrayLike

__all__ = ["SegmentationMetrics", "boundary_counts", "confusion_matrix"]


class SegmentationMetrics:
    """Accumulate the counts of images, and compute the metrics from them.

    For each class c, with n_ij the pixels of true class i that are labelled j, summed over images:

        IoU_c = n_cc / (Σ_j n_cj + Σ_i n_ic − n_cc);   mIoU = the mean over classes that occur

    and likewise for boundaries (see `boundary_counts`). A class that is neither in the ground truth
    nor predicted is NaN, and left out of means. The mean over no class is NaN.

    A pixel that is labelled "none of these" is a miss of its true class, and nothing else: it has
    no IoU of its own in the means.

    Args:
        classes: number of classes C, >= 1.
        ignore_index: the label of ground-truth pixels that do not count; not the index of a class.
        dilation_ratio: width of the boundary as a share of the image's diagonal, > 0.

    Attributes:
        confusion: (C, C) int64, a row per true class, a column per predicted class.
        rejected: (C,) int64, the pixels of each true class that are labelled "none of these".
        boundary_intersection: (C,) int64.
        boundary_union: (C,) int64.
        ignored: number of pixels that do not count.

    Raises:
        InputError: an argument that cannot be used.

    >>> metrics = SegmentationMetrics(classes=2)
    >>> alone = metrics.update([[0, 0], [1, 1]], [[0, 1], [1, 1]])
    >>> metrics.iou.round(2), round(metrics.miou, 3), metrics.pixel_accuracy
    (array([0.5 , 0.67]), 0.583, 0.75)
    """

    def __init__(
        self, classes: int, *, ignore_index: int = IGNORED, dilation_ratio: float = 0.02
    ) -> None:
        self.classes = classes = check_integer("classes", classes)
        self.ignore_index = check_ignore_index(ignore_index, classes)
        self.dilation_ratio = check_number("dilation_ratio", dilation_ratio, low=0, open_low=True)
        self.confusion: Int[np.ndarray, "C C"] = np.zeros((classes, classes), dtype=np.int64)
        self.rejected: Int[np.ndarray, " C"] = np.zeros(classes, dtype=np.int64)
        self.boundary_intersection: Int[np.ndarray, " C"] = np.zeros(classes, dtype=np.int64)
        self.boundary_union: Int[np.ndarray, " C"] = np.zeros(classes, dtype=np.int64)
        self.ignored = 0

    def update(
        self, labels: ArrayLike, gt: ArrayLike, *, background: bool = False
    ) -> SegmentationMetrics:
        """Add an image, and return the metrics of this image.

        What it takes as `labels` and `gt`, and what it refuses, are as for `confusion_matrix`. With
        `background`, the label C stands for "none of these".
        """
        background = check_boolean("background", background)
        maps = checked_maps(labels, gt, self.classes, self.ignore_index, background=background)
        alone = SegmentationMetrics(**self.settings)
        pairs = count_pairs(*maps, self.classes)
        alone.confusion, alone.rejected = pairs[:, :-1], pairs[:, -1]
        alone.boundary_intersection, alone.boundary_union = count_boundaries(
            *maps, self.classes, self.dilation_ratio
        )
        alone.ignored = maps[1].size - int(pairs.sum())
        self.merge(alone)
        return alone

    def merge(self, other: SegmentationMetrics) -> None:
        """Add the counts of other metrics, such as those of another process.

        Raises:
            InputError: another number of classes, ignore_index or dilation_ratio.
        """
        if not isinstance(other, SegmentationMetrics):
            raise InputError.of(
                "other",
                got=type(other).__name__,
                expected="SegmentationMetrics",
                fix="Add metrics to metrics.",
            )
        if other.settings != self.settings:
            raise InputError.of(
                "other",
                got=f"metrics of {other.settings}",
                expected=f"{self.settings}",
                fix="Count both with the same settings.",
            )
        self.confusion = self.confusion + other.confusion
        self.rejected = self.rejected + other.rejected
        self.boundary_intersection = self.boundary_intersection + other.boundary_intersection
        self.boundary_union = self.boundary_union + other.boundary_union
        self.ignored += other.ignored

    def __add__(self, other: SegmentationMetrics) -> SegmentationMetrics:
        """Return the sum of the counts of both."""
        both = copy.copy(self)
        both.merge(other)
        return both

    @property
    def true_pixels(self) -> Int[np.ndarray, " C"]:
        """The pixels of each class in the ground truth."""
        pixels: Int[np.ndarray, " C"] = self.confusion.sum(1) + self.rejected
        return pixels

    @property
    def predicted_pixels(self) -> Int[np.ndarray, " C"]:
        """The pixels that each class was predicted for, among those that count."""
        pixels: Int[np.ndarray, " C"] = self.confusion.sum(0)
        return pixels

    @property
    def iou(self) -> Float[np.ndarray, " C"]:
        """Intersection over union of each class."""
        return _ratio(*self.overlaps)

    @property
    def miou(self) -> float:
        """Mean of `iou` over the classes that occur."""
        return _mean(self.iou)

    @property
    def boundary_iou(self) -> Float[np.ndarray, " C"]:
        """Boundary IoU of each class."""
        return _ratio(self.boundary_intersection, self.boundary_union)

    @property
    def mean_boundary_iou(self) -> float:
        """Mean of `boundary_iou` over the classes that occur."""
        return _mean(self.boundary_iou)

    @property
    def class_accuracy(self) -> Float[np.ndarray, " C"]:
        """Share of each class's true pixels that are labelled right."""
        return _ratio(self.confusion.diagonal(), self.true_pixels)

    @property
    def mean_class_accuracy(self) -> float:
        """Mean of `class_accuracy` over the classes in the ground truth."""
        return _mean(self.class_accuracy)

    @property
    def pixel_accuracy(self) -> float:
        """Share of the pixels that are labelled right."""
        total = int(self.true_pixels.sum())
        return int(self.confusion.trace()) / total if total else math.nan

    def to_dict(self) -> dict[str, Any]:
        """Return the counts that are not 0 for JSON.

        `confusion` lists true class, predicted class and pixels; `rejected` lists true class and
        pixels; `boundary` lists class, intersection and union.
        """
        pairs = np.argwhere(self.confusion)
        rejected = np.flatnonzero(self.rejected)
        there = np.flatnonzero(self.boundary_union)
        boundary = (there, self.boundary_intersection[there], self.boundary_union[there])
        return {
            **self.settings,
            "ignored": self.ignored,
            "confusion": np.column_stack([pairs, self.confusion[tuple(pairs.T)]]).tolist(),
            "rejected": np.column_stack([rejected, self.rejected[rejected]]).tolist(),
            "boundary": np.column_stack(boundary).tolist(),
        }

    @classmethod
    def from_dict(cls, counts: Mapping[str, Any]) -> SegmentationMetrics:
        """Build the metrics from a result of `to_dict`.

        Raises:
            InputError: anything else, such as counts that are negative or of no class.
        """
        parts = ("classes", "ignore_index", "dilation_ratio", "ignored", "confusion", "boundary")
        if not isinstance(counts, Mapping) or not all(part in counts for part in parts):
            raise _wrong_counts(f"a part missing of {', '.join(parts)}")
        metrics = cls(**{name: counts[name] for name in parts[:3]})
        metrics.ignored = check_integer("counts: ignored", counts["ignored"], low=0)
        pairs = _read_table(counts["confusion"], (metrics.classes, metrics.classes))
        metrics.confusion[pairs[:, 0], pairs[:, 1]] = pairs[:, 2]
        misses = _read_table(counts.get("rejected", []), (metrics.classes,), columns=2)
        metrics.rejected[misses[:, 0]] = misses[:, 1]
        edges = _read_table(counts["boundary"], (metrics.classes,))
        metrics.boundary_intersection[edges[:, 0]] = edges[:, 1]
        metrics.boundary_union[edges[:, 0]] = edges[:, 2]
        hits, either = metrics.overlaps
        met, all_edges = metrics.boundary_intersection, metrics.boundary_union
        if (met > hits).any() or (all_edges > either).any() or (met > all_edges).any():
            raise _wrong_counts("boundaries of more pixels than their classes have")
        return metrics

    def __repr__(self) -> str:
        """Show the means."""
        return (
            f"SegmentationMetrics(classes={self.classes}, miou={self.miou:.4f}, "
            f"mean_boundary_iou={self.mean_boundary_iou:.4f}, "
            f"pixel_accuracy={self.pixel_accuracy:.4f})"
        )

    @property
    def overlaps(self) -> tuple[Int[np.ndarray, " C"], Int[np.ndarray, " C"]]:
        """Intersection and union of the pixels of each class, whose ratio the IoU is."""
        hits = self.confusion.diagonal()
        return hits, self.predicted_pixels + self.true_pixels - hits

    @property
    def settings(self) -> dict[str, Any]:
        """The settings by name; metrics of other settings cannot be merged."""
        return {
            "classes": self.classes,
            "ignore_index": self.ignore_index,
            "dilation_ratio": self.dilation_ratio,
        }


def _ratio(part: npt.NDArray[Any], whole: npt.NDArray[Any]) -> Float[np.ndarray, " C"]:
    ratio: npt.NDArray[np.float64] = np.divide(
        part, whole, out=np.full(len(whole), np.nan), where=whole > 0
    )
    return ratio


def _mean(values: npt.NDArray[Any]) -> float:
    there = values[~np.isnan(values)]
    return float(there.mean()) if len(there) else math.nan


def _read_table(
    rows: object, classes: tuple[int, ...], columns: int = 3
) -> Int[np.ndarray, "rows columns"]:
    """Read rows of one or two classes and then counts, each row of other classes."""
    listed: list[Any] = rows if isinstance(rows, list) else [rows]
    whole = all(
        isinstance(row, list) and len(row) == columns and all(type(number) is int for number in row)
        for row in listed
    )
    # Far beyond any data set, and far from where sums of 64 bits overflow.
    if not whole or not all(0 <= number < 2**53 for row in listed for number in row):
        raise _wrong_counts(f"rows that are no {columns} integers >= 0")
    table = np.array(listed, dtype=np.int64).reshape(-1, columns)
    keys = table[:, : len(classes)]
    if (keys >= classes).any() or len(np.unique(keys, axis=0)) < len(keys):
        raise _wrong_counts("a class that is not there, or that is there twice")
    return table


def _wrong_counts(got: str) -> InputError:
    return InputError.of(
        "counts", got=got, expected="a result of SegmentationMetrics.to_dict", fix="Count again."
    )
