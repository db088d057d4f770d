"""The base of all backbones: a frozen model that turns images into logits, feats or attention.

A new backbone is a subclass that says what it provides and how its model sees a batch:

    class Mine(Backbone):
        provides = ("feats",)

        def _see(self, pixels, classes):
            x = self.model(pixels)
            return BackboneOutput(grid=x.shape[-2:], feats=x)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lpprop._core.checks import check_tensors
from lpprop._core.errors import InputError
from lpprop._core.options import check_integer

__all__ = ["Backbone", "BackboneOutput"]


class BackboneOutput(NamedTuple):
    """What a backbone sees in images; fields that it does not provide are None.

    Attributes:
        grid: (h, w) of the feats and of the attention's patches, or of the logits alone.
        logits: scores of the classes, larger = likelier; their grid may be coarser.
        feats: affinity features.
        attention: what each patch attends to; each row sums to 1.
    """

    grid: tuple[int, int]
    logits: Float[Tensor, "B C y x"] | None = None
    feats: Float[Tensor, "B D h w"] | None = None
    attention: Float[Tensor, "B N N"] | None = None


class Backbone(nn.Module):
    """A frozen model that takes images in [0, 1] and does the preprocessing of its weights itself.

    The base class normalises the images, pads them at the right and the bottom with the mean colour
    to whole patches, and shows the model as many at once as `max_bytes` of activations allow. The
    model computes in its own dtype; the output is in float32.

    Args:
        patch_size: side of a patch in pixels.
        mean: red, green and blue mean of the images that the weights were trained on.
        std: their standard deviation.
        max_bytes: bound on the activations of one batch; a batch holds at least one image.

    Attributes:
        provides: which of "logits", "feats" and "attention" the output holds.
        feats_from: the row of `lpprop.presets.FEATS_FROM` whose settings suit the feats, or None.
    """

    provides: tuple[str, ...] = ()
    feats_from: str | None = None

    def __init__(
        self,
        *,
        patch_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        max_bytes: int = 2**30,
    ) -> None:
        super().__init__()
        self.patch_size = check_integer("patch_size", patch_size)
        self.max_bytes = check_integer("max_bytes", max_bytes)
        # Plain numbers, not buffers: images are normalised in float32, whatever the dtype.
        self._mean, self._std = tuple(map(float, mean)), tuple(map(float, std))

    @classmethod
    def from_pretrained(
        cls,
        checkpoint: str | Path,
        *,
        download: bool = True,
        dtype: torch.dtype | None = None,
        **options: Any,
    ) -> Backbone:
        """Load a model by name or from a folder.

        Args:
            checkpoint: a short name that the class knows, the name of a repository on the Hugging
                Face hub, or a folder that `save_pretrained` wrote.
            download: whether weights may be downloaded that are neither in a folder nor in the
                cache.
            dtype: dtype of the loaded weights; the checkpoint's own if None.
            options: keywords of the class.

        Raises:
            ImportError: an extra is not installed; the message names it.
            InputError: a checkpoint that does not exist, is damaged or of another kind, a hub that
                cannot be reached, or an option that cannot be used.
        """
        raise NotImplementedError

    def train(self, mode: bool = True) -> Backbone:
        """Stay in evaluation mode."""
        return super().train(False)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype in which the model computes."""
        return next(self.parameters()).dtype

    def span(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return how many pixels the grid of an image of this size spans: whole patches."""
        height, width = (side + -side % self.patch_size for side in size)
        return height, width

    def class_names(self, classes: Sequence[str]) -> list[str]:
        """Return the name of each class, or refuse classes that the model cannot score."""
        raise InputError.of(
            "classes",
            got="class names",
            expected=f"None, since {type(self).__name__} provides {' and '.join(self.provides)}",
            fix="Score classes with MaskCLIP or EfficientNetLite0; use this one as the affinity.",
        )

    def groups(self, classes: Sequence[str]) -> list[list[int]]:
        """Return the channels of each class's logits, as `merge_classes` takes them."""
        return [[channel] for channel in range(len(self.class_names(classes)))]

    @torch.no_grad()
    def forward(
        self, image: Float[Tensor, "B 3 H W"], classes: Sequence[str] | None = None
    ) -> BackboneOutput:
        """See a batch of images, without gradients.

        Args:
            image: (B, 3, H, W) RGB in [0, 1], any floating-point dtype, on the module's device.
            classes: the classes to score, where the backbone provides logits.

        Returns:
            The fields that the backbone provides, in float32, on a grid that spans `span((H, W))`
            pixels.

        Raises:
            InputError: an image of another shape, range or device, or with values that are not
                finite; classes that the model cannot score.
        """
        check_tensors(image=(image, "B 3 H W"))
        if image.device != self.device:
            raise InputError.of(
                "image",
                got=f"a tensor on {image.device}",
                expected=f"one on {self.device}, where the model is",
                fix=f"Move it with image.to({str(self.device)!r}), or move the model.",
            )
        if classes is not None:
            self.class_names(classes)
        pixels = self._prepare(image.float())
        at_once = max(1, self.max_bytes // self._item_bytes((pixels.shape[-2], pixels.shape[-1])))
        seen = [self._see(part.to(self.dtype), classes) for part in pixels.split(at_once)]

        def join(parts: list[Tensor | None]) -> Tensor | None:
            tensors = [part.float() for part in parts if part is not None]
            return torch.cat(tensors) if tensors else None

        fields = zip(*(output[1:] for output in seen), strict=True)
        return BackboneOutput(seen[0].grid, *(join(list(field)) for field in fields))

    def _prepare(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 Y X"]:
        """Normalise, so that 0 is the mean colour, and pad with 0 to whole patches."""
        mean, std = (
            torch.tensor(values, device=image.device)[:, None, None]
            for values in (self._mean, self._std)
        )
        height, width = image.shape[-2:]
        below, right = (spanned - side for spanned, side in
                        zip(self.span((height, width)), (height, width), strict=True))  # fmt: skip
        return F.pad((image - mean) / std, (0, right, 0, below))

    def _item_bytes(self, size: tuple[int, int]) -> int:
        """Estimate the bytes of activations of one image of this size."""
        raise NotImplementedError

    def _see(
        self, pixels: Float[Tensor, "b 3 H W"], classes: Sequence[str] | None
    ) -> BackboneOutput:
        """See a batch of prepared images, in the model's dtype."""
        raise NotImplementedError
