"""Masks of everything in an image, by SAM or SAM 2 from a grid of points.

Kirillov et al., "Segment anything", ICCV 2023, whose automatic mask generator has the steps and the
defaults (github.com/facebookresearch/segment-anything); Ravi et al., "SAM 2", ICLR 2025, which has
the same with another threshold (github.com/facebookresearch/sam2).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lpprop._core.options import check_from_0, check_integer, check_number
from lpprop._core.progress import track
from lpprop._core.scans import one_call
from lpprop.regions import checkpoints
from lpprop.regions.segment_anything import SQUEEZING, STRETCHING, SegmentAnything
from lpprop.regions.suppression import mask_boxes, stability, suppress

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

__all__ = ["SAM", "SAM2", "Proposals", "grid_points"]

_check_share = partial(check_number, low=0, high=1)


class Proposals(NamedTuple):
    """Masks of each image of a batch, the best first, and how good the model takes them to be.

    Attributes:
        masks: for each image its masks, which may overlap; it may have none.
        scores: for each image the predicted IoU of its masks.
    """

    masks: list[Bool[Tensor, "_ H W"]]
    scores: list[Float[Tensor, " _"]]


class SAM(SegmentAnything):
    """Masks of everything in an image, by SAM or SAM-HQ; a proposer of regions.

    An image is embedded once. Each point of a grid is then a prompt, from which the model makes
    three masks: a part, an object and a group. Masks whose predicted IoU is low are left out, then
    those that change much with their threshold, then those whose box is almost that of a better
    one. There are no crops, whose number is 0 by default in SAM's generator too.

    Trained weights were not at hand: the class has been run with random ones of `SamModel` and
    `SamHQModel`. The defaults are those of SAM's `SamAutomaticMaskGenerator`.

    Args:
        model: a `SamModel` or a `SamHQModel` of `transformers`; it is frozen and put into
            evaluation mode.
        points_per_side: the points of the grid along each side, >= 1; the time grows with their
            square.
        iou_threshold: masks of a predicted IoU above it are kept; the family's published default if
            None, which is 0.88 for SAM and 0.8 for SAM 2.
        stability_threshold: in [0, 1]; masks of at least this stability are kept.
        stability_offset: >= 0; how far the logits' threshold is moved to measure the stability
            |logits > offset| / |logits > -offset|.
        overlap: in [0, 1]; of two masks whose boxes have a larger IoU, the better one is kept.
        mean, std: mean and standard deviation of the colours that the weights were trained on; the
            family's own by default.
        max_bytes: bound on the activations of the points that are decoded at once.

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
    >>> sam = SAM(model, points_per_side=4, iou_threshold=-9, stability_threshold=0)
    >>> [masks] = sam(torch.rand(1, 3, 40, 60))
    >>> masks.dtype, masks.shape[1:]
    (torch.bool, torch.Size([40, 60]))
    """

    architectures: tuple[str, ...] = SQUEEZING
    checkpoints = checkpoints.SAM
    _published_iou: ClassVar[float] = 0.88

    def __init__(
        self,
        model: Any,
        *,
        points_per_side: int = 32,
        iou_threshold: float | None = None,
        stability_threshold: float = 0.95,
        stability_offset: float = 1.0,
        overlap: float = 0.7,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        max_bytes: int = 2**30,
    ) -> None:
        if iou_threshold is None:
            iou_threshold = self._published_iou
        super().__init__(model, mean=mean, std=std, max_bytes=max_bytes)
        self.points_per_side = check_integer("points_per_side", points_per_side, high=1024)
        self.iou_threshold = check_number("iou_threshold", iou_threshold)
        self.stability_threshold = _check_share("stability_threshold", stability_threshold)
        self.stability_offset = check_from_0("stability_offset", stability_offset)
        self.overlap = _check_share("overlap", overlap)

    def _describe(self) -> dict[str, object]:
        stability = "stability_threshold", "stability_offset"
        names = "points_per_side", "iou_threshold", *stability, "overlap"
        return {name: getattr(self, name) for name in names}

    def forward(
        self, image: Float[Tensor, "B 3 H W"] | np.ndarray[Any, Any] | Image
    ) -> list[Bool[Tensor, "_ H W"]]:
        """Return the masks of `propose`, as functions take regions."""
        return self.propose(image).masks

    @torch.no_grad()
    def propose(self, image: Float[Tensor, "B 3 H W"] | np.ndarray[Any, Any] | Image) -> Proposals:
        """Return masks of everything in each image, with their predicted IoU.

        Args:
            image: as `lpprop.refine` takes it: (B, 3, H, W) RGB in [0, 1] on the module's device,
                or uint8, an array (H, W, 3), a PIL image.

        Returns:
            Masks of the image's size on its device, the best first.

        Raises:
            InputError: an image of another shape, range or device, with values that are not finite,
                or too large for the memory; an output that is not finite.
        """
        with one_call():
            images = self._take(image)
            self._check_memory((images.shape[-2], images.shape[-1]))
            found = [self._propose_one(item[None]) for item in track(images)]
        return Proposals([masks for masks, _ in found], [scores for _, scores in found])

    def _propose_one(
        self, image: Float[Tensor, "1 3 H W"]
    ) -> tuple[Bool[Tensor, "M H W"], Float[Tensor, " M"]]:
        size = image.shape[-2], image.shape[-1]
        embedding = self._embed(image)
        points = grid_points(self.points_per_side, size).to(image.device)
        # Candidates are kept as the model gives them, on its coarse grid: a thousand masks of a
        # large image would need gigabytes before most of them are suppressed.
        logits, scores, boxes = [], [], []
        for part in track(points.split(self._at_once(size, masks=3)), unit="batch"):
            coarse, quality = self._decode(embedding, size, part, several=True)
            good = quality > self.iou_threshold
            coarse, quality = coarse[good], quality[good]
            fine = self._enlarge(coarse, size)
            masks = fine > 0
            stable = stability(fine, self.stability_offset) >= self.stability_threshold
            stable &= masks.flatten(1).any(1)
            logits.append(coarse[stable])
            scores.append(quality[stable])
            boxes.append(mask_boxes(masks[stable]))
        kept = suppress(torch.cat(boxes), torch.cat(scores), self.overlap)
        parts = torch.cat(logits)[kept].split(self._at_once(size, masks=1))
        masks = torch.cat([self._enlarge(part, size) > 0 for part in parts])
        return masks, torch.cat(scores)[kept]


class SAM2(SAM):
    """Masks of everything in an image, by SAM 2, EdgeTAM or SAM 3's tracker; a proposer of regions.

    It works as `SAM` does and has the same options; the model sees the image stretched to a square.
    The published `iou_threshold` is 0.8, as in SAM 2's `SAM2AutomaticMaskGenerator`.

    Trained weights were not at hand: the class has been run with random ones of `Sam2Model` and
    `Sam3TrackerModel`. `EdgeTamModel`, which has the same interface, needs the package timm, and
    has not been run.

    Args:
        model: a `Sam2Model`, an `EdgeTamModel` or a `Sam3TrackerModel` of `transformers`.
        points_per_side, iou_threshold, stability_threshold, stability_offset: as in `SAM`.
        overlap, mean, std, max_bytes: as in `SAM`.

    Raises:
        InputError: a model of another architecture, or an option that cannot be used.
    """

    architectures = STRETCHING
    checkpoints = checkpoints.SAM2
    _published_iou: ClassVar[float] = 0.8


def grid_points(per_side: int, size: tuple[int, int]) -> Float[Tensor, "P 2"]:
    """Return x and y, in pixels, of the centres of a grid's cells, row by row.

    >>> grid_points(2, (4, 8))
    tensor([[2., 1.],
            [6., 1.],
            [2., 3.],
            [6., 3.]])
    """
    centres = (torch.arange(per_side) + 0.5) / per_side
    y, x = torch.meshgrid(centres * size[0], centres * size[1], indexing="ij")
    return torch.stack([x, y], -1).reshape(-1, 2)
