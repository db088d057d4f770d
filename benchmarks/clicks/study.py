"""What is measured: methods from clicks, on streets and photographs that chose no setting."""

import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor

import lpprop
from lpprop.inputs.superpixels import slic

from ..transformer.scenes import DRIVES, PHOTOGRAPHS, Picture, of_scene, pictures
from ..transformer.store import Store
from ..transformer.views import CNN, Backbones, View
from .simulated import Clicked, at_random, centres, corrected, score, shown

STREETS = DRIVES[1]  # the settings were chosen on pictures of the other drive
TESTED = {STREETS: 6, PHOTOGRAPHS: 8}
PER_CLASS = (1, 3, 10)
MORE = (0, 5, 10)  # clicks after the first one of each class, set where the result is worst
Found = dict[str, Any]
#: Scores (1, C, h, w) at the picture's size or on a grid, of what is seen and its clicks.
Way = Callable[["Seen", Clicked], Tensor]


class Seen:
    """A picture, its features, and what is made of it once."""

    def __init__(self, picture: Picture, store: Store, backbones: Backbones) -> None:
        view = View(picture, store, backbones)
        self.gt, self.image, self.size = picture.gt, picture.image, picture.size
        self.classes = len(shown(picture.gt))
        self.feats = {name: view.feats(name) for name in ("token", CNN)}
        self.attention = view.attention("query-key last")
        self.regions = slic(picture.image)
        self.name = picture.name

    def seeds(self, clicked: Clicked, feats: str) -> Tensor:
        grid = self.feats[feats].shape
        return lpprop.seed_logits(
            *clicked, self.size, classes=self.classes, grid=(grid[2], grid[3])
        )


def refined(method: Any, feats: str = "token", **options: Any) -> Way:
    """The way of `lpprop.refine`."""

    def run(seen: Seen, clicked: Clicked) -> Tensor:
        given = {name: getattr(seen, name) for name in ("attention", "regions") if name in options}
        return lpprop.refine(
            seen.seeds(clicked, feats), seen.feats[feats], seen.image, size=seen.size,
            method=method, **options | given,
        )  # fmt: skip

    return run


def prototypes(feats: str) -> Way:
    """The cosine with the mean feature of each class's clicked patches."""

    def run(seen: Seen, clicked: Clicked) -> Tensor:
        labels = torch.full((1, *seen.size), -1)
        for (row, column), label in zip(*clicked, strict=True):
            labels[0, row, column] = label
        means = lpprop.prototypes(seen.feats[feats], labels, classes=seen.classes)
        return lpprop.prototype_logits(seen.feats[feats], means)

    return run


def nearest(seen: Seen, clicked: Clicked) -> Tensor:
    """Minus the distance to the nearest click of each class."""
    scores = []
    for number in range(seen.classes):
        free = np.ones(seen.size, dtype=bool)
        for (row, column), label in zip(*clicked, strict=True):
            free[row, column] &= label != number
        scores.append(-ndimage.distance_transform_edt(free))
    return torch.from_numpy(np.stack(scores))[None].float()


_STEP = lpprop.PatchPropagation(k=50, gamma="auto", max_iter=100, patch_size=14)
_SEEN: dict[str, Any] = {"feats_from": "dinov2"}
WAYS: dict[str, Way] = {
    "nearest click": nearest,
    "prototypes": prototypes("token"),
    "region_vote": refined("region_vote", regions=True),
    "optimal_path": refined("optimal_path", attention=True),
    "max_velocity": refined("max_velocity", attention=True),
    "auto": refined("auto", **_SEEN),
    "lposs": refined("lposs", **_SEEN),
    "lposs+": refined("lposs+", **_SEEN),
    "lposs+regions": refined("lposs+regions", regions=True, **_SEEN),
    "clicks": refined("clicks", **_SEEN),
    "clicks, patches alone": refined(lpprop.Chain(_STEP, lpprop.BilinearUpsample())),
    "clicks, no shares": refined(
        lpprop.Chain(_STEP, lpprop.BilinearUpsample(), lpprop.PixelPropagation(alpha=0.99))
    ),
    "prototypes, CNN": prototypes(CNN),
    "lposs+, CNN": refined("lposs+", CNN, gamma=3.0, **_SEEN),
    "clicks, CNN": refined("clicks", CNN, **_SEEN),
}
CORRECTED = ("prototypes", "max_velocity", "auto", "lposs+", "clicks")


def predicted(scores: Tensor, size: tuple[int, int]) -> npt.NDArray[np.int64]:
    labels = lpprop.bilinear_upsample(scores, size).argmax(1)[0]
    found: npt.NDArray[np.int64] = labels.numpy()
    return found


def run(weights: Path, streets: Path, camvid: Path, bsds: Path, out: Path) -> Found:
    """Everything, per scene."""
    store, backbones = Store(out / "tensors"), Backbones(weights)
    every = pictures(streets, camvid, bsds)
    found: Found = {"weights": backbones.hashes, "random": {}, "corrected": {}, "seconds": {}}
    for scene, count in TESTED.items():
        of_this = of_scene(every, scene)[1 :: 6 if scene == PHOTOGRAPHS else 4][:count]
        seen = [Seen(picture, store, backbones) for picture in of_this]
        found["random"][scene], found["seconds"][scene] = _random(seen)
        found["corrected"][scene] = {name: _corrected(seen, WAYS[name]) for name in CORRECTED}
    return found


def _random(seen: Sequence[Seen]) -> tuple[Found, Found]:
    scores: Found = {way: {} for way in WAYS}
    seconds = dict.fromkeys(WAYS, 0.0)
    for n in PER_CLASS:
        clicks = [
            at_random(one.gt, n, np.random.default_rng(zlib.crc32(f"{one.name} {n}".encode())))
            for one in seen
        ]
        for way, method in WAYS.items():
            found = []
            for one, clicked in zip(seen, clicks, strict=True):
                began = time.process_time()
                result = method(one, clicked)
                seconds[way] += time.process_time() - began
                found.append(score(one.gt, predicted(result, one.size)))
            scores[way][str(n)] = float(np.mean(found))
    return scores, {way: spent / len(PER_CLASS) / len(seen) for way, spent in seconds.items()}


def _corrected(seen: Sequence[Seen], method: Way) -> Found:
    scores: dict[int, list[float]] = {more: [] for more in MORE}
    for one in seen:
        clicked = centres(one.gt)
        for more in range(max(MORE) + 1):
            labels = predicted(method(one, clicked), one.size)
            if more in scores:
                scores[more].append(score(one.gt, labels))
            clicked = corrected(clicked, one.gt, labels)
    return {str(more): float(np.mean(values)) for more, values in scores.items()}
