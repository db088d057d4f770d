"""The coarse result as a prompt: SAM redraws each of its connected components (Trident).

Shi, Dong and Xu, "Harnessing vision foundation models for high-performance, training-free open
vocabulary segmentation", ICCV 2025, whose public code has the steps and the values of the options
(github.com/YuHengsss/Trident).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lpprop._core.checks import check_finite, check_non_negative, check_tensors
from lpprop._core.options import check_from_0, check_integer, check_number
from lpprop._core.progress import track
from lpprop._core.scans import one_call
from lpprop.inputs.components import components
from lpprop.regions.checkpoints import PROMPTED
from lpprop.regions.segment_anything import SegmentAnything

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

__all__ = ["Prompted", "PromptedSAM"]


class Prompted(NamedTuple):
    """What `PromptedSAM` makes of each image's components; those that it refuses are left out.

    Attributes:
        masks: for each image its masks, in the order of the components.
        scores: for each image the predicted IoU of its masks.
        classes: for each image the class of the component that each mask was prompted with.
    """

    masks: list[Bool[Tensor, "_ H W"]]
    scores: list[Float[Tensor, " _"]]
    classes: list[Int[Tensor, " _"]]


class PromptedSAM(SegmentAnything):
    """Masks that SAM draws where the coarse result says; a proposer that is given the scores.

    The labels are the argmax of the scores. Each of their connected components is a prompt of three
    parts: its box, its pixel of the largest score, and a coarse mask, `mask_weight` times the score
    of its class within it and 0 elsewhere. The model makes one mask of it, which is taken if its
    predicted IoU is above `iou_threshold`; otherwise the component's pixels are in no region, so
    that they keep their old labels.

    `lpprop.region_vote` then gives all of a mask what the scores say of its pixels. Trident gives
    it the class of its component, except for pixels where the scores of another mask's class, or of
    a component that was refused, are larger. Both agree where that class has the majority in the
    mask and no such pixels are in it; where a mask has grown far beyond its component they do not.
    `relabel` does what Trident does.

    Two things differ from Trident's code: it takes the components at half the size of the image,
    and the coarse mask of each one from all components of its class.

    Trained weights were not at hand: the class has been run with random ones of `SamModel` and
    `Sam2Model`.

    Args:
        model: one of those that `SAM` and `SAM2` take.
        iou_threshold: masks of a predicted IoU above it are taken. 0.8, Trident's, by default.
        min_score: pixels whose largest score is below it prompt nothing; none if None. Trident has
            0.05 to 0.25 by the data set, for the softmax of 40 times CLIP's cosines.
        min_area: components of fewer pixels prompt nothing; Trident's 900 by default.
        mask_weight: >= 0; what the scores are multiplied by as logits of the coarse mask. Trident's
            is 0.005 by default, for probabilities.
        mean, std: mean and standard deviation of the colours that the weights were trained on; the
            family's own by default.
        max_bytes: bound on the activations of the components that are decoded at once.

    Raises:
        InputError: a model of another architecture, or an option that cannot be used.

    >>> from transformers import SamConfig, SamModel
    >>> vision = {"hidden_size": 16, "output_channels": 16, "num_hidden_layers": 2, "mlp_dim": 32,
    ...           "num_attention_heads": 2, "image_size": 64, "patch_size": 8, "window_size": 4,
    ...           "global_attn_indexes": [1], "num_pos_feats": 8}
    >>> prompt = {"hidden_size": 16, "image_size": 64, "patch_size": 8, "mask_input_channels": 8}
    >>> decoder = {"hidden_size": 16, "mlp_dim": 32, "num_attention_heads": 2}
    >>> config = SamConfig(vision_config=vision, prompt_encoder_config=prompt,
    ...                    mask_decoder_config=decoder)
    >>> model = SamModel(config)
    >>> sam = PromptedSAM(model, iou_threshold=-9, min_area=1)
    >>> scores = torch.eye(3).repeat_interleave(2, 1)[None, :, :, None].expand(1, 3, 6, 8)
    >>> masks, quality, classes = sam.propose(torch.rand(1, 3, 48, 64), scores)
    >>> set(classes[0].tolist()) <= {0, 1, 2}, masks[0].shape[1:]
    (True, torch.Size([48, 64]))
    """

    checkpoints = PROMPTED

    def __init__(
        self,
        model: Any,
        *,
        iou_threshold: float = 0.8,
        min_score: float | None = None,
        min_area: int = 900,
        mask_weight: float = 0.005,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        max_bytes: int = 2**30,
    ) -> None:
        super().__init__(model, mean=mean, std=std, max_bytes=max_bytes)
        self.iou_threshold = check_number("iou_threshold", iou_threshold)
        self.min_score = None if min_score is None else check_number("min_score", min_score)
        self.min_area = check_integer("min_area", min_area, low=0)
        self.mask_weight = check_from_0("mask_weight", mask_weight)

    def _describe(self) -> dict[str, object]:
        names = "iou_threshold", "min_score", "min_area", "mask_weight"
        return {name: getattr(self, name) for name in names}

    def forward(
        self,
        image: Float[Tensor, "B 3 H W"] | np.ndarray[Any, Any] | Image,
        scores: Float[Tensor, "B C h w"],
    ) -> list[Bool[Tensor, "_ H W"]]:
        """Return the masks of `propose`, as functions take regions."""
        return self.propose(image, scores).masks

    @torch.no_grad()
    def propose(
        self,
        image: Float[Tensor, "B 3 H W"] | np.ndarray[Any, Any] | Image,
        scores: Float[Tensor, "B C h w"],
    ) -> Prompted:
        """Return a mask for each component that is redrawn, with its predicted IoU and class.

        Args:
            image: as `lpprop.refine` takes it: (B, 3, H, W) RGB in [0, 1] on the module's device,
                or uint8, an array (H, W, 3), a PIL image.
            scores: the coarse result on the same device; resized bilinearly to the image.

        Returns:
            Masks of the image's size on its device.

        Raises:
            InputError: images or scores of another shape, range or device, with values that are not
                finite, or too large for the memory; an output that is not finite.
        """
        found = Prompted([], [], [])
        with one_call():
            for item, own in zip(*self._take_both(image, scores), strict=True):
                masks, quality, classes = [], [], []
                for part in self._redraw(item[None], own):
                    drawn = part.logits > 0
                    kept = part.accepted & drawn.flatten(1).any(1)
                    masks.append(drawn[kept])
                    quality.append(part.quality[kept])
                    classes.append(part.classes[kept])
                found.masks.append(torch.cat(masks))
                found.scores.append(torch.cat(quality))
                found.classes.append(torch.cat(classes))
        return found

    @torch.no_grad()
    def relabel(
        self,
        image: Float[Tensor, "B 3 H W"] | np.ndarray[Any, Any] | Image,
        scores: Float[Tensor, "B C h w"],
    ) -> Float[Tensor, "B C H W"]:
        """Return the scores that Trident makes of them: each mask has the class of its component.

            Y'_ci = max_m sigma(logit_mi) Y_ci    over the masks m of class c that hold pixel i

        A pixel of a component that the model refused takes part with its old scores, and one that
        no mask holds keeps them.

        Args:
            image: as in `propose`.
            scores: as in `propose`, and not negative, since they are multiplied: probabilities.

        Raises:
            InputError: what `propose` refuses, or a negative score.
        """
        results = []
        with one_call():
            images, coarse = self._take_both(image, scores)
            check_non_negative("scores", coarse, "Pass probabilities: scores.softmax(1).")
            for item, old in zip(images, coarse, strict=True):
                new, held = torch.zeros_like(old), torch.zeros_like(old[0], dtype=torch.bool)
                refused = torch.zeros_like(held)
                for part in self._redraw(item[None], old):
                    for accepted, logits, label, own in zip(*part[:4], strict=True):
                        if not accepted:
                            refused |= own
                            continue
                        inside = logits > 0
                        value = torch.where(inside, logits.sigmoid() * old[label], 0)
                        new[label] = torch.maximum(new[label], value)
                        held |= inside
                new = torch.where(refused, torch.maximum(new, old), new)
                results.append(torch.where(held | refused, new, old))
        return torch.stack(results)

    def _take_both(
        self,
        image: Float[Tensor, "B 3 H W"] | np.ndarray[Any, Any] | Image,
        scores: Float[Tensor, "B C h w"],
    ) -> tuple[Float[Tensor, "B 3 H W"], Float[Tensor, "B C H W"]]:
        """Return checked images, and checked scores of their size in float32."""
        images = self._take(image)
        check_tensors(image=(images, "B 3 H W"), scores=(scores, "B C h w"))
        size = images.shape[-2], images.shape[-1]
        self._check_memory(size)
        coarse = scores.float()
        check_finite("scores", coarse)  # float64 has numbers that float32 has not
        if coarse.shape[-2:] != size:
            coarse = F.interpolate(coarse, size, mode="bilinear")
        return images, coarse

    def _redraw(
        self, image: Float[Tensor, "1 3 H W"], scores: Float[Tensor, "C H W"]
    ) -> Iterator[_Part]:
        """Yield the masks of an image's components, some at a time; an empty part if none."""
        size = image.shape[-2], image.shape[-1]
        top, labels = scores.max(0)
        if self.min_score is not None:
            labels = labels.where(top >= self.min_score, -1)
        number = components(labels, min_area=self.min_area)
        count = int(number.max()) + 1
        if not count:
            none = top.new_zeros(0)
            masks = top.new_zeros(0, *size)
            yield _Part(none.bool(), masks, none.long(), masks.bool(), none)
            return
        classes, points, boxes = _describe_components(number, count, labels, top)
        embedding = self._embed(image)
        parts = torch.arange(count, device=number.device).split(self._at_once(size, masks=1))
        for which in track(parts, unit="batch"):
            own = number == which[:, None, None]
            coarse, quality = self._decode(
                embedding,
                size,
                points[which],
                boxes=boxes[which],
                masks=self.mask_weight * torch.where(own, top, 0),
                several=False,
            )
            accepted = quality[:, 0] > self.iou_threshold
            logits = self._enlarge(coarse[:, 0], size)
            yield _Part(accepted, logits, classes[which], own, quality[:, 0])


