"""The start of the demonstration: patches that are compared with prototypes of another drive."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lpprop._core.convert import as_image
from lpprop.backbones import Backbone
from lpprop.evaluation import Start
from lpprop.evaluation.analyses import patch_oracle
from lpprop.evaluation.fingerprints import hash_texts, model_fingerprint
from lpprop.evaluation.label_maps import IGNORED
from lpprop.evaluation.task import Samples

GRID = (26, 35)  # patches, with the aspect ratio of 480 x 360 pixels
SCALE = 50.0  # of the cosines, before their softmax


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


class PrototypeStart:
    """Probabilities of the classes by the cosines of patches with prototypes of another drive."""

    def __init__(self, backbone: Backbone, others: Drive) -> None:
        self.backbone, self.others = backbone, others
        size = backbone.patch_size
        self.size = (GRID[0] * size, GRID[1] * size)
        classes = len(others.class_names)
        total = torch.zeros(classes, 1)
        for index in range(len(others)):
            sample = others[index]
            feats = F.normalize(self._see(sample)[1].feats[0], dim=0)
            gt = torch.as_tensor(sample.gt).float()[None, None]
            seen = F.interpolate(gt, self.size, mode="nearest")[0, 0].long()
            shares = patch_oracle(seen, size, classes, ignore_index=IGNORED)
            total = total + torch.einsum("cyx,dyx->cd", shares, feats)
        self.prototypes = F.normalize(total, dim=1)

    def __call__(self, sample: Any) -> Start:
        image, seen = self._see(sample)
        cosines = torch.einsum("cd,dyx->cyx", self.prototypes, F.normalize(seen.feats[0], dim=0))
        probabilities = (SCALE * cosines).softmax(0)[None]
        # The heads are averaged here, and not once per setting.
        attention = seen.attention.mean(1) if seen.attention.ndim == 4 else seen.attention
        return Start(probabilities, seen.feats, attention=attention, image=image)

    def fingerprint(self) -> dict[str, Any]:
        return {
            "backbone": model_fingerprint(self.backbone),
            "prototypes": hash_texts(map(str, self.prototypes.flatten().tolist())),
        }

    def _see(self, sample: Any) -> tuple[Tensor, Any]:
        pixels = as_image(sample.image, torch.empty(0))
        image = F.interpolate(pixels, self.size, mode="bilinear", antialias=True).clamp(0, 1)
        with torch.no_grad():
            return image, self.backbone(image)
