"""The result of one predictor: what it counted on each image, and all of it together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from lpprop._core.doubts import Doubt, gather_doubts
from lpprop.evaluation.metrics import SegmentationMetrics
from lpprop.evaluation.records import empty_metrics

__all__ = ["ClassRow", "ImageResult", "Result", "Row", "gather_result"]


class Row(NamedTuple):
    """A row of the table; metrics are shares in [0, 1].

    Attributes:
        predictor: name of the predictor.
        miou: mIoU of the pooled confusion.
        boundary_iou: mean Boundary IoU over the classes that occur.
        pixel_accuracy: share of the pixels that are labelled right.
        class_accuracy: mean accuracy over the classes in the ground truth.
        seconds: median seconds per image.
        images: number of images that were labelled.
    """

    predictor: str
    miou: float
    boundary_iou: float
    pixel_accuracy: float
    class_accuracy: float
    seconds: float
    images: int


class ClassRow(NamedTuple):
    """A predictor on a class, over the images that it labelled; metrics are shares in [0, 1].

    Attributes:
        predictor: name of the predictor.
        name: name of the class.
        true_pixels: pixels of the class in the ground truth.
        predicted_pixels: pixels that the class was predicted for, among those that count.
        iou: IoU; NaN where the class is neither in the ground truth nor predicted.
        boundary_iou: Boundary IoU, or NaN likewise.
    """

    predictor: str
    name: str
    true_pixels: int
    predicted_pixels: int
    iou: float
    boundary_iou: float


@dataclass(frozen=True)
class ImageResult:
    """A predictor's seconds and counts (`SegmentationMetrics.to_dict`) on one image."""

    index: int
    name: str
    seconds: float
    counts: Mapping[str, Any]

    @property
    def metrics(self) -> SegmentationMetrics:
        """The metrics of this one image."""
        return SegmentationMetrics.from_dict(self.counts)


@dataclass(frozen=True)
class Result:
    """The results of a predictor on all images, in the data set's order.

    Attributes:
        name: name of the predictor.
        images: results of the images that were labelled.
        metrics: metrics pooled over the images.
        failures: reasons of failures, by the image's name.
        warnings: what the predictor warned of, on how many images, and the first of them.
    """

    name: str
    images: Sequence[ImageResult]
    metrics: SegmentationMetrics
    failures: Mapping[str, str]
    warnings: Sequence[Doubt] = ()

    @property
    def seconds(self) -> float:
        """Median seconds per image: the first image may include compilation."""
        return float(np.median([image.seconds for image in self.images] or [math.nan]))

    @cached_property
    def image_miou(self) -> Float[np.ndarray, " images"]:
        """The mIoU of each image, over the classes in it."""
        return np.array([image.metrics.miou for image in self.images])

    @cached_property
    def image_boundary_iou(self) -> Float[np.ndarray, " images"]:
        """The mean Boundary IoU of each image."""
        return np.array([image.metrics.mean_boundary_iou for image in self.images])


def gather_result(
    name: str,
    records: Sequence[Mapping[str, Any]],
    failures: Mapping[str, str],
    config: Mapping[str, Any],
) -> Result:
    """Build the result of a predictor of its records."""
    images = [
        ImageResult(record["index"], record["image"], record["seconds"], record["metrics"])
        for record in records
    ]
    pooled = empty_metrics(config)
    for image in images:
        pooled.merge(image.metrics)
    warnings = gather_doubts([(record["image"], record["warnings"]) for record in records])
    return Result(name, images, pooled, dict(failures), warnings)
