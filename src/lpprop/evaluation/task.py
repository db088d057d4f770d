"""The work on one image: label it, look at the clock, count."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from lpprop._core.errors import InputError
from lpprop._core.measure import time_call
from lpprop.evaluation.metrics import SegmentationMetrics
from lpprop.evaluation.predictors import LabelledImage, Predictor

__all__ = ["Failure", "Job", "Outcome", "Samples", "Task", "about"]


@runtime_checkable
class Samples(Protocol):
    """What the runner needs of a data set."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def classes(self) -> Sequence[str]:
        """The classes' names."""

    def __len__(self) -> int:
        """Count the samples."""

    def __getitem__(self, index: int) -> Any:
        """Return a `LabelledImage`."""


def about(dataset: Samples) -> dict[str, Any]:
    """Describe a data set, so that two that differ are told apart, as far as it tells of itself."""
    told: dict[str, Any] = {
        "name": dataset.name,
        "samples": len(dataset),
        "classes": list(dataset.classes),
    }
    if (labels_from := getattr(dataset, "labels_from", None)) is not None:
        told["labels_from"] = str(labels_from)
    if (names := getattr(dataset, "names", None)) is not None:
        told["names"] = hashlib.sha256("\n".join(names).encode()).hexdigest()
    return told


#: The number of an image, and the predictors that have not seen it.
Job = tuple[int, tuple[str, ...]]


@dataclass
class Failure:
    """What went wrong, in words, and the exception itself where it is of this process."""

    image: str
    reason: str
    error: BaseException | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave the exception behind: not every one pickles."""
        return {"image": self.image, "reason": self.reason, "error": None}


#: A predictor's name, and the record of the image or why there is none.
Outcome = tuple[str, "dict[str, Any] | Failure"]


@dataclass
class Task:
    """Label images, each by the predictors that have not seen it."""

    dataset: Samples
    predictors: dict[str, Predictor]
    metrics: SegmentationMetrics

    def __call__(self, job: Job) -> list[Outcome]:
        """Return what comes of a job."""
        return list(self.run(job))

    def run(self, job: Job) -> Iterator[Outcome]:
        """Yield what comes of a job, one predictor after the other."""
        index, names = job
        image = f"image {index}"
        try:
            sample = self.dataset[index]
            image = str(sample.name)
            # Files are read before the clock starts.
            gt, _ = sample.gt, sample.image
        except Exception as error:
            yield from ((name, _failure(image, error)) for name in names)
            return
        for name in names:
            try:
                labels, seconds = _timed(self.predictors[name], sample, self.metrics.classes)
                counts = self.metrics.update(labels, gt).to_dict()
            except Exception as error:
                yield name, _failure(image, error)
            else:
                record = {"index": index, "image": image, "seconds": seconds, "metrics": counts}
                yield name, record


def _failure(image: str, error: Exception) -> Failure:
    return Failure(image, f"{type(error).__name__}: {error}", error)


def _timed(predictor: Predictor, sample: LabelledImage, classes: int) -> tuple[Tensor, float]:
    prepare = getattr(predictor, "prepare", None)
    with torch.no_grad():
        if prepare is not None:
            prepare(sample)
        return time_call(lambda: _labels(predictor(sample), classes))


def _labels(result: Any, classes: int) -> Tensor:
    """Take the argmax of scores; labels are labels already."""
    labels = torch.as_tensor(result)
    if labels.ndim == 2:
        return labels
    if labels.ndim != 3 or len(labels) != classes:
        raise InputError.of(
            "predictor",
            got=f"a result of shape {tuple(labels.shape)}",
            expected=f"labels (H, W), or scores ({classes}, H, W)",
            fix="Return one item of the batch, scores[0], with a score for each class.",
        )
    if bool(labels.isnan().any()):
        raise InputError.of(
            "predictor",
            got="scores with NaN",
            expected="numbers",
            fix="Find their source: the argmax would take NaN for the best class.",
        )
    return labels.argmax(0)
