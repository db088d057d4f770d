"""Ground truth of a comparison: what can be used, and what is doubtful."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lpprop._core.convert import only_item
from lpprop._core.errors import InputError, warn
from lpprop._core.label_maps import as_label_map
from lpprop._core.optional import import_cv2
from lpprop._core.text import percent

if TYPE_CHECKING:
    import numpy.typing as npt

    Labels = npt.NDArray[np.int64]

__all__ = ["as_gt", "warn_of_gt"]

# Fewer pixels that count than this share of all are too few to judge by. It is low, since
# protocols that ignore the background count the pixels of one small object.
_FEWEST = 0.01


def as_gt(gt: Any, size: tuple[int, int], classes: int, ignore_index: int) -> Labels:
    """Return true labels (H, W) from an array, a tensor or a PIL image of class indices."""
    import_cv2()  # which Boundary IoU needs: if it is missing, that is said before any work
    gt = only_item(gt)
    array = as_label_map("gt", gt, ignore_index=ignore_index)
    if array.shape != size:
        turned = array.shape == size[::-1]
        raise InputError.of(
            "gt",
            got=f"{array.shape[0]} x {array.shape[1]} pixels",
            expected=f"{size[0]} x {size[1]}, the results' size",
            fix="gt looks turned: transpose it, or turn image and arrays as it was (EXIF)."
            if turned
            else f"Pass size={array.shape} to compare at the size of gt.",
        )
    counted = array[array != ignore_index]
    if not counted.size:
        raise InputError.of(
            "gt",
            got=f"no label but {ignore_index}, which does not count",
            expected=f"classes from 0 to {classes - 1}",
            fix="Change ignore_index.",
        )
    if counted.min() > 0 and counted.max() == classes:
        raise InputError.of(
            "gt",
            got=f"labels from {counted.min()} to {classes}",
            expected=f"0 to {classes - 1}, or {ignore_index} (ignore_index)",
            fix="If they are numbered from 1, subtract 1 where gt is not ignore_index.",
        )
    return as_label_map("gt", gt, classes, ignore_index).astype(np.int64)


def warn_of_gt(gt: Labels, start: Labels, names: Sequence[str], ignore_index: int) -> None:
    """Warn of ground truth that can be used, but is probably not what was meant.

    Absent classes and ignored pixels are ordinary; these are not:

    - every pixel has the same class;
    - class 0 alone counts, beside pixels of ignore_index: a mask of 0 and 255;
    - fewer than one pixel in a hundred counts;
    - most labels are those of the start plus one, for each of two classes or more, and class 0 is
      absent: they are numbered from 1. Likewise minus one, and the last class is absent.

    Args:
        gt: (H, W) true labels, as `as_gt` returns them.
        start: (H, W) labels of the logits.
        names: a name per class.
        ignore_index: marks pixels of gt that do not count.
    """
    counted = gt != ignore_index
    present, ignored = np.unique(gt[counted]), percent(1 - float(counted.mean()), 1)
    only = f"class {present[0]} ({names[present[0]]})"
    if len(present) == 1 < len(names) and counted.all():
        warn(
            "gt of one class",
            f"gt: got the {only} at every pixel, so that mIoU tells little. Check how it was read: "
            "each pixel holds the index of its class.",
        )
    elif len(present) == 1 < len(names) and present[0] == 0:
        warn(
            "gt of one class",
            f"gt: got the {only} alone, and {ignored} % of the pixels are {ignore_index} "
            f"(ignore_index). If this is a mask of 0 and {ignore_index}, its object never counts: "
            f"make it (gt == {ignore_index}), as integers.",
        )
    if counted.mean() < _FEWEST:
        warn(
            "ignored gt",
            f"gt: got {ignored} % of the pixels as {ignore_index} (ignore_index), which does not "
            "count, so that few pixels decide. Check both.",
        )
    for shift, edge in ((1, 0), (-1, len(names) - 1)):
        alike = counted & (gt == start + shift)
        # One class that the logits take for its neighbour is their mistake; two are numbering.
        moved = [c for c in present if alike[gt == c].mean() > 0.5]
        if edge not in present and len(moved) > 1 and 2 * alike.sum() > counted.sum():
            warn(
                "numbering of gt",
                f"gt: got labels of which {percent(alike.sum() / counted.sum(), 1)} % are those of "
                f"the logits {'plus' if shift > 0 else 'minus'} 1, and class {edge} "
                f"({names[edge]}) is absent. If gt and logits number the classes differently, "
                f"{'subtract 1' if shift > 0 else 'add 1'} where gt is not {ignore_index}.",
            )
