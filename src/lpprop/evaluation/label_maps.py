"""Label maps (H, W) in other numberings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int
from torch import Tensor

from lpprop._core.errors import InputError
from lpprop._core.label_maps import as_label_map
from lpprop._core.options import check_integer

if TYPE_CHECKING:
    import numpy.typing as npt

    ArrayLike = Tensor | npt.NDArray[Any] | Sequence[Sequence[int]]

__all__ = ["IGNORED", "merge_labels", "reduce_zero_label"]

#: The label of pixels that do not count.
IGNORED = 255


def reduce_zero_label(gt: ArrayLike, *, ignore_index: int = IGNORED) -> Int[np.ndarray, "H W"]:
    """Turn class 0 of a label map into pixels that do not count, and move all others down by one.

    ADE20K, Pascal Context without background and VOC20 number their classes so.

    Args:
        gt: (H, W) labels; those that do not count already stay so.
        ignore_index: the label of pixels that do not count, >= 0.

    Returns:
        Labels of the same integer type, as an array.

    Raises:
        InputError: labels that are no integers (H, W).

    >>> reduce_zero_label([[0, 1, 2, 255]])
    array([[255,   0,   1, 255]])
    """
    check_integer("ignore_index", ignore_index, low=0)
    array = as_label_map("gt", gt)
    ignored = (array == 0) | (array == ignore_index)
    # Where a uint8 of 0 wraps around, it is replaced.
    reduced: npt.NDArray[Any] = np.where(
        ignored, array.dtype.type(ignore_index), array - array.dtype.type(1)
    )
    return reduced


def merge_labels(
    labels: ArrayLike, groups: Sequence[Sequence[int]], *, ignore_index: int = IGNORED
) -> Int[np.ndarray, "H W"]:
    """Number label maps by groups of classes, such as one background of many prompts.

    It does to labels what `lpprop.merge_classes` does to scores: the argmax of the merged scores is
    the merged argmax.

    Args:
        labels: (H, W) labels.
        groups: the classes that make up each class of the result; each in at most one group.
        ignore_index: the label of classes that are in no group; it stays itself.

    Returns:
        Labels in int64, as an array.

    Raises:
        InputError: labels that are no integers (H, W), or a class in two groups.

    >>> merge_labels([[0, 1, 2, 255]], [[0, 2], [1]])
    array([[  0,   1,   0, 255]])
    """
    array = as_label_map("labels", labels)
    flat = [label for group in groups for label in group]
    twice = sorted({label for label in flat if flat.count(label) > 1})
    if twice:
        raise InputError.of(
            "groups",
            got=f"class {twice[0]} twice",
            expected="each class in at most one group",
            fix="Remove it from one of them.",
        )
    merged = np.full(array.shape, ignore_index, dtype=np.int64)
    for number, group in enumerate(groups):
        merged[np.isin(array, list(group))] = number
    return merged
