"""The pictures: two drives and a stretch of CamVid, and photographs with human regions."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

CLASSES = 11
IGNORED = 255
DRIVES = ("0006R0", "0016E5")
STRETCH, PHOTOGRAPHS = "stretch", "photographs"
#: Which drive's labels the starts of a scene may see: never its own.
OTHER = {"0006R0": "0016E5", "0016E5": "0006R0", STRETCH: "0006R0"}
SMALLEST = 0.005  # of a photograph's pixels: regions below it are ignored


@dataclass(frozen=True)
class Sizes:
    """What the backbones see, in pixels; patches have 14."""

    whole: tuple[int, int] = (364, 490)
    wide: tuple[int, int] = (448, 602)
    windows: tuple[tuple[str, int, int], ...] = (("224/112", 224, 112), ("448/224", 448, 224))


TINY = Sizes((56, 70), (84, 112), (("224/112", 56, 28), ("448/224", 84, 42)))


@dataclass(frozen=True)
class Picture:
    """An image with true labels, read when they are asked for."""

    scene: str
    name: str
    image_file: Path = field(repr=False)
    labels_file: Path = field(repr=False)
    sizes: Sizes = field(default=Sizes(), repr=False)

    @cached_property
    def pixels(self) -> npt.NDArray[np.uint8]:
        """The image (H, W, 3)."""
        with Image.open(self.image_file) as image:
            return np.array(image.convert("RGB"))

    @cached_property
    def image(self) -> Tensor:
        """The image (1, 3, H, W) in [0, 1]."""
        return torch.from_numpy(self.pixels).permute(2, 0, 1)[None] / 255

    @cached_property
    def gt(self) -> npt.NDArray[np.uint8]:
        """The true classes (H, W); of a photograph, its regions, numbered anew."""
        with Image.open(self.labels_file) as labels:
            gt = np.array(labels)
        if self.scene != PHOTOGRAPHS:
            return np.where(gt < CLASSES, gt, IGNORED).astype(np.uint8)
        large = np.flatnonzero(np.bincount(gt.ravel()) >= SMALLEST * gt.size)
        number = np.full(256, IGNORED, np.uint8)
        number[large] = np.arange(len(large))
        return number[gt]

    @property
    def classes(self) -> int:
        return CLASSES if self.scene != PHOTOGRAPHS else int(self.gt[self.gt < IGNORED].max()) + 1

    @property
    def size(self) -> tuple[int, int]:
        height, width = self.gt.shape
        return height, width

    @property
    def whole(self) -> tuple[int, int]:
        """The size at which the transformer sees the whole image."""
        if self.scene != PHOTOGRAPHS:
            return self.sizes.whole
        height, width = (14 * round(side / 14) for side in self.size)
        return height, width

    def seen_at(self, whole: tuple[int, int]) -> Picture:
        """The same picture, shown to the models as a whole of another size."""
        return replace(self, sizes=replace(self.sizes, whole=whole))

    @cached_property
    def hash(self) -> str:
        """A hash of the image and its labels."""
        content = self.image_file.read_bytes() + self.labels_file.read_bytes()
        return hashlib.sha256(content).hexdigest()


def pictures(streets: Path, camvid: Path, bsds: Path, *, tiny: bool = False) -> list[Picture]:
    """All pictures in the order of time; `tiny` takes three of each scene, and makes them small."""
    sizes = TINY if tiny else Sizes()
    found = []
    for folder, labels, scene in (
        (streets, "labels", None),
        (camvid, "labels", STRETCH),
        (bsds, "regions", PHOTOGRAPHS),
    ):
        for file in sorted((folder / "images").iterdir()):
            named = scene or file.name.split("_")[0]
            found.append(
                Picture(named, file.stem, file, folder / labels / f"{file.stem}.png", sizes)
            )
    if not tiny:
        return found
    return [x for scene in (*DRIVES, STRETCH, PHOTOGRAPHS) for x in of_scene(found, scene)[:3]]


def of_scene(every: Sequence[Picture], scene: str) -> list[Picture]:
    return [picture for picture in every if picture.scene == scene]
