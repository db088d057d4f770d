"""Do labels stay with the things they are on? Counts of labels that change along optical flow.

flow = optical_flow(frames[0], frames[1])
counts = label_changes(labels[0], labels[1], flow)
counts.changed / counts.compared           # 0: nothing flickers
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from lpprop._core.convert import as_image
from lpprop._core.errors import InputError
from lpprop._core.label_maps import as_label_map
from lpprop._core.optional import import_cv2
from lpprop._core.options import check_integer
from lpprop.evaluation.label_maps import IGNORED

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from lpprop.evaluation.label_maps import ArrayLike

__all__ = ["Flow", "LabelChanges", "label_changes", "optical_flow"]

# Forward and backward flow cancel up to a share of their lengths and half a pixel squared:
# Sundaram, Brox, Keutzer, Dense Point Trajectories by GPU-accelerated Large Displacement Optical
# Flow, ECCV 2010, Eq. 5.
_SHARE, _SLACK = 0.01, 0.5
_SMALLEST = 16  # pixels of a side: DIS computes on patches of 8 pixels, on halved images


class Flow(NamedTuple):
    """Where the pixels of a frame were in the frame before.

    Attributes:
        rows: the row of the nearest pixel in the frame before.
        columns: its column.
        visible: whether the pixel was there: it came from within the frame, and the flow back
            from that place leads to it again. It does not where something was uncovered.
    """

    rows: Int[np.ndarray, "H W"]
    columns: Int[np.ndarray, "H W"]
    visible: Bool[np.ndarray, "H W"]


class LabelChanges(NamedTuple):
    """Counts of pixels between two frames; those of several pairs add up.

    Attributes:
        changed: pixels whose label is not the one that they had in the frame before.
        compared: pixels that were visible in both, with labels that count.
    """

    changed: int
    compared: int


def optical_flow(before: Tensor | Image | Any, after: Tensor | Image | Any) -> Flow:
    """Track the pixels of a frame back to the frame before it, by OpenCV's DIS flow.

    Args:
        before: the earlier frame, one image as `lpprop.refine` takes it.
        after: the later frame, of the same size, 16 pixels or more on a side.

    Returns:
        A place in `before` for each pixel of `after`, and whether it can be relied on.

    Raises:
        InputError: frames that are no images, of different sizes, or too small.

    >>> frame = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    >>> bool(optical_flow(frame, frame).visible.all())
    True
    """
    cv2 = import_cv2()
    early, late = _as_grey("before", before), _as_grey("after", after)
    if early.shape != late.shape or min(late.shape) < _SMALLEST:
        raise InputError.of(
            "after",
            got=f"{late.shape[0]} x {late.shape[1]} pixels",
            expected=f"the {early.shape[0]} x {early.shape[1]} of before, each at least "
            f"{_SMALLEST}",
            fix="Pass two frames of one clip, at their full size.",
        )
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    back, forth = dis.calc(late, early, None), dis.calc(early, late, None)
    height, width = late.shape
    y, x = np.mgrid[:height, :width]
    columns = np.rint(x + back[..., 0]).astype(np.int64)
    rows = np.rint(y + back[..., 1]).astype(np.int64)
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    rows, columns = rows.clip(0, height - 1), columns.clip(0, width - 1)
    again = forth[rows, columns]
    lengths = np.square(back).sum(-1) + np.square(again).sum(-1)
    returns = np.square(back + again).sum(-1) < _SHARE * lengths + _SLACK
    return Flow(rows, columns, inside & returns)


def label_changes(
    before: ArrayLike, after: ArrayLike, flow: Flow, *, ignore_index: int = IGNORED
) -> LabelChanges:
    """Count the pixels that have another label than where they were in the frame before.

    A change is not always an error: an object may be seen better as it comes nearer. Wrong labels
    that stay wrong do not count. So the share belongs beside the mIoU, never in its place.

    Args:
        before: (H, W) labels of the earlier frame, integers.
        after: (H, W) labels of the later frame.
        flow: that of `optical_flow` between the two frames.
        ignore_index: the label of pixels that do not count, in either map.

    Raises:
        InputError: labels that are no integers (H, W), or not of the flow's size.

    >>> still = Flow(*np.mgrid[:1, :3], np.array([[True, True, False]]))
    >>> label_changes([[0, 1, 1]], [[0, 2, 2]], still)
    LabelChanges(changed=1, compared=2)
    """
    ignore_index = check_integer("ignore_index", ignore_index, low=0, high=2**31 - 1)
    maps = [
        as_label_map(name, labels, None, ignore_index)
        for name, labels in (("before", before), ("after", after))
    ]
    for name, labels in zip(("before", "after"), maps, strict=True):
        if labels.shape != flow.visible.shape:
            raise InputError.of(
                name,
                got=f"{labels.shape[0]} x {labels.shape[1]} labels",
                expected=f"the {flow.visible.shape[0]} x {flow.visible.shape[1]} of the flow",
                fix="Bring labels and frames to one size.",
            )
    earlier, later = maps[0][flow.rows, flow.columns], maps[1]
    counts = flow.visible & (earlier != ignore_index) & (later != ignore_index)
    return LabelChanges(int(np.count_nonzero((earlier != later) & counts)), int(counts.sum()))


def _as_grey(name: str, frame: object) -> Any:
    """Return an image as grey of 8 bits, as DIS takes it."""
    import torch

    image = as_image(frame, torch.empty(0))
    if image.ndim != 4 or image.shape[:2] != (1, 3):
        raise InputError.of(
            name,
            got=f"shape {tuple(image.shape)}",
            expected="one image, (3, H, W) or (H, W, 3)",
            fix="Pass one frame at a time.",
        )
    pixels = (image[0].permute(1, 2, 0).float() * 255).round().clamp(0, 255).byte().cpu().numpy()
    cv2 = import_cv2()
    return cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)
