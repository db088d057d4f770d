"""The choices that DSLO leaves open, by mIoU: `python -m benchmarks.discrepancy_choices FOLDER`.

FOLDER is that of `benchmarks.camvid`, whose images are taken whole here. The script prints the
tables of docs/discrepancy.md.

Three starts on 16-pixel patches, with features of EfficientNet-Lite0:

- relabelled: each patch's most frequent true label, 40 % of the patches relabelled at random;
- probe: ridge regression from features to the patches' labels, fitted on the other half of the
  images, like a linear probe;
- weak probe: the same, fitted on a single image of the other half.
"""

import argparse
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import lpprop
from lpprop.backbones import EfficientNetLite0
from lpprop.evaluation.datasets import load_dataset
from lpprop.evaluation.metrics import confusion_matrix

from .camvid.starts import CLASSES, SHARE


class Scenes(NamedTuple):
    """All images, with their labels and features."""

    images: Tensor  # (n, 3, H, W) in [0, 1]
    labels: Tensor  # (n, H, W), CLASSES or more for pixels without a label
    feats: Tensor  # (n, D, h, w)
    shares: Tensor  # (n, CLASSES, h, w): how much of each patch has each label


def load_labelled(folder: Path) -> tuple[Tensor, Tensor]:
    """Load all images of a folder and their labels."""
    dataset = load_dataset("camvid", folder)
    samples = [dataset[i] for i in range(len(dataset))]
    images = torch.from_numpy(np.stack([sample.image for sample in samples])).movedim(-1, 1) / 255
    labels = torch.from_numpy(np.stack([sample.gt for sample in samples])).long()
    return images, labels


def load(folder: Path) -> Scenes:
    images, labels = load_labelled(folder)
    backbone = EfficientNetLite0()
    feats = torch.cat([backbone(image).feats for image in images.split(1)])
    one_hot = F.one_hot(labels.clamp(max=CLASSES)).movedim(-1, 1).float()
    shares = F.interpolate(one_hot, feats.shape[-2:], mode="area")[:, :CLASSES]
    return Scenes(images, labels, feats, shares)


def relabelled(scenes: Scenes) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    labels = scenes.shares.argmax(1)
    wrong = torch.rand(labels.shape, generator=generator) < SHARE
    random = torch.randint(0, CLASSES, labels.shape, generator=generator)
    return F.one_hot(torch.where(wrong, random, labels)).movedim(-1, 1).float()


def probe(scenes: Scenes, fitted_on: int | None = None) -> Tensor:
    x = scenes.feats.flatten(2).mT.double()
    x = torch.cat([x, torch.ones_like(x[..., :1])], -1)
    y = scenes.shares.flatten(2).mT.double()
    logits = torch.empty_like(y)
    for half in (0, 1):
        a, b = x[half::2][:fitted_on].flatten(0, 1), y[half::2][:fitted_on].flatten(0, 1)
        ridge = 10 * torch.eye(a.shape[1], dtype=a.dtype)
        logits[1 - half :: 2] = x[1 - half :: 2] @ torch.linalg.solve(a.T @ a + ridge, a.T @ b)
    return logits.mT.reshape(scenes.shares.shape).float()


def mean_iou(predicted: Tensor, labels: Tensor) -> float:
    counts = confusion_matrix(predicted.flatten(0, 1), labels.flatten(0, 1), CLASSES)
    both = counts.diagonal()
    return 100 * float((both / (counts.sum(0) + counts.sum(1) - both)).mean())


class Study:
    """The mIoU of methods on all starts."""

    def __init__(self, scenes: Scenes) -> None:
        self.scenes = scenes
        self.starts = {
            "relabelled": relabelled(scenes),
            "probe": probe(scenes),
            "weak probe": probe(scenes, fitted_on=1),
        }
        self.attention = cache(partial(lpprop.attention_from_features, scenes.feats))

    def score(
        self, method: str | Callable[..., Tensor], temperature: float = 0.1, **options: object
    ) -> list[float]:
        attention = self.attention(temperature)
        found = []
        for logits in self.starts.values():
            predicted = [
                lpprop.refine(*(z, None, image), attention=maps, method=method, **options).argmax(1)
                for z, image, maps in zip(
                    logits.split(1), self.scenes.images.split(1), attention.split(1), strict=True
                )
            ]
            found.append(mean_iou(torch.cat(predicted), self.scenes.labels))
        return found

    def table(self, title: str, rows: dict[str, Callable[[], list[float]]]) -> None:
        print(f"\n| {title} | " + " | ".join(self.starts) + " | mean |")
        print("|---|" + "--:|" * (len(self.starts) + 1))
        for name, row in rows.items():
            values = row()
            cells = [f"{value:.1f}" for value in (*values, sum(values) / len(values))]
            print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def bilinear(logits: Tensor, **_: object) -> Tensor:
    return logits


