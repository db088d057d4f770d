"""The check of label maps that pictures, metrics and comparisons share.

It lies below all three, since pictures may import neither files nor evaluation.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lpprop._core.errors import InputError
from lpprop._core.options import check_integer

__all__ = ["as_label_map", "check_ignore_index"]


def as_label_map(
    name: str, given: object, classes: int | None = None, ignore_index: int | None = None
) -> NDArray[Any]:
    """Return a label map as an array; refuse anything else.

    Args:
        name: what errors call it.
        given: (H, W) integers: an array, a tensor on any device, nested lists or a PIL image.
        classes: number of classes, all labels are below it; any integer is a label if None.
        ignore_index: the one label outside [0, classes) that is allowed.

    Raises:
        InputError: another shape or type, no pixels, or a label out of range.

    >>> as_label_map("gt", [[0, 1, 255]], classes=2, ignore_index=255)
    array([[  0,   1, 255]])
    """
    array = np.asarray(given.detach().cpu() if isinstance(given, Tensor) else given)
    if array.ndim != 2 or array.dtype.kind not in "iu" or array.size == 0:
        mode = getattr(given, "mode", None) if hasattr(given, "convert") else None  # a PIL image
        raise InputError.of(
            name,
            got=f"an image of mode {mode!r}" if mode else f"shape {array.shape} of {array.dtype}",
            expected="integers (H, W)",
            fix="Take the argmax of scores, one item of a batch; turn colours into class indices.",
        )
    if classes is None:
        return array
    counted = array if ignore_index is None else np.where(array == ignore_index, 0, array)
    low, high = int(counted.min()), int(counted.max())
    if low < 0 or high >= classes:
        raise InputError.of(
            name,
            got=f"the label {low if low < 0 else high}",
            expected=f"0 to {classes - 1}"
            + ("" if ignore_index is None else f", or {ignore_index} (ignore_index)"),
            fix="Check the number of classes, and how the labels are numbered.",
        )
    return array


def check_ignore_index(ignore_index: object, classes: int) -> int:
    """Refuse an ignore_index that is not an integer, or that is the index of a class."""
    number = check_integer("ignore_index", ignore_index, low=-(2**31))
    if 0 <= number < classes:
        raise InputError.of(
            "ignore_index",
            got=str(number),
            expected=f"an integer that is no index of the {classes} classes",
            fix="Use another, such as -1. To leave out class 0, apply reduce_zero_label.",
        )
    return number
