"""Counts of pixels, of which the metrics are made: confusion, and boundaries that meet."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

from lpprop._core.errors import InputError
from lpprop._core.label_maps import as_label_map, check_ignore_index
from lpprop._core.optional import import_cv2
from lpprop._core.options import check_integer, check_number
from lpprop.evaluation.label_maps import IGNORED

if TYPE_CHECKING:
    import numpy.typing as npt

    from lpprop.evaluation.label_maps import ArrayLike

__all__ = [
    "boundary_counts",
    "checked_gt",
    "checked_maps",
    "confusion_matrix",
    "count_boundaries",
    "count_pairs",
]


def confusion_matrix(
    labels: ArrayLike, gt: ArrayLike, classes: int, *, ignore_index: int = IGNORED
) -> Int[np.ndarray, "C C"]:
    """Count the pixels of each pair of true and predicted class.

    Args:
        labels: (H, W) predicted classes, integers in [0, classes) wherever the ground truth counts;
            an array, or a tensor on any device.
        gt: (H, W) true classes, integers in [0, classes), or ignore_index.
        classes: number of classes C, >= 1.
        ignore_index: the label of ground-truth pixels that do not count; no class's number.

    Returns:
        int64, a row for each true class, a column for each predicted one.

    Raises:
        InputError: shapes that differ, labels that are no integers or out of range.

    >>> confusion_matrix([[0, 1, 1]], [[0, 0, 255]], classes=2)
    array([[1, 1],
           [0, 0]])
    """
    classes = check_integer("classes", classes)
    return count_pairs(*checked_maps(labels, gt, classes, ignore_index), classes)[:, :classes]


def boundary_counts(
    labels: ArrayLike,
    gt: ArrayLike,
    classes: int,
    *,
    ignore_index: int = IGNORED,
    dilation_ratio: float = 0.02,
) -> tuple[Int[np.ndarray, " C"], Int[np.ndarray, " C"]]:
    """Count the pixels in which the boundaries of each class meet, and those in either of them.

    The boundary G_d of a class are its pixels within d of what is not the class or outside the
    image, in the maximum norm: the mask minus its erosion by d steps of a 3 x 3 square.

        Boundary IoU = |G_d ∩ P_d| / |G_d ∪ P_d|,   d = max(1, round(dilation_ratio · diagonal))

    (Cheng et al., "Boundary IoU", CVPR 2021, Eq. 2). Pixels that the ground truth ignores belong to
    no class in either map, before the boundaries are taken: next to them, both have one.

    Args:
        labels: (H, W) predicted classes, as for `confusion_matrix`.
        gt: (H, W) true classes, or ignore_index.
        classes: number of classes C, >= 1.
        ignore_index: the label of ground-truth pixels that do not count.
        dilation_ratio: width of the boundary as a share of the image's diagonal, > 0.

    Returns:
        Intersection and union, int64, each (C,).

    Raises:
        InputError: shapes that differ, labels that are no integers or out of range.

    >>> gt = np.repeat([[0, 0, 0, 1, 1, 1]], 6, axis=0)
    >>> boundary_counts(np.roll(gt, 1, axis=1), gt, classes=2, dilation_ratio=0.1)
    (array([4, 8]), array([24, 24]))
    """
    dilation_ratio = check_number("dilation_ratio", dilation_ratio, low=0, open_low=True)
    classes = check_integer("classes", classes)
    maps = checked_maps(labels, gt, classes, ignore_index)
    return count_boundaries(*maps, classes, dilation_ratio)


def count_pairs(
    labels: npt.NDArray[Any], gt: npt.NDArray[Any], classes: int
) -> Int[np.ndarray, "C K"]:
    """Count the confusion of checked maps; the last column is for the label `classes`."""
    there, columns = gt < classes, classes + 1
    pairs = gt[there].astype(np.int64) * columns + labels[there]
    counts: npt.NDArray[np.int64] = np.bincount(pairs, minlength=classes * columns).astype(np.int64)
    return counts.reshape(classes, columns)


def count_boundaries(
    labels: npt.NDArray[Any], gt: npt.NDArray[Any], classes: int, dilation_ratio: float
) -> tuple[Int[np.ndarray, " C"], Int[np.ndarray, " C"]]:
    """Count the boundaries of checked maps; pixels of the label `classes` are on none."""
    # From half of the shorter side, every pixel is within d of the outside; OpenCV would allocate
    # a square of 2 d + 1.
    farthest = (min(gt.shape) + 1) // 2
    d = max(1, round(min(dilation_ratio * math.hypot(*gt.shape), farthest)))
    predicted, true = (_on_boundary(x, classes, d) & (x < classes) for x in (labels, gt))
    met = predicted & true & (labels == gt)
    of_labels, of_gt, of_both = (
        np.bincount(x, minlength=classes).astype(np.int64)
        for x in (labels[predicted], gt[true], gt[met])
    )
    return of_both, of_labels + of_gt - of_both


def _on_boundary(labels: npt.NDArray[Any], classes: int, d: int) -> npt.NDArray[np.bool_]:
    """Mark the pixels within d of another label, or of the outside.

    A pixel survives the erosion of its own class if all labels around it are one: the least and the
    greatest agree. Two filters so serve all classes at once.
    """
    kind = np.uint8 if classes <= np.iinfo(np.uint8).max else np.float32  # what OpenCV filters
    # The outside is labelled like what is ignored, which is on no boundary itself.
    padded = np.pad(labels.astype(kind), 1, constant_values=classes)
    square = np.ones((3, 3), dtype=np.uint8)
    cv2 = import_cv2()
    least = cv2.erode(padded, square, iterations=d)
    greatest = cv2.dilate(padded, square, iterations=d)
    edge: npt.NDArray[np.bool_] = (least != greatest)[1:-1, 1:-1]
    return edge


def checked_maps(
    labels: ArrayLike, gt: ArrayLike, classes: int, ignore_index: int, *, background: bool = False
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Check a pair of label maps; where the ground truth does not count, both become `classes`.

    With a background, labels may be `classes` elsewhere too.
    """
    predicted = as_label_map("labels", labels)
    true = checked_gt(gt, classes, ignore_index)
    if predicted.shape != true.shape:
        raise InputError.of(
            "labels",
            got=f"shape {predicted.shape}",
            expected=f"{true.shape}, that of gt",
            fix="Take the argmax of scores at the size of the ground truth.",
        )
    ignored = true == classes
    as_label_map("labels", np.where(ignored, 0, predicted), classes + background)
    return np.where(ignored, classes, predicted.astype(np.int32)), true


def checked_gt(gt: ArrayLike, classes: int, ignore_index: int) -> npt.NDArray[np.int32]:
    """Check a map of true classes; pixels that do not count become `classes`."""
    classes = check_integer("classes", classes)
    ignore_index = check_ignore_index(ignore_index, classes)
    true = as_label_map("gt", gt, classes, ignore_index)
    return np.where(true == ignore_index, classes, true.astype(np.int32))
