"""What is doubtful about the true labels of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lpprop._core.text import percent
from lpprop.evaluation.metrics import SegmentationMetrics

__all__ = ["label_doubts"]


def label_doubts(
    metrics: Mapping[str, SegmentationMetrics],
    pixels: Sequence[int],
    class_names: Sequence[str],
    *,
    whole: bool,
) -> list[str]:
    """Say what is doubtful about the true labels of a run.

    Args:
        metrics: those of each predictor, pooled over its images.
        pixels: the number of true pixels of each class, and last that of pixels that do not count.
        class_names: the names of the classes.
        whole: whether the whole data set was measured: of a part, classes may well be absent.
    """
    *of_classes, ignored = pixels
    if not sum(pixels):
        return []
    if not any(of_classes):
        return [
            "labels: no pixel counts, since every one has the label that is left out: there is "
            "nothing to measure. Check how the labels are numbered, and which of them are ignored."
        ]
    present = [number for number, count in enumerate(of_classes) if count]
    absent = [number for number, count in enumerate(of_classes) if not count]
    if present == [0] and absent and ignored:
        share = percent(ignored / sum(pixels), 1)
        return [
            f"labels: all pixels that count are of class 0, {class_names[0]!r}, and {share} % do "
            "not count. These look like masks of 0 and 255, but 255 marks pixels that do not "
            "count: write the number of its class where the object is, such as 1."
        ]
    doubts = []
    if len(of_classes) == 1:
        doubts.append(
            f"classes: only one, {class_names[0]!r}, which every pixel gets: the figures say "
            "nothing. Name what else is in the images too."
        )
    if absent and whole:
        named = ", ".join(f"{class_names[number]!r} ({number})" for number in absent[:5])
        more = f" and {len(absent) - 5} more" if len(absent) > 5 else ""
        doubts.append(
            f"labels: no pixel is of class {named}{more}. Where a class is predicted that no pixel "
            f"has, its IoU is 0 and lowers the mean.{_hint(absent, len(of_classes))}"
        )
    shifted = [name for name, one in metrics.items() if _is_shifted(one)]
    if shifted:
        doubts.append(
            f"labels: {', '.join(shifted)} mostly predicts the class beside the true one, the same "
            "side for almost all classes. The labels seem shifted by one: class 0 is the first "
            "line of the classes."
        )
    return doubts


def _hint(absent: Sequence[int], classes: int) -> str:
    if absent == [0]:
        return " All others occur: if the labels count from 1, subtract 1."
    if absent == [classes - 1]:
        return " All others occur: if the labels are one too low, add 1."
    return ""


def _is_shifted(metrics: SegmentationMetrics) -> bool:
    """Tell whether the classes' most frequent predictions are a neighbour, on one side.

    At least four classes have to agree, and two thirds of all, so that a predictor that is bad, or
    that knows one class alone, is not taken for wrong labels.
    """
    there = np.flatnonzero(metrics.confusion.sum(1))
    steps = metrics.confusion[there].argmax(1) - there
    return any((steps == step).sum() >= max(4, 2 * len(there) / 3) for step in (-1, 1))
