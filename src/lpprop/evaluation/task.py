"""The work on one image: label it, time it, count."""

from __future__ import annotations

import hashlib
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from lpprop._core.errors import InputError, collect_warnings
from lpprop._core.label_maps import refuse_masked
from lpprop._core.measure import time_call
from lpprop._core.options import is_listed
from lpprop.evaluation.content import describe_content
from lpprop.evaluation.metrics import SegmentationMetrics
from lpprop.evaluation.pictures import Pictures
from lpprop.evaluation.predictors import LabelledImage, Predictor
from lpprop.inputs.background import find_background

__all__ = [
    "Failure",
    "Job",
    "Outcome",
    "Samples",
    "Task",
    "as_labels",
    "check_dataset",
    "dataset_fingerprint",
]


@runtime_checkable
class Samples(Protocol):
    """What the runner needs of a data set."""

    @property
    def name(self) -> str:
        """The name of the data set."""

    @property
    def class_names(self) -> Sequence[str]:
        """The names of the classes, in the order of the labels."""

    def __len__(self) -> int:
        """Count the samples."""

    def __getitem__(self, index: int) -> Any:
        """Return a `LabelledImage`."""


def check_dataset(dataset: object) -> None:
    """Refuse what is no data set: a sequence of samples, with a name and the names of its classes.

    >>> check_dataset(["a.png"])
    Traceback (most recent call last):
    lpprop.InputError: dataset: got list, expected one or more samples, with a name and a list of
    class_names. Make it by lpprop.evaluation.datasets, or add what is missing.
    """
    got = type(dataset).__name__
    if isinstance(dataset, Samples):
        names = dataset.class_names
        # A set of names has no order, in which the labels could be numbered.
        words = is_listed(names) and all(isinstance(name, str) for name in names)
        if not (words and len(names)):
            got += f" with class_names={reprlib.repr(names)}"
        elif not isinstance(dataset.name, str):
            got += f" with name={dataset.name!r}"
        elif not len(dataset):
            got += " without samples"
        else:
            return
    raise InputError.of(
        "dataset",
        got=got,
        expected="one or more samples, with a name and a list of class_names",
        fix="Make it by lpprop.evaluation.datasets, or add what is missing.",
    )


def dataset_fingerprint(dataset: Samples) -> dict[str, Any]:
    """Describe a data set for JSON, so that one that differs is told apart.

    The description also covers `labels_from` and the samples' `names`, if the data set has them.
    """
    described: dict[str, Any] = {
        "name": dataset.name,
        "samples": len(dataset),
        "class_names": list(map(str, dataset.class_names)),
    }
    if (labels_from := getattr(dataset, "labels_from", None)) is not None:
        described["labels_from"] = str(labels_from)
    if (names := getattr(dataset, "names", None)) is not None:
        listed = "\n".join(map(str, names)).encode(errors="surrogatepass")
        described["names"] = hashlib.sha256(listed).hexdigest()
    return described


#: The index of an image, and the names of the predictors that have not labelled it.
Job = tuple[int, tuple[str, ...]]


@dataclass
class Failure:
    """The reason of a failure, and the exception itself if it was raised in this process.

    Attributes:
        of_sample: whether the sample could not be read, so that it fails for every predictor.
    """

    image: str
    reason: str
    error: BaseException | None = None
    of_sample: bool = False

    def __getstate__(self) -> dict[str, Any]:
        """Leave the exception out: not every exception pickles."""
        return {**vars(self), "error": None}


#: A predictor's name, and the record of the image or the reason why there is none.
Outcome = tuple[str, "dict[str, Any] | Failure"]


@dataclass
class Task:
    """Label images, each by the predictors that have not labelled it, and draw the labels."""

    dataset: Samples
    predictors: Mapping[str, Predictor]
    metrics: SegmentationMetrics
    pictures: Pictures | None = None

    def __call__(self, job: Job) -> list[Outcome]:
        """Return the outcomes of a job."""
        return list(self.run(job))

    def run(self, job: Job) -> Iterator[Outcome]:
        """Yield the outcomes of a job, predictor by predictor."""
        index, names = job
        image = f"image {index}"
        try:
            with collect_warnings(shown=False) as of_sample:
                sample = self.dataset[index]
                image = str(sample.name)
                # Files are read before the clock starts.
                gt, _ = sample.gt, sample.image
                files = describe_content(sample)
        except Exception as error:
            failure = _failure(image, error, of_sample=True)
            yield from ((name, failure) for name in names)
            return
        for name in names:
            try:
                with collect_warnings(shown=False) as of_predictor:
                    labels, seconds = self._time(self.predictors[name], sample)
                    background = self.predictors[name].background
                    counts = self.metrics.update(labels, gt, background=background).to_dict()
                if self.pictures is not None:  # before the record, which says that all is done
                    self.pictures.write(name, sample, labels, background=background)
            except Exception as error:
                yield name, _failure(image, error)
                continue
            yield (
                name,
                {
                    "index": index,
                    "image": image,
                    "seconds": seconds,
                    "warnings": [*of_sample, *of_predictor],
                    "files": files,
                    "metrics": counts,
                },
            )

    def _time(self, predictor: Predictor, sample: LabelledImage) -> tuple[Tensor, float]:
        """Return the labels of a sample, and the seconds that they took."""
        names = self.dataset.class_names
        with torch.no_grad():
            predictor.prepare(sample)
            labels, seconds = time_call(
                lambda: as_labels(predictor(sample), names, background=predictor.background)
            )
            return labels, seconds + predictor.borrowed_seconds


def _failure(image: str, error: Exception, *, of_sample: bool = False) -> Failure:
    return Failure(image, f"{type(error).__name__}: {error}", error, of_sample)


def as_labels(result: Any, class_names: Sequence[str], *, background: bool = False) -> Tensor:
    """Return labels as they are, and the argmax of scores.

    Args:
        result: labels (H, W), or scores (C, H, W).
        class_names: those of the data set.
        background: whether there is one label or channel more, the last: none of these. Where a
            class of the data set is called background, it gets those pixels.

    Raises:
        InputError: another shape, scores with NaN, or a masked array.

    >>> as_labels(torch.eye(2)[:, None], ["cat", "sofa"])
    tensor([[0, 1]])
    >>> as_labels(torch.eye(3)[:, None], ["background", "cat"], background=True)
    tensor([[0, 1, 0]])
    """
    refuse_masked("predictor", result)
    labels, classes = torch.as_tensor(result), len(class_names)
    channels = classes + background
    if labels.ndim == 3 and len(labels) == channels:
        if bool(labels.isnan().any()):
            raise InputError.of(
                "predictor",
                got="scores with NaN",
                expected="numbers",
                fix="Find their source: the argmax would pick NaN as the best class.",
            )
        labels = labels.argmax(0)
    elif labels.ndim != 2:
        raise InputError.of(
            "predictor",
            got=f"a result of shape {tuple(labels.shape)}",
            expected=f"labels (H, W), or scores ({channels}, H, W)",
            fix="Return one item of the batch, scores[0], with a score for each class.",
        )
    own = find_background(class_names) if background else None
    return labels if own is None else torch.where(labels == classes, own, labels)
