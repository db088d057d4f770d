"""Panoptic segments as regions, by EoMT or Mask2Former; their classes are not used.

Kerssies et al., "Your ViT is secretly an image segmentation model", CVPR 2025; Cheng et al.,
"Masked-attention mask transformer for universal image segmentation", CVPR 2022.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from lpprop._core.checks import all_finite
from lpprop._core.errors import InputError
from lpprop._core.options import check_integer, check_number
from lpprop._core.scans import one_call, values_are_checked
from lpprop.backbones.checkpoints import find_checkpoint
from lpprop.backbones.frozen import Frozen
from lpprop.backbones.hub import add_stored_colours, find_preprocessing, load_model
from lpprop.backbones.hub_cache import find_commit
from lpprop.backbones.stored_files import read_object
from lpprop.regions.checkpoints import PANOPTIC

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

__all__ = ["Panoptic"]

_EOMT = ("EomtForUniversalSegmentation", "EomtDinov3ForUniversalSegmentation")
_MASK2FORMER = ("Mask2FormerForUniversalSegmentation",)

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_EDGES, _SIDES = ("shortest_edge", "longest_edge"), ("height", "width")
_DIVISOR = 32  # of the sides of an image as Mask2Former sees it

_check_share = partial(check_number, low=0, high=1)


class Panoptic(Frozen):
    """The panoptic segments of an image, by EoMT or Mask2Former; a proposer of regions.

    A query whose class is "none", or of a probability of at most `score_threshold`, is left out. A
    pixel goes to the query with the largest product of class and mask probability, if its mask
    probability is at least `mask_threshold`. A query that wins no more than the share `area_share`
    of the pixels of its mask has no segment. Both papers' code does that; what transformers does
    for Mask2Former differs: it compares the product with the threshold, and keeps a pixel even
    where its mask probability is low.

    Trained weights were not at hand: the class has been run with random ones of
    `EomtForUniversalSegmentation`, `EomtDinov3ForUniversalSegmentation` and
    `Mask2FormerForUniversalSegmentation`. The classes of the weights only decide what a segment is:
    a chair that they do not know may have none.

    Args:
        model: a model of one of these classes of `transformers`; it is frozen and put into
            evaluation mode.
        score_threshold: in [0, 1]; the published one if None, which is 0.8.
        mask_threshold: in [0, 1]; 0.5 is published.
        area_share: in [0, 1]; 0.8 is published.
        size: for Mask2Former the size at which it sees an image, {"height": h, "width": w} or
            {"shortest_edge": a, "longest_edge": b}, the latter rounded up to multiples of 32; that
            of its checkpoint, or edges of 800 and 1333. EoMT sees it at the one size that its
            positions are for, with its sides in proportion, padded with black.
        mean, std: mean and standard deviation of the colours that the weights were trained on;
            ImageNet's by default.

    Raises:
        InputError: a model of another architecture, or an option that cannot be used.

    >>> from transformers import EomtConfig, EomtForUniversalSegmentation
    >>> config = EomtConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, mlp_ratio=2,
    ...                     image_size=64, patch_size=16, num_blocks=1, num_queries=5)
    >>> panoptic = Panoptic(EomtForUniversalSegmentation(config), score_threshold=0.0)
    >>> regions = panoptic(torch.rand(2, 3, 40, 60))
    >>> regions.shape, regions.dtype, int(regions.min()) >= -1
    (torch.Size([2, 40, 60]), torch.int64, True)
    """

    def __init__(
        self,
        model: Any,
        *,
        score_threshold: float = 0.8,
        mask_threshold: float = 0.5,
        area_share: float = 0.8,
        size: Mapping[str, int] | None = None,
        mean: Sequence[float] = _IMAGENET_MEAN,
        std: Sequence[float] = _IMAGENET_STD,
    ) -> None:
        names = {base.__name__ for base in type(model).__mro__}
        if not names & {*_EOMT, *_MASK2FORMER}:
            raise InputError.of(
                "model",
                got=type(model).__name__,
                expected=f"one of {', '.join(_EOMT + _MASK2FORMER)} of transformers",
                fix="Load one with Panoptic.from_pretrained.",
            )
        super().__init__(mean=mean, std=std)
        self.model: Any = model
        pads = bool(names & set(_EOMT))
        if pads and size is not None:
            raise InputError.of(
                "size",
                got=f"{dict(size)} for {type(model).__name__}",
                expected=f"None, since it sees {model.config.image_size} pixels a side",
                fix="Leave it out.",
            )
        # None for EoMT, which pads the image to the one size that it knows.
        self.size = None if pads else _check_size(size or {_EDGES[0]: 800, _EDGES[1]: 1333})
        self.score_threshold = _check_share("score_threshold", score_threshold)
        self.mask_threshold = _check_share("mask_threshold", mask_threshold)
        self.area_share = _check_share("area_share", area_share)
        self.requires_grad_(False).eval()

    @classmethod
    def from_pretrained(
        cls,
        checkpoint: str | Path,
        *,
        download: bool = True,
        revision: str | None = None,
        dtype: torch.dtype | None = None,
        **options: Any,
    ) -> Panoptic:
        """Load a model, its colours and its size by name or from a folder, as backbones are loaded.

        Args:
            checkpoint: a short name of `regions/checkpoints.py`, the name of a repository on the
                Hugging Face hub, or a folder that `save_pretrained` wrote.
            download: whether weights may be downloaded that are neither in a folder nor in the
                cache.
            revision: commit, tag or branch of the repository; the newest if None.
            dtype: dtype of the loaded weights; the checkpoint's own if None.
            options: keywords of the class.

        Raises:
            ImportError: the extra `models` is not installed.
            InputError: a checkpoint that does not exist, is damaged or of another kind, or needs
                code of its own; a hub that cannot be reached; an option that cannot be used.
        """
        checkpoint = find_checkpoint(checkpoint, PANOPTIC, revision)
        model = load_model(
            "transformers",
            "AutoModelForUniversalSegmentation",
            checkpoint,
            download=download,
            revision=revision,
            dtype=dtype,
        )
        commit = find_commit(checkpoint, revision)
        source: dict[str, Any] = {"download": download, "revision": commit or revision}
        options = add_stored_colours(options, checkpoint, **source)
        if type(model).__name__ in _MASK2FORMER and "size" not in options:
            file = find_preprocessing(checkpoint, **source)
            options["size"] = None if file is None else read_object(file).get("size")
        proposer = cls(model, **options)
        proposer.commit = commit
        return proposer

    def _describe(self) -> dict[str, object]:
        names = "score_threshold", "mask_threshold", "area_share", "size"
        return {name: getattr(self, name) for name in names}

    @torch.no_grad()
    def forward(
        self, image: Float[Tensor, "B 3 H W"] | np.ndarray[Any, Any] | Image
    ) -> Int[Tensor, "B H W"]:
        """Return the segment of each pixel, numbered from 0 in each image; -1 where there is none.

        Args:
            image: as `lpprop.refine` takes it: (B, 3, H, W) RGB in [0, 1] on the module's device,
                or uint8, an array (H, W, 3), a PIL image.

        Raises:
            InputError: an image of another shape, range or device, with values that are not finite,
                or too large for the memory; an output that is not finite.
        """
        with one_call():
            images = self._take(image)
            self._check_memory((images.shape[-2], images.shape[-1]))
            return torch.stack([self._see(item[None]) for item in images])

    def _see(self, image: Float[Tensor, "1 3 H W"]) -> Int[Tensor, "H W"]:
        """See one image, and choose among its queries."""
        size = image.shape[-2], image.shape[-1]
        resized, whole = self._sizes(size)
        x = F.interpolate(image, resized, mode="bilinear", antialias=True)
        # Padded before it is normalised, so that the padding is black.
        x = self._normalise(F.pad(x, (0, whole[1] - resized[1], 0, whole[0] - resized[0])))
        output = self.model(x.to(self.dtype))
        logits, classes = output.masks_queries_logits[0], output.class_queries_logits[0].float()
        if values_are_checked() and not (all_finite(logits) and all_finite(classes)):
            raise InputError.of(
                "model",
                got=f"NaN or infinity in the masks of {type(self.model).__name__} in {self.dtype}",
                expected="finite values",
                fix="Load it with dtype=torch.float32; if it is, its weights are damaged.",
            )
        score, label = classes.softmax(-1).max(-1)
        chosen = (label < classes.shape[-1] - 1) & (score > self.score_threshold)
        best = torch.full(size, -1.0, device=image.device)
        winner = torch.full(size, -1, dtype=torch.long, device=image.device)
        sure = torch.zeros_like(winner, dtype=torch.bool)
        share = []
        # One query at a time: a hundred masks of a large image would need gigabytes.
        for number, query in enumerate(chosen.nonzero()[:, 0]):
            mask = F.interpolate(logits[query].float()[None, None], whole, mode="bilinear")
            mask = mask[..., : resized[0], : resized[1]]
            mask = F.interpolate(mask, size, mode="bilinear")[0, 0].sigmoid()
            wins = score[query] * mask > best
            inside = mask >= self.mask_threshold
            best = torch.where(wins, score[query] * mask, best)
            winner = torch.where(wins, number, winner)
            sure = torch.where(wins, inside, sure)
            share.append(inside.sum())
        if not share:
            return winner
        won = winner.flatten().bincount(minlength=len(share))
        area = torch.stack(share)
        kept = (won > self.area_share * area) & (area > 0)
        kept &= winner[sure].bincount(minlength=len(share)) > 0
        renumbered = torch.where(kept, kept.cumsum(0) - 1, -1)
        return torch.where(sure, renumbered[winner], -1)

    def _sizes(self, size: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return the size to which an image is brought, and that with its padding."""
        if self.size is None:
            side = int(self.model.config.image_size)
            return _fit_edges(size, side, side), (side, side)
        if _SIDES[0] in self.size:
            height, width = (self.size[side] for side in _SIDES)
        else:
            height, width = _fit_edges(size, *(self.size[edge] for edge in _EDGES))
        whole = height + -height % _DIVISOR, width + -width % _DIVISOR
        return whole, whole

    def _item_bytes(self, size: tuple[int, int]) -> int:
        """Estimate the bytes of activations of one image of this size."""
        height, width = self._sizes(size)[1]
        config = self.model.config
        # Measured: the blocks and their masks of attention, or the finest grid of features.
        if self.size is None:
            tokens = height * width // config.patch_size**2
            needed = 16 * tokens * config.hidden_size
            needed += 4 * config.num_attention_heads * (tokens + config.num_queries) ** 2
        else:
            channels = getattr(config.backbone_config, "embed_dim", 96)
            needed = height * width // 16 * (12 * config.hidden_dim + 30 * channels)
        needed += config.num_queries * height * width // 16
        return int(needed) * self.dtype.itemsize + 4 * (6 * size[0] * size[1] + height * width)


def _check_size(size: object) -> dict[str, int]:
    """Return the size at which an image is seen, or refuse what is none."""
    if isinstance(size, Mapping):
        for names in (_SIDES, _EDGES):
            if set(size) == set(names):
                return {name: check_integer(f"size[{name!r}]", size[name]) for name in names}
    raise InputError.of(
        "size",
        got=str(size)[:80],
        expected="two numbers: height and width, or shortest_edge and longest_edge",
        fix='Pass size={"shortest_edge": 800, "longest_edge": 1333}.',
    )


def _fit_edges(size: tuple[int, int], shortest: int, longest: int) -> tuple[int, int]:
    """Return a size whose shorter edge is `shortest`, unless the longer would pass `longest`.

    It rounds as the image processors do.

    >>> _fit_edges((100, 200), 80, 120), _fit_edges((100, 120), 80, 120)
    ((60, 120), (80, 96))
    """
    short, long = sorted(size)
    limited = longest * short / long
    edge = float(shortest) if long / short * shortest <= longest else limited
    if short == round(edge):
        return size
    sides = max(1, round(edge)), max(1, int(edge * long / short))
    return sides if size[0] <= size[1] else (sides[1], sides[0])
