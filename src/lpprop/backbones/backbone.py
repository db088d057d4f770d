"""What all backbones share: a frozen model that turns images into logits, feats or attention.

A new backbone is a subclass that says what it provides and how its model sees a batch:

    class Mine(Backbone):
        provides = ("feats",)

        def _see(self, pixels, classes):
            x = self.model(pixels)
            return BackboneOutput(grid=x.shape[-2:], feats=x)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lpprop._core.checks import (
    check_image,
    check_tensors,
)
from lpprop._core.errors import InputError
from lpprop._core.options import (
    check_integer,
)

__all__ = ["Backbone", "BackboneOutput"]


class BackboneOutput(NamedTuple):
    """What a backbone sees in images; what it does not provide is None.

    Attributes:
        grid: (h, w) of the feats and of the attention's patches, or of the logits alone.
        logits: scores of the classes, larger = likelier; their grid may be coarser.
        feats: affinity features.
        attention: rows of what each patch attends to, which sum to 1.
    """

    grid: tuple[int, int]
    logits: Float[Tensor, "B C y x"] | None = None
    feats: Float[Tensor, "B D h w"] | None = None
    attention: Float[Tensor, "B N N"] | None = None


class Backbone(nn.Module):
    """A frozen model that takes images in [0, 1] and owns all that its weights expect of them.

    Images are normalised, padded at the right and the bottom with the mean colour to whole
    patches, and seen in batches of as many as `max_bytes` of activations allow. The model computes
    in its own dtype; what it sees comes back in float32.

    Args:
        patch_size: side of a patch in pixels.
        mean: of the red, green and blue of the images that the weights were trained on.
        std: their standard deviation.
        max_bytes: bound on the activations of the images that are seen at once; one image is
            seen, whatever it takes.

    Attributes:
        provides: which of "logits", "feats" and "attention" the output holds.
        preset: the settings of `lpprop.presets.FEATS_FROM` that suit the feats, if any do.
    """

    provides: tuple[str, ...] = ()
    preset: str | None = None

    def __init__(
        self,
        *,
        patch_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        max_bytes: int = 2**30,
    ) -> None:
        """Keep the geometry and the colours."""
        super().__init__()
        self.patch_size = check_integer("patch_size", patch_size)
        self.max_bytes = check_integer("max_bytes", max_bytes)
        for name, values in (("mean", mean), ("std", std)):
            # In float32 whatever the model's dtype becomes, so that a colour keeps its digits.
            setattr(self, f"_{name}", tuple(float(value) for value in values))

    def train(self, mode: bool = True) -> Backbone:
        """Stay in evaluation mode."""
        return super().train(False)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """What the model computes in."""
        return next(self.parameters()).dtype

    def span(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the pixels that the grid of an image of this size spans: whole patches."""
        height, width = (side + -side % self.patch_size for side in size)
        return height, width

    def labels(self, classes: Sequence[str]) -> list[str]:
        """Return what each class is called, or refuse classes that cannot be scored."""
        raise self._no_logits()

    def groups(self, classes: Sequence[str]) -> list[list[int]]:
        """Return the channels of each class's logits, as `merge_classes` takes them."""
        return [[channel] for channel in range(len(self.labels(classes)))]

    @torch.no_grad()
    def forward(
        self, image: Float[Tensor, "B 3 H W"], classes: Sequence[str] | None = None
    ) -> BackboneOutput:
        """See a batch of images, without gradients.

        Args:
            image: (B, 3, H, W) RGB in [0, 1], any floating-point dtype, on the module's device.
            classes: what to score, for a backbone that provides logits.

        Returns:
            What the backbone provides, in float32, on a grid that spans `span((H, W))` pixels.

        Raises:
            InputError: an image of another shape, range or device, or with values that are not
                finite; classes that cannot be scored.
        """
        check_tensors(image=(image, "B 3 H W"))
        check_image("image", image)
        if image.device != self.device:
            raise InputError.of(
                "image",
                got=f"a tensor on {image.device}",
                expected=f"one on {self.device}, where the model is",
                fix=f"Move it with image.to({str(self.device)!r}), or move the model.",
            )
        if classes is not None:
            self.labels(classes)
        pixels = self._prepared(image.float())
        at_once = max(1, self.max_bytes // self._item_bytes((pixels.shape[-2], pixels.shape[-1])))
        seen = [self._see(part.to(self.dtype), classes) for part in pixels.split(at_once)]

        def joined(parts: list[Tensor | None]) -> Tensor | None:
            tensors = [part.float() for part in parts if part is not None]
            return torch.cat(tensors) if tensors else None

        fields = zip(*(output[1:] for output in seen), strict=True)
        return BackboneOutput(seen[0].grid, *(joined(list(field)) for field in fields))

    def _prepared(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 Y X"]:
        """Normalise, and pad to whole patches; 0 is the mean colour then."""
        mean, std = (
            torch.tensor(values, device=image.device)[:, None, None]
            for values in (self._mean, self._std)
        )
        height, width = image.shape[-2:]
        below, right = (spanned - side for spanned, side in
                        zip(self.span((height, width)), (height, width), strict=True))  # fmt: skip
        return F.pad((image - mean) / std, (0, right, 0, below))

    def _item_bytes(self, size: tuple[int, int]) -> int:
        """Return about how many bytes of activations one image of this size takes."""
        raise NotImplementedError

    def _see(
        self, pixels: Float[Tensor, "b 3 H W"], classes: Sequence[str] | None
    ) -> BackboneOutput:
        """See some prepared images, in the model's dtype."""
        raise NotImplementedError

    def _no_logits(self) -> InputError:
        return InputError.of(
            "classes",
            got="class names",
            expected=f"None, since {type(self).__name__} provides {' and '.join(self.provides)}",
            fix="Score classes with MaskCLIP or EfficientNetLite0, and use this for the affinity.",
        )