def negated(scores: Tensor, **_: object) -> Tensor:
    return -scores


def ties(study: Study, criterion: str) -> list[float]:
    """Percentage of the patches at which several classes share the highest velocity."""
    found = []
    for logits in study.starts.values():
        f = lpprop.class_distribution(logits, early_rejection=True)
        velocity = lpprop.max_velocity(f, study.attention(0.1), criterion=criterion)
        found.append(
            100 * float(((velocity == velocity.amax(1, keepdim=True)).sum(1) > 1).float().mean())
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.discrepancy_choices")
    parser.add_argument("folder", type=Path, help="with images/ and labels/")
    study = Study(load(parser.parse_args().folder))
    score = study.score

    def many(method: str, option: str, values: list) -> dict:
        return {f"`{value}`": partial(score, method, **{option: value}) for value in values}

    start = lpprop.ClassDistribution(early_rejection=True)
    upsample = lpprop.JointBilateralUpsample()
    plain = lpprop.Chain(
        lpprop.ClassDistribution(nms=0), lpprop.KLDiscrepancy(), lpprop.BilinearUpsample()
    )
    suppressed = lpprop.Chain(start, lpprop.KLDiscrepancy(), lpprop.BilinearUpsample())

    study.table(
        "parts",
        {
            "logits, bilinear": lambda: score(bilinear),
            "KL without NMS, bilinear": lambda: score(plain),
            "KL, bilinear": lambda: score(suppressed),
            "KL, joint bilateral": lambda: score("kl"),
            "optimal path": lambda: score("optimal_path"),
            "maximum velocity": lambda: score("max_velocity"),
            "fusion of both": lambda: score("fusion"),
        },
    )
    for method in ("optimal_path", "max_velocity"):
        study.table(
            f"{method}: temperature of the attention from features",
            many(method, "temperature", [0.02, 0.05, 0.07, 0.1, 0.15, 0.2]),
        )
    study.table(
        "optimal_path: norm", many("optimal_path", "norm", ["none", "image", "class", "sum"])
    )

    def signed(complement: bool, *then: Callable[..., Tensor]) -> lpprop.Chain:
        # Without early rejection: a rejected class's zeros would win against negative scores.
        path = lpprop.OptimalPath(norm="image", complement=complement)
        return lpprop.Chain(lpprop.ClassDistribution(), path, *then, upsample)

    study.table(
        "optimal_path: cost, and the sign of the path",
        {
            "attention": lambda: score(signed(False)),
            "attention, negated": lambda: score(signed(False, negated)),
            "1 - attention, from its far end": lambda: score(signed(True)),
            "1 - attention, as it stands": lambda: score(signed(True, negated)),
        },
    )
    study.table(
        "optimal_path: complement, with early rejection",
        many("optimal_path", "complement", [False, True]),
    )
    study.table(
        "optimal_path: epsilon", many("optimal_path", "epsilon", [1e-3, 1e-2, 0.1, 1.0, 10.0])
    )
    study.table(
        "max_velocity: tau", many("max_velocity", "tau", [0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9])
    )
    study.table(
        "max_velocity: criterion",
        {
            "`arrival`": lambda: score("max_velocity"),
            "`step`, tau 0.3": lambda: score("max_velocity", criterion="step"),
            "`step`, tau 1e-5": lambda: score("max_velocity", criterion="step", tau=1e-5),
            "% of patches tied, `arrival`": lambda: ties(study, "arrival"),
            "% of patches tied, `step`": lambda: ties(study, "step"),
        },
    )
    for method in ("optimal_path", "max_velocity"):
        study.table(
            f"{method}: confidence and threshold",
            {
                f"`{confidence}`, `{threshold}`, nms {nms}, logit_scale {scale}": partial(
                    score, method, confidence=confidence, threshold=threshold, nms=nms,
                    logit_scale=scale,
                )
                for confidence, threshold, nms, scale in (
                    ("softmax", "relative", 0.9, 1.0),
                    ("softmax", "relative", 0.9, 5.0),
                    ("softmax", "relative", 0.9, 20.0),
                    ("softmax", "relative", 0.5, 5.0),
                    ("softmax", "relative", 0.0, 1.0),
                    ("softmax", "absolute", 0.9, 20.0),
                    ("softmax", "absolute", 0.5, 10.0),
                    ("minmax", "relative", 0.9, 1.0),
                    ("minmax", "relative", 0.7, 1.0),
                )
            },
        )  # fmt: skip
        study.table(f"{method}: early rejection", many(method, "early_rejection", [True, False]))


if __name__ == "__main__":
    main()
