"""Starts from the true labels, which separate the effect of a refiner from a model's mistakes.

The patch-level oracle is that of LPOSS's supplement (Stojnic et al., CVPR 2025, Figure 5d): an
upper bound for labels of patches. With a share of the patches relabelled at random, it is a start
with known noise.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from lpprop._core.checks import check_axes
from lpprop._core.label_maps import check_ignore_index
from lpprop._core.options import check_integer, check_number
from lpprop.evaluation.counts import checked_gt
from lpprop.evaluation.fingerprints import model_fingerprint
from lpprop.evaluation.label_maps import IGNORED
from lpprop.evaluation.predictors import LabelledImage, Start
from lpprop.evaluation.task import Samples, check_dataset

if TYPE_CHECKING:
    from lpprop.backbones import Backbone
    from lpprop.evaluation.label_maps import ArrayLike

__all__ = ["Cropped", "OracleStart", "patch_oracle", "relabel"]


def patch_oracle(
    gt: ArrayLike, patch_size: int, classes: int, *, ignore_index: int = IGNORED
) -> Float[Tensor, "C h w"]:
    """Average the true labels over patches: the share of each class in each patch.

    Pixels that do not count are left out; a patch without any other pixel is zero. Patches begin at
    the upper left; those at the right and the bottom edge may be cut off.

    Args:
        gt: (H, W) true classes in [0, classes), or ignore_index.
        patch_size: side of a patch in pixels, >= 1.
        classes: number of classes C.
        ignore_index: the label of pixels that do not count.

    Returns:
        float32, on a grid of ceil(H / patch_size) x ceil(W / patch_size). Each patch sums to 1, or
        to 0 where no pixel counts.

    Raises:
        InputError: labels that are not integers or are out of range.

    >>> patch_oracle([[0, 1, 255, 255], [1, 1, 255, 0]], patch_size=2, classes=2)
    tensor([[[0.2500, 1.0000]],
            [[0.7500, 0.0000]]])
    """
    patch_size, classes = check_integer("patch_size", patch_size), check_integer("classes", classes)
    true = checked_gt(gt, classes, ignore_index)
    below, right = (-side % patch_size for side in true.shape)
    whole = np.pad(true, ((0, below), (0, right)), constant_values=classes)
    h, w = (side // patch_size for side in whole.shape)
    patches = whole.reshape(h, patch_size, w, patch_size).transpose(0, 2, 1, 3).reshape(h * w, -1)
    pairs = np.arange(h * w)[:, None] * (classes + 1) + patches
    counts = np.bincount(pairs.ravel(), minlength=h * w * (classes + 1)).reshape(h * w, -1)
    shares = counts[:, :classes] / np.maximum(counts[:, :classes].sum(1, keepdims=True), 1)
    return torch.from_numpy(shares.T.reshape(classes, h, w).astype(np.float32))


def relabel(
    oracle: Float[Tensor, "C h w"], share: float = 0.4, seed: int | Sequence[int] = 0
) -> Float[Tensor, "C h w"]:
    """Relabel a share of the patches at random: a start with controlled noise.

    Each chosen patch gets one class, drawn uniformly from all classes; so one in C keeps its own.
    Patches that are zero stay zero.

    Args:
        oracle: (C, h, w) as `patch_oracle` returns it.
        share: share of the nonzero patches, in [0, 1]; their number is rounded.
        seed: seed of the random draw, an integer >= 0 or a list of such.

    Returns:
        A new tensor.

    Raises:
        InputError: no tensor (C, h, w), a share outside [0, 1], or another seed.

    >>> changed = relabel(torch.full((4, 10, 10), 0.25), share=0.4)
    >>> int((changed.amax(0) == 1).sum()), float(changed.sum())
    (40, 100.0)
    """
    check_axes(oracle=(oracle, "C h w"))
    share = check_number("share", share, low=0, high=1)
    seeds = seed if isinstance(seed, (list, tuple)) else [seed]
    draw = np.random.default_rng([check_integer("seed", one, low=0) for one in seeds])
    flat = oracle.flatten(1).clone()
    known = np.flatnonzero(flat.sum(0).numpy())
    chosen = draw.choice(known, round(share * len(known)), replace=False)
    labels = torch.from_numpy(draw.integers(0, len(oracle), len(chosen)))
    flat[:, chosen] = F.one_hot(labels, len(oracle)).T.to(flat.dtype)
    return flat.view_as(oracle)


class OracleStart:
    """Start from the true labels of patches, with a backbone's feats and attention.

    The patches of oracle and backbone coincide only where the image's sides are multiples of the
    patch size. `Cropped` cuts images to such sides.

    Args:
        classes, patch_size, ignore_index: as for `patch_oracle`.
        share, seed: as for `relabel`; the draw also depends on the image's name.
        backbone: a model that provides feats or attention; None for neither.

    >>> from types import SimpleNamespace
    >>> sample = SimpleNamespace(name="a", image=None, gt=np.zeros((32, 48), dtype=int))
    >>> OracleStart(classes=5)(sample).logits.shape
    torch.Size([1, 5, 2, 3])
    """

    def __init__(
        self,
        classes: int,
        *,
        patch_size: int = 16,
        share: float = 0.0,
        seed: int = 0,
        backbone: Backbone | None = None,
        ignore_index: int = IGNORED,
    ) -> None:
        self.classes = check_integer("classes", classes)
        self.patch_size = check_integer("patch_size", patch_size)
        self.share = check_number("share", share, low=0, high=1)
        self.seed = check_integer("seed", seed, low=0)
        self.backbone = backbone
        self.ignore_index = check_ignore_index(ignore_index, self.classes)

    def __call__(self, sample: LabelledImage) -> Start:
        """Return the start of a sample."""
        oracle = patch_oracle(
            sample.gt, self.patch_size, self.classes, ignore_index=self.ignore_index
        )
        if self.share:
            oracle = relabel(oracle, self.share, (self.seed, _hash(sample.name)))
        if self.backbone is None:
            return Start(oracle[None])
        pixels = torch.from_numpy(np.array(sample.image)).permute(2, 0, 1)[None] / 255
        device = self.backbone.device
        seen = self.backbone(pixels.to(device))
        return Start(oracle[None].to(device), seen.feats, attention=seen.attention)

    def fingerprint(self) -> dict[str, Any]:
        """Describe the settings and the backbone."""
        own = {name: vars(self)[name] for name in ("patch_size", "share", "seed")}
        if self.backbone is None:
            return own
        return {**own, "backbone": model_fingerprint(self.backbone)}


def _hash(name: str) -> int:
    return zlib.crc32(name.encode(errors="surrogatepass"))


class Cropped:
    """A data set whose images are cut at the right and the bottom, to sides that are multiples.

    Args:
        dataset: a data set of samples that are at least as large as the multiple.
        multiple: the sides are cut to multiples of so many pixels.

    >>> from types import SimpleNamespace
    >>> class Data(list):
    ...     name, class_names = "data", ["a", "b"]
    >>> image, gt = Image.new("RGB", (50, 35)), np.zeros((35, 50), dtype=int)
    >>> cropped = Cropped(Data([SimpleNamespace(name="x", image=image, gt=gt)]), 16)
    >>> cropped.name, cropped[0].image.size, cropped[0].gt.shape
    ('data, sides cut to multiples of 16', (48, 32), (32, 48))
    """

    def __init__(self, dataset: Samples, multiple: int) -> None:
        check_dataset(dataset)
        self.dataset = dataset
        self.multiple = check_integer("multiple", multiple)
        self.name = f"{dataset.name}, sides cut to multiples of {self.multiple}"
        self.class_names = dataset.class_names
        self.names = getattr(dataset, "names", None)
        self.labels_from = getattr(dataset, "labels_from", None)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> CroppedSample:
        return CroppedSample(self.dataset[index], self.multiple)


@dataclass(frozen=True, eq=False)
class CroppedSample:
    """A sample whose image and labels are cut when they are read."""

    sample: LabelledImage
    multiple: int

    @property
    def name(self) -> str:
        """The sample's name."""
        return self.sample.name

    @property
    def files(self) -> Any:
        """The files of the sample, if it is of files: they tell whether it is another now."""
        return getattr(self.sample, "files", None)

    @property
    def image(self) -> Image.Image:
        """The cut image in RGB."""
        image = self.sample.image
        width, height = (side - side % self.multiple for side in image.size)
        return image.crop((0, 0, width, height))

    @property
    def gt(self) -> NDArray[Any]:
        """The cut true labels (H, W)."""
        gt: NDArray[Any] = np.asanyarray(self.sample.gt)  # a mask stays
        height, width = (side - side % self.multiple for side in gt.shape)
        return gt[:height, :width]
