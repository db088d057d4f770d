"""The starts of the demonstration: prototypes of another drive, and true labels with noise.

The scores of the first come from a CNN, features and attention of both from a vision transformer.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lpprop._core.convert import as_image
from lpprop.backbones import Backbone
from lpprop.evaluation import Start
from lpprop.evaluation.analyses import patch_oracle, relabel
from lpprop.evaluation.fingerprints import hash_texts, model_fingerprint
from lpprop.evaluation.label_maps import IGNORED
from lpprop.evaluation.task import Samples
from lpprop.refiners import bilinear_upsample

GRID = (26, 35)  # patches, with the aspect ratio of 480 x 360 pixels
SCALE = 50.0  # of the cosines, before their softmax
SHARE = 0.4  # of the patches that are relabelled


@dataclass(frozen=True)
class Drive:
    """The images of one drive, the first so many, evenly spread."""

    whole: Samples
    prefix: str
    count: int

    @property
    def name(self) -> str:
        return self.prefix

    @property
    def class_names(self) -> Sequence[str]:
        return self.whole.class_names

    @property
    def numbers(self) -> list[int]:
        own = [i for i, name in enumerate(self.whole.names) if name.startswith(self.prefix)]
        count = min(self.count, len(own))
        return [own[i * len(own) // count] for i in range(count)]

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> Any:
        return self.whole[self.numbers[index]]


class Affinity:
    """Features and attention of an image that is resized to the grid."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone

    def __call__(self, sample: Any) -> dict[str, Tensor]:
        image = resized(sample, self.backbone)
        with torch.no_grad():
            seen = self.backbone(image)
        # The heads are averaged here, and not once per setting.
        attention = seen.attention.mean(1) if seen.attention.ndim == 4 else seen.attention
        return {"feats": seen.feats, "attention": attention, "image": image}

    def fingerprint(self) -> dict[str, Any]:
        return model_fingerprint(self.backbone)


class PrototypeStart:
    """Probabilities of the classes by the cosines of patches with prototypes of another drive."""

    def __init__(self, scorer: Backbone, affinity: Affinity, others: Drive) -> None:
        self.scorer, self.affinity = scorer, affinity
        total = torch.zeros(len(others.class_names), 1)
        for index in range(len(others)):
            sample = others[index]
            total = total + torch.einsum(
                "cyx,dyx->cd", true_shares(sample, others), self._see(sample)
            )
        self.prototypes = F.normalize(total, dim=1)

    def __call__(self, sample: Any) -> Start:
        cosines = torch.einsum("cd,dyx->cyx", self.prototypes, self._see(sample))
        return Start((SCALE * cosines).softmax(0)[None], **self.affinity(sample))

    def fingerprint(self) -> dict[str, Any]:
        return {
            "affinity": self.affinity.fingerprint(),
            "prototypes": hash_texts(map(str, self.prototypes.flatten().tolist())),
        }

    def _see(self, sample: Any) -> Tensor:
        with torch.no_grad():
            feats = self.scorer(resized(sample, self.scorer)).feats
        # It resizes the image to whole cells of its own; both grids span it from edge to edge.
        return F.normalize(bilinear_upsample(feats, GRID)[0], dim=0)


class RelabelledStart:
    """The true labels of patches, a share of them relabelled at random."""

    def __init__(self, affinity: Affinity, drive: Drive) -> None:
        self.affinity, self.drive = affinity, drive

    def __call__(self, sample: Any) -> Start:
        noisy = relabel(true_shares(sample, self.drive), SHARE, zlib.crc32(sample.name.encode()))
        return Start(noisy[None], **self.affinity(sample))

    def fingerprint(self) -> dict[str, Any]:
        return {"affinity": self.affinity.fingerprint(), "share": SHARE}


def resized(sample: Any, backbone: Backbone) -> Tensor:
    """The image at the size at which its patches are the grid."""
    size = tuple(cells * backbone.patch_size for cells in GRID)
    pixels = as_image(sample.image, torch.empty(0))
    return F.interpolate(pixels, size, mode="bilinear", antialias=True).clamp(0, 1)


def true_shares(sample: Any, drive: Drive, side: int = 14) -> Tensor:
    """The share of each class in each patch."""
    gt = torch.as_tensor(sample.gt).float()[None, None]
    seen = F.interpolate(gt, tuple(cells * side for cells in GRID), mode="nearest")[0, 0].long()
    return patch_oracle(seen, side, len(drive.class_names), ignore_index=IGNORED)
