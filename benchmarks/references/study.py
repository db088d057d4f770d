"""What is measured: references of one drive, tested on the other, both ways round."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import lpprop
from lpprop.evaluation.metrics import SegmentationMetrics
from lpprop.inputs.matching import match
from lpprop.inputs.prototypes import class_means
from lpprop.inputs.superpixels import felzenszwalb

from ..transformer.scenes import CLASSES, DRIVES, IGNORED, OTHER, Picture
from ..transformer.starts import spread
from ..transformer.store import Store
from ..transformer.views import PATCH, Backbones, View
from ..transformer.visits import RATIO

IMAGES = (1, 5, 20)  # labelled, spread evenly over a drive
TESTED = 12  # of the other drive, spread likewise
TEMPERATURES = (0.005, 0.01, 0.02, 0.05, 0.1)
SCALES = (20.0, 50.0, 100.0)
CHOSEN_ON = DRIVES[0]  # the drive of whose references settings were chosen, tested on the other
COSINE = {"matching": "cosine", "reduce": "max", "temperature": 0.02}
RANK = {**COSINE, "matching": "rank"}
#: How patches or regions are scored: where, and the options of `match`.
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "prototypes, patches": ("prototypes", COSINE),
    "best cosine, patches": ("patches", COSINE),
    "mean cosine, patches": ("patches", {**COSINE, "reduce": "mean"}),
    "rank, patches": ("patches", RANK),
    "best cosine, regions": ("regions", COSINE),
    "rank, regions": ("regions", RANK),
}
#: The starts that are refined: images, and the way.
REFINED = (
    (1, "best cosine, patches"), (5, "best cosine, patches"), (20, "best cosine, patches"),
    (20, "best cosine, regions"), (20, "rank, patches"),
)  # fmt: skip
Found = dict[str, Any]


def new_counts() -> SegmentationMetrics:
    """What adds up over the pictures of a drive; boundaries are 3 pixels wide."""
    return SegmentationMetrics(CLASSES, dilation_ratio=RATIO)


def shown(counts: SegmentationMetrics) -> dict[str, float]:
    return {"miou": counts.miou, "boundary": counts.mean_boundary_iou}


def street_pictures(streets: Path) -> dict[str, list[Picture]]:
    """The pictures of both drives, in the order of time."""
    found: dict[str, list[Picture]] = {drive: [] for drive in DRIVES}
    for file in sorted((streets / "images").iterdir()):
        labels = streets / "labels" / f"{file.stem}.png"
        found[file.name.split("_")[0]].append(
            Picture(file.name.split("_")[0], file.stem, file, labels)
        )
    return found


class Study:
    """Runs it on views, whose features are kept in files."""

    def __init__(self, weights: Path, streets: Path, out: Path) -> None:
        store, backbones = Store(out / "tensors"), Backbones(weights)
        self.views = {
            drive: [View(picture, store, backbones) for picture in pictures]
            for drive, pictures in street_pictures(streets).items()
        }
        self.hashes = backbones.hashes
        self.made: dict[tuple[str, int], list[Tensor]] = {}

    def run(self) -> Found:
        tested = {drive: self._spread(drive, TESTED) for drive in DRIVES}
        return {
            "pictures": {drive: len(views) for drive, views in self.views.items()},
            "models": {"DINOv2": self.hashes["DINOv2"]},
            "references": {
                drive: {str(n): sum(map(len, self.sets(drive, n))) for n in IMAGES}
                for drive in DRIVES
            },
            "absent": {
                drive: {str(n): sum(not len(x) for x in self.sets(drive, n)) for n in IMAGES}
                for drive in DRIVES
            },
            "starts": self._both(tested, [(n, way) for n in IMAGES for way in WAYS], self._starts),
            "refined": self._both(tested, list(REFINED), self._refine),
            "temperatures": self._temperatures(tested[OTHER[CHOSEN_ON]]),
            "scales": self._scales(tested[OTHER[CHOSEN_ON]]),
        }

    def _spread(self, drive: str, count: int) -> list[View]:
        views = self.views[drive]
        return [views[i] for i in spread(len(views), count)]

    def sets(self, drive: str, images: int) -> list[Tensor]:
        """One reference (K_c, D) of each class from each labelled image that shows it."""
        if (drive, images) not in self.made:
            self.made[drive, images] = self._make(drive, images)
        return self.made[drive, images]

    def _make(self, drive: str, images: int) -> list[Tensor]:
        found: list[list[Tensor]] = [[] for _ in range(CLASSES)]
        for view in self._spread(drive, images):
            gt = torch.from_numpy(view.picture.gt.astype(np.int64))[None]
            means, there = class_means(view.feats("token"), gt, CLASSES, IGNORED)
            for number in there[0].nonzero().flatten().tolist():
                found[number].append(F.normalize(means[0, number], dim=0))
        width = self.views[drive][0].feats("token").shape[1]
        return [torch.stack(x) if x else torch.zeros(0, width) for x in found]

    def score(self, view: View, drive: str, images: int, way: str, **options: Any) -> Tensor:
        """Scores (1, C, ...) on patches or pixels; classes without references are below all."""
        where, given = WAYS[way]
        sets = self.sets(drive, images)
        known = [number for number, one in enumerate(sets) if len(one)]
        if where == "prototypes":
            sets = [F.normalize(one.sum(0, keepdim=True), dim=1) for one in sets]
        chosen, given = [sets[number] for number in known], given | options
        feats = view.feats("token")
        if where == "regions":
            found = lpprop.classify_regions(feats, self.regions(view), chosen, **given)
        else:
            rows = match(feats.flatten(2)[0].T, chosen, **given)
            found = rows.T.unflatten(1, feats.shape[2:])[None]
        full = found.new_full((1, CLASSES, *found.shape[2:]), float(found.min()) - 1)
        full[:, known] = found
        return full

    def regions(self, view: View) -> Tensor:
        """Felzenszwalb's regions of the picture itself."""
        return view.once("felzenszwalb", lambda: felzenszwalb(view.picture.image))

    def _both(
        self,
        tested: Mapping[str, list[View]],
        rows: list[tuple[int, str]],
        ways: Callable[[View, str, int, str], Mapping[str, Tensor]],
    ) -> Found:
        """By images, way of scoring and method: the scores of references of each drive."""
        found: Found = {}
        for images, start in rows:
            for drive in DRIVES:
                counts: dict[str, SegmentationMetrics] = {}
                for view in tested[OTHER[drive]]:
                    for name, labels in ways(view, drive, images, start).items():
                        counts.setdefault(name, new_counts()).update(labels, view.picture.gt)
                for name, one in counts.items():
                    at = found.setdefault(f"{images} {start}", {}).setdefault(name, {})
                    at[drive] = shown(one)
                print(images, start, drive, flush=True)
        return found

    def _starts(self, view: View, drive: str, images: int, way: str) -> dict[str, Tensor]:
        return {"bilinear": self._labels(view, self.score(view, drive, images, way))}

    def _refine(self, view: View, drive: str, images: int, way: str) -> dict[str, Tensor]:
        scores = self._probabilities(view, drive, images, way, 50.0)
        vote = lpprop.refine(
            scores, image=view.picture.image, regions=self.regions(view), method="region_vote"
        )
        return {
            "bilinear": self._labels(view, scores),
            "auto": self._propagate(view, scores, "auto"),
            "LPOSS+": self._propagate(view, scores, "lposs+"),
            "max velocity": lpprop.refine(
                scores, image=view.image(), attention=view.attention("query-key last"),
                size=view.picture.size, method="max_velocity",
            ).argmax(1)[0],
            "region vote": vote.argmax(1)[0],
        }  # fmt: skip

    def _propagate(self, view: View, scores: Tensor, method: str) -> Tensor:
        chain = lpprop.presets.by_name(method, feats_from="dinov2", patch_size=PATCH)
        return lpprop.refine(
            scores, view.feats("token"), view.image(), method=chain, size=view.picture.size
        ).argmax(1)[0]

    def _probabilities(self, view: View, drive: str, images: int, way: str, scale: float) -> Tensor:
        scores = self.score(view, drive, images, way)
        if WAYS[way][0] == "regions":
            scores = F.adaptive_avg_pool2d(scores, view.feats("token").shape[2:])
        factor = 1.0 if WAYS[way][1]["matching"] == "rank" else scale
        return (factor * scores).softmax(1)

    @staticmethod
    def _labels(view: View, scores: Tensor) -> Tensor:
        return lpprop.bilinear_upsample(scores, view.picture.size).argmax(1)[0]

    def _temperatures(self, tested: list[View]) -> Found:
        found: Found = {}
        for way in ("rank, patches", "rank, regions"):
            for temperature in TEMPERATURES:
                counts = new_counts()
                for view in tested:
                    scores = self.score(view, CHOSEN_ON, 20, way, temperature=temperature)
                    counts.update(self._labels(view, scores), view.picture.gt)
                found.setdefault(way, {})[str(temperature)] = shown(counts)
        return found

    def _scales(self, tested: list[View]) -> Found:
        found: Found = {}
        for scale in SCALES:
            counts = new_counts()
            for view in tested:
                scores = self._probabilities(view, CHOSEN_ON, 20, "best cosine, patches", scale)
                counts.update(self._propagate(view, scores, "auto"), view.picture.gt)
            found[f"{scale:g}"] = shown(counts)
        return found
