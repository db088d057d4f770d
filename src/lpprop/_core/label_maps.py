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

__all__ = ["NONE_OF_THESE", "as_label_map", "check_ignore_index", "refuse_masked"]

#: The name of the label after the last class, of the pixels that belong to no class asked for.
NONE_OF_THESE = "none of these"


def as_label_map(
    name: str, given: object, classes: int | None = None, ignore_index: int | None = None
) -> NDArray[Any]:
    """Return a label map as an array; refuse anything else.

    Args:
        name: what errors call it.
        given: (H, W) integers: an array, a tensor on any device, nested lists or a PIL image. The
            masked pixels of a masked array become `ignore_index`.
        classes: number of classes, all labels are below it; any integer is a label if None.
        ignore_index: the one label outside [0, classes) that is allowed.

    Raises:
        InputError: another shape or type, no pixels, a label out of range, or masked pixels without
            an `ignore_index`.

    >>> as_label_map("gt", [[0, 1, 255]], classes=2, ignore_index=255)
    array([[  0,   1, 255]])
    """
    array = _as_array(given)
    if array is None or array.ndim != 2 or array.dtype.kind not in "iu" or array.size == 0:
        raise InputError.of(
            name,
            got=_describe(given, array),
            expected="integers (H, W)",
            fix="Take the argmax of scores, one item of a batch; turn colours into class indices.",
        )
    if isinstance(array, np.ma.MaskedArray):
        if ignore_index is None:
            refuse_masked(name, array)
        array = array.data if ignore_index is None else _fill(array, ignore_index)
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
            fix="Check the number of classes, and how the labels are numbered."
            + (
                " Pixels that do not count are often 255: lpprop.show takes ignore_index=255."
                * (high == 255)
            ),
        )
    return array


def check_ignore_index(ignore_index: object, classes: int) -> int:
    """Return an ignore_index; refuse one that is no integer, or that is the index of a class."""
    number = check_integer("ignore_index", ignore_index, low=-(2**31), high=2**31 - 1)
    if 0 <= number < classes:
        raise InputError.of(
            "ignore_index",
            got=str(number),
            expected=f"an integer that is no index of the {classes} classes",
            fix="Use another, such as -1. To leave out class 0, apply reduce_zero_label.",
        )
    return number


def refuse_masked(name: str, given: object) -> None:
    """Refuse masked pixels: what NumPy holds beneath a mask is not a value."""
    if isinstance(given, np.ma.MaskedArray) and (count := int(np.ma.getmaskarray(given).sum())):
        raise InputError.of(
            name,
            got=f"an array with {count} masked of {given.size} values",
            expected="a value everywhere",
            fix="Fill them in first, with array.filled(value).",
        )


def _as_array(given: object) -> NDArray[Any] | None:
    """Return an array, with its mask if it has one; None for what cannot become an array."""
    try:
        if isinstance(given, Tensor):
            return given.detach().cpu().numpy()
        # numpy.asarray drops masks, also those of the rows in a list.
        if isinstance(given, (np.ma.MaskedArray, list, tuple)):
            return np.ma.array(given)
        return np.asarray(given)
    except Exception:  # such as a ragged list, a sparse or a meta tensor
        return None


def _fill(array: np.ma.MaskedArray[Any, Any], ignore_index: int) -> NDArray[Any]:
    masked = np.ma.getmaskarray(array)
    if not masked.any():
        return array.data
    # An int8 map cannot hold 255.
    return np.where(masked, ignore_index, array.data.astype(np.int64))


def _describe(given: object, array: NDArray[Any] | None) -> str:
    if hasattr(given, "convert") and hasattr(given, "mode"):  # a PIL image
        return f"an image of mode {given.mode!r}"
    if isinstance(array, np.ndarray) and array.dtype.kind != "O":
        return f"shape {array.shape} of {array.dtype}"
    return f"{type(given).__name__}, which is no array"
