"""Label maps (H, W) in other numberings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence, Set
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int
from torch import Tensor

from lpprop._core.errors import InputError
from lpprop._core.label_maps import as_label_map, check_ignore_index
from lpprop._core.options import check_integer, is_listed

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
        gt: (H, W) labels >= 0; those that do not count already stay so.
        ignore_index: the label of pixels that do not count, >= 0.

    Returns:
        Labels as an array of the same integer type, or of a wider one where that cannot hold
        `ignore_index`.

    Raises:
        InputError: labels that are no integers (H, W), or below 0.

    >>> reduce_zero_label([[0, 1, 2, 255]])
    array([[255,   0,   1, 255]])
    """
    ignore_index = check_integer("ignore_index", ignore_index, low=0, high=2**31 - 1)
    array = as_label_map("gt", gt, None, ignore_index)
    if (lowest := int(array.min())) < 0:
        raise InputError.of(
            "gt",
            got=f"the label {lowest} in {array.dtype}",
            expected="labels >= 0",
            fix="Read the map as uint8: 255 becomes -1 in int8.",
        )
    kind = np.promote_types(array.dtype, np.min_scalar_type(ignore_index))
    ignored = (array == 0) | (array == ignore_index)
    # Where an unsigned 0 wraps around, it is replaced.
    reduced: npt.NDArray[Any] = np.where(
        ignored, kind.type(ignore_index), array.astype(kind) - kind.type(1)
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
        ignore_index: the label of classes that are in no group; it stays itself, and is the number
            of no group.

    Returns:
        Labels in int64, as an array.

    Raises:
        InputError: labels that are no integers (H, W), groups that are no lists of classes, or a
            class in two groups.

    >>> merge_labels([[0, 1, 2, 255]], [[0, 2], [1]])
    array([[  0,   1,   0, 255]])
    """
    # A set has no order, by which the groups would be numbered.
    listed = list(groups) if is_listed(groups) else []
    if not listed:
        raise _wrong_groups("groups", groups)
    ignore_index = check_ignore_index(ignore_index, len(listed))
    checked = [_check_group(number, group, ignore_index) for number, group in enumerate(listed)]
    twice = [label for label, times in Counter(chain.from_iterable(checked)).items() if times > 1]
    if twice:
        raise InputError.of(
            "groups",
            got=f"class {min(twice)} twice",
            expected="each class in at most one group",
            fix="Remove it from one of them.",
        )
    array = as_label_map("labels", labels, None, ignore_index)
    merged = np.full(array.shape, ignore_index, dtype=np.int64)
    for number, group in enumerate(checked):
        merged[np.isin(array, group)] = number
    return merged


def _check_group(number: int, group: object, ignore_index: int) -> list[int]:
    name = f"groups[{number}]"
    if not (is_listed(group) or isinstance(group, Set)):
        raise _wrong_groups(name, group)
    classes = [check_integer(name, label, low=0) for label in group]
    if not classes or ignore_index in classes:
        raise _wrong_groups(name, group)
    return classes


def _wrong_groups(name: str, got: object) -> InputError:
    return InputError.of(
        name,
        got=repr(got)[:200],
        expected="a list of classes for each class of the result, without ignore_index",
        fix="List the classes of each group, such as [[0, 2], [1]].",
    )
