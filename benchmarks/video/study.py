"""What is measured: mIoU and label changes of one clip, frame by frame and in windows of time."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import lpprop
from lpprop import video
from lpprop.evaluation import SegmentationMetrics, label_changes, optical_flow
from lpprop.evaluation.temporal import Flow

from ..transformer.scenes import CLASSES, DRIVES, STRETCH, Picture
from ..transformer.starts import Labelled, scores
from ..transformer.store import Store
from ..transformer.views import PATCH, Backbones, View

STARTS = ("CNN prototypes, 4", "DINOv2 prototypes, 4", "probe", "relabelled 40 %")
BILINEAR, MEAN, TRUTH = "bilinear", "mean of the starts", "the true labels"
SETTINGS: dict[str, dict[str, Any]] = {
    "auto": {"method": "auto", "patch_size": PATCH},
    "LPOSS, k 10, γ 7, α 0.8": {"k": 10, "gamma": 7.0, "alpha": 0.8},
    "LPOSS, k 50, γ 7": {"k": 50, "gamma": 7.0},
}
FEW, MANY = list(SETTINGS)[1:]
WINDOWS = (1, 3, 5)
SIGMAS = (0.0, 0.3, 1.0, 3.0)  # per frame
SIGMA_WINDOW = 3
#: How many neighbours a patch has in all frames together, where they are not counted per frame.
IN_ALL = {"LPOSS, k 50 in all, γ 7": (50, {"gamma": 7.0})}
Found = dict[str, Any]


@dataclass
class Clip:
    """The stretch of CamVid, and what the methods are given of it."""

    weights: Path
    streets: Path
    camvid: Path
    out: Path

    @cached_property
    def backbones(self) -> Backbones:
        return Backbones(self.weights)

    @cached_property
    def views(self) -> list[View]:
        return self._views(self.camvid, STRETCH)

    @cached_property
    def labelled(self) -> Labelled:
        return Labelled(
            {
                drive: [x for x in self._views(self.streets) if x.picture.scene == drive]
                for drive in DRIVES
            }
        )

    def _views(self, folder: Path, scene: str | None = None) -> list[View]:
        store = Store(self.out / "tensors")
        return [
            View(
                Picture(
                    scene or file.name.split("_")[0], file.stem, file, folder / "labels" / file.name
                ),
                store,
                self.backbones,
            )
            for file in sorted((folder / "images").iterdir())
        ]

    @cached_property
    def flows(self) -> list[Flow]:
        frames = [view.picture.pixels for view in self.views]
        return [optical_flow(before, after) for before, after in pairwise(frames)]

    def logits(self, start: str) -> list[Tensor]:
        return [scores(view, start, self.labelled, "probabilities") for view in self.views]

    def refine(self, logits: Sequence[Tensor], window: int, **options: Any) -> list[Tensor]:
        """The labels of each frame."""
        given = {"method": "lposs", "feats_from": "dinov2", "patch_size": PATCH} | options
        if given["method"] == "auto":
            given.pop("feats_from")
        refined = video.refine(
            [view.image() for view in self.views], logits,
            [view.feats("token") for view in self.views],
            window=window, size=self.views[0].picture.size, **given,
        )  # fmt: skip
        return [x.argmax(1)[0] for x in refined]

    def upsample(self, logits: Sequence[Tensor]) -> list[Tensor]:
        size = self.views[0].picture.size
        return [lpprop.bilinear_upsample(x, size).argmax(1)[0] for x in logits]

    def measure(self, work: Callable[[], Sequence[Any]]) -> Found:
        """What the labels are worth, and the seconds per frame that it takes to make them."""
        began = time.process_time()
        labels = work()
        seconds = (time.process_time() - began) / len(labels)
        counts = SegmentationMetrics(CLASSES)
        for one, view in zip(labels, self.views, strict=True):
            counts.update(one, view.picture.gt)
        return {"miou": counts.miou, "changes": self.changes(labels), "seconds": seconds}

    def changes(self, labels: Sequence[Any]) -> float:
        """The share of labels that change along the flow, over all pairs of frames."""
        counts = [
            label_changes(before, after, flow)
            for (before, after), flow in zip(pairwise(labels), self.flows, strict=True)
        ]
        return sum(x.changed for x in counts) / sum(x.compared for x in counts)


def average(logits: Sequence[Tensor], window: int) -> list[Tensor]:
    """The mean of the starts of the frames around each: what needs no graph, and no flow."""
    return list(video.clips.slide(logits, window, lambda near, _: torch.stack(list(near)).mean(0)))


def run(clip: Clip) -> Found:
    found: Found = {
        "frames": len(clip.views),
        "models": clip.backbones.hashes,
        "visible": sum(float(flow.visible.mean()) for flow in clip.flows) / len(clip.flows),
        "truth": clip.changes([view.picture.gt for view in clip.views]),
        "windows": {}, "sigmas": {},
    }  # fmt: skip
    for start in STARTS:
        logits = clip.logits(start)
        rows: Found = {BILINEAR: {"1": clip.measure(lambda x=logits: clip.upsample(x))}}
        rows[MEAN] = {
            str(T): clip.measure(lambda x=logits, T=T: clip.upsample(average(x, T)))
            for T in WINDOWS[1:]
        }
        for name, options in SETTINGS.items():
            rows[name] = {
                str(T): clip.measure(lambda x=logits, T=T, o=options: clip.refine(x, T, **o))
                for T in WINDOWS
            }
        for name, (k, options) in IN_ALL.items():
            rows[name] = {
                str(T): clip.measure(
                    lambda x=logits, T=T, o=options, k=k: clip.refine(x, T, k=k // T, **o)
                )
                for T in WINDOWS[1:]
            }
        found["windows"][start] = rows
        found["sigmas"][start] = {
            name: {
                f"{sigma:g}": clip.measure(
                    lambda x=logits, s=sigma, o=SETTINGS[name]: clip.refine(
                        x, SIGMA_WINDOW, sigma_time=s, **o
                    )
                )
                for sigma in SIGMAS
            }
            for name in (FEW, MANY)
        }
        print(start, flush=True)
    return found