class _Part(NamedTuple):
    """Some components of one image: what the model drew, their classes, and themselves."""

    accepted: Bool[Tensor, " K"]
    logits: Float[Tensor, "K H W"]
    classes: Int[Tensor, " K"]
    own: Bool[Tensor, "K H W"]
    quality: Float[Tensor, " K"]


def _describe_components(
    number: Int[Tensor, "H W"],
    count: int,
    labels: Int[Tensor, "H W"],
    top: Float[Tensor, "H W"],
) -> tuple[Int[Tensor, " K"], Float[Tensor, "K 2"], Float[Tensor, "K 4"]]:
    """Return each component's class, its point of the largest score, and its box, x before y.

    Of equal scores the first in row-major order counts, as with Trident's argmax.
    """
    y, x = torch.nonzero(number >= 0, as_tuple=True)
    own = number[y, x]

    def reduce(values: Tensor, how: str) -> Tensor:
        start = values.new_zeros(count)
        return start.scatter_reduce(0, own, values, how, include_self=False)

    highest = top[y, x] == reduce(top[y, x], "amax")[own]
    order = torch.arange(len(own), device=own.device)
    first = reduce(torch.where(highest, order, len(own)), "amin")
    points = torch.stack([x[first], y[first]], 1).to(top.dtype)
    sides = [reduce(x, "amin"), reduce(y, "amin"), reduce(x, "amax"), reduce(y, "amax")]
    return labels[y[first], x[first]], points, torch.stack(sides, 1).to(top.dtype)
