"""The starts: the true labels of patches, those with noise, and a linear probe."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from scipy.special import log_softmax
from torch import Tensor

from lpprop.backbones import EfficientNetLite0
from lpprop.evaluation import Start
from lpprop.evaluation.analyses import Cropped, OracleStart, patch_oracle
from lpprop.evaluation.datasets import load_dataset
from lpprop.evaluation.fingerprints import hash_weights
from lpprop.evaluation.task import Samples

CLASSES = 11
PATCH = 16
SHARE = 0.4  # of the patches that are relabelled
Array = npt.NDArray[np.float64]


def images(root: Path) -> Samples:
    """Crop the images to whole cells of the backbone's last map, so that all grids span them."""
    return Cropped(load_dataset("camvid", root), 32)


def oracle(patch_size: int = PATCH) -> OracleStart:
    """True labels averaged over patches, without features: for methods that need none."""
    return OracleStart(CLASSES, patch_size=patch_size)


def relabelled(seed: int = 0, share: float = SHARE) -> OracleStart:
    """True labels of patches, a share of them relabelled at random, with features."""
    return OracleStart(CLASSES, share=share, seed=seed, backbone=EfficientNetLite0())


class Fit(NamedTuple):
    """A linear classifier, and how far the solver was from a minimum."""

    weights: Array  # (D + 1, C), the last row the biases
    gradient: float  # its largest entry


class ProbeStart:
    """Linear classifiers of patch features; each labels images that it was not trained on.

    The images are the frames of one drive in order, each nearly a copy of the one before. So a fold
    is a run of consecutive frames, and no classifier of it sees the `gap` frames on each side.

    Args:
        dataset: in the order of time.
        folds: number of classifiers; each is tested on its share of the images.
        gap: frames on each side of the tested ones that are left out of training.
        penalty: weight of the squared weights beside the mean cross-entropy per patch.
    """

    def __init__(
        self, dataset: Samples, *, folds: int = 4, gap: int = 2, penalty: float = 1e-3
    ) -> None:
        self.dataset, self.folds, self.gap, self.penalty = dataset, folds, gap, penalty
        self.backbone = EfficientNetLite0()

    def __call__(self, sample: Any) -> Start:
        number = next(i for i in range(len(self.dataset)) if self.dataset[i].name == sample.name)
        feats = self.feats[number]
        weights = torch.from_numpy(self.fits[self.fold(number)].weights)
        logits = torch.einsum("dc,dhw->chw", weights, with_bias(feats))
        return Start(logits.float()[None], feats[None])

    def fingerprint(self) -> dict[str, Any]:
        settings = {name: vars(self)[name] for name in ("folds", "gap", "penalty")}
        return {"probe": settings, "images": self.dataset.name, "weights": self._hash}

    def fold(self, number: int) -> int:
        return number * self.folds // len(self.dataset)

    def trained_on(self, fold: int) -> list[int]:
        tested = [i for i in range(len(self.dataset)) if self.fold(i) == fold]
        low, high = tested[0] - self.gap, tested[-1] + self.gap
        return [i for i in range(len(self.dataset)) if not low <= i <= high]

    @cached_property
    def fits(self) -> list[Fit]:
        """The classifier of each fold."""
        x = [with_bias(feats).flatten(1).T.numpy() for feats in self.feats]
        y = [oracle.flatten(1).T.double().numpy() for oracle in self._oracles()]
        train = [self.trained_on(fold) for fold in range(self.folds)]
        return [
            logistic_regression(
                np.concatenate([x[i] for i in part]),
                np.concatenate([y[i] for i in part]),
                self.penalty,
            )
            for part in train
        ]

    @cached_property
    def feats(self) -> list[Tensor]:
        """The features (D, h, w) of each image."""
        return [self._seen(self.dataset[i].image) for i in range(len(self.dataset))]

    def _seen(self, image: Any) -> Tensor:
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255
        with torch.no_grad():
            return self.backbone(pixels).feats[0]

    def _oracles(self) -> Iterator[Tensor]:
        for i in range(len(self.dataset)):
            yield patch_oracle(self.dataset[i].gt, PATCH, len(self.dataset.class_names))

    @cached_property
    def _hash(self) -> str:
        return hash_weights(self.backbone)


def with_bias(feats: Tensor) -> Tensor:
    """Scale features to about unit deviation and append a constant, in float64."""
    scaled = feats.double() * len(feats) ** 0.5
    return F.pad(scaled, (0, 0, 0, 0, 0, 1), value=1.0)


def logistic_regression(x: Array, y: Array, penalty: float) -> Fit:
    """Multinomial logistic regression by L-BFGS from zero, in float64.

    Minimises the mean over patches of -sum_c y_c log softmax(x W)_c, plus penalty / 2 |W|^2 of all
    weights but the biases, the last row. y holds the share of each class in each patch; patches
    without a label have zeros, and are left out.
    """
    known = y.sum(1) > 0
    x, y = x[known], y[known]
    held = np.ones((x.shape[1], 1))
    held[-1] = 0

    def loss(flat: Array) -> tuple[float, Array]:
        weights = flat.reshape(x.shape[1], y.shape[1])
        log_p = log_softmax(x @ weights, axis=1)
        gradient = x.T @ (np.exp(log_p) - y) / len(x) + penalty * held * weights
        value = -(y * log_p).sum() / len(x) + penalty / 2 * (held * weights**2).sum()
        return value, gradient.ravel()

    options = {"maxiter": 2000, "gtol": 1e-6, "ftol": 0.0}
    found = minimize(
        loss, np.zeros(x.shape[1] * y.shape[1]), jac=True, method="L-BFGS-B", options=options
    )
    return Fit(found.x.reshape(x.shape[1], y.shape[1]), float(np.abs(found.jac).max()))
