"""`lpprop.video.segment`: a segmenter over the frames of a clip."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from lpprop._core.errors import InputError
from lpprop.compose.request import Request
from lpprop.models.segmenter import Segmentation, Segmenter
from lpprop.models.unrefined import Unrefined
from lpprop.video.clips import check_window, naming, pair, prepare_frames, slide
from lpprop.video.joint import Frame, check_method, refine_joined

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

__all__ = ["segment"]


class _Seen(NamedTuple):
    frame: Frame
    unrefined: Unrefined


def segment(
    segmenter: Segmenter,
    frames: Iterable[Tensor | np.ndarray[Any, Any] | Image],
    classes: Sequence[str],
    *,
    window: int = 3,
    times: Iterable[float] | None = None,
) -> Iterator[Segmentation]:
    """Segment the frames of a clip, each refined together with its neighbours in time.

        for scores, names in lpprop.video.segment(segmenter, frames, ["road", "car", "tree"]):
            labels = scores.argmax(1)

    The models see each frame once, and by itself; `lpprop.video.refine` says what joins them. Of
    the frames before, scores and features are held, and no more than `window` of them.

    Args:
        segmenter: where frames are joined, with a method that begins with patch propagation, and
            without `top_classes`.
        frames: the images in order, all of one size; any iterable, such as a generator.
        classes: as the segmenter takes them.
        window: how many frames the graph joins, an odd number.
        times: when each frame was seen, as `lpprop.video.refine` takes it.

    Returns:
        An iterator of what the segmenter returns for a frame; with `window=1` exactly that.

    Raises:
        InputError: at once for a segmenter or options that cannot be used; while iterating for a
            frame that cannot be used, with its number.

    >>> from lpprop.backbones import EfficientNetLite0
    >>> segmenter = Segmenter(EfficientNetLite0(), method="lposs", shorter_side=64)
    >>> found = segment(segmenter, torch.rand(3, 3, 64, 96), ["cat; lynx", "sofa"])
    >>> [tuple(scores.shape) for scores, names in found]
    [(1, 2, 64, 96), (1, 2, 64, 96), (1, 2, 64, 96)]
    """
    window = check_window(window)
    if window > 1:
        check_method(segmenter.method)
    if window > 1 and segmenter.choice.top_classes is not None:
        raise InputError.of(
            "segmenter",
            got=f"top_classes={segmenter.choice.top_classes}, which chooses classes per image",
            expected="None, since the frames are refined together",
            fix="Leave top_classes out, or pass window=1.",
        )
    segmenter.backbone.class_names(classes)  # may refuse them
    steps = pair({"frames": frames, "times": count() if times is None else times})

    def look() -> Iterator[_Seen]:
        unrefined: list[Unrefined] = []

        def requests() -> Iterator[tuple[float, Request]]:
            for number, (frame, time) in enumerate(steps):
                with naming(number):
                    seen = segmenter.prepare(frame, classes)
                    unrefined.append(seen)
                    given = dict(seen.arguments)
                    logits, _ = given.pop("logits"), given.pop("method")
                    span = given.pop("span", None)
                    yield time, Request.of(logits, given, span=span)

        for frame in prepare_frames(requests(), segmenter.method):
            yield _Seen(frame, unrefined.pop())

    def work(near: Sequence[_Seen], place: int) -> Segmentation:
        with torch.no_grad():
            refined = refine_joined([seen.frame for seen in near], place)
            unrefined = near[place].unrefined
            return Segmentation(unrefined.finish(refined), unrefined.class_names)

    return slide(look(), window, work)
