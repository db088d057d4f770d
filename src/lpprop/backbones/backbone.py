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
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lpprop._core.checks import all_finite
from lpprop._core.errors import InputError
from lpprop._core.options import check_integer
from lpprop._core.precision import uncompiled
from lpprop._core.progress import track
from lpprop._core.scans import mark_passed, one_call, values_are_checked
from lpprop.backbones.frozen import Frozen

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

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

    def __repr__(self) -> str:
        fields = zip(self._fields[1:], self[1:], strict=True)
        given = [f", {name}={tuple(x.shape)}" for name, x in fields if x is not None]
        return f"BackboneOutput(grid={self.grid}{''.join(given)})"


class Backbone(Frozen):
    """A frozen model that takes images in [0, 1] and does the preprocessing of its weights itself.

    The base class normalises the images, pads them at the right and the bottom with the mean colour
    to whole patches, and shows the model as many at once as `max_bytes` of activations allow. The
    model computes in its own dtype; the output is in float32.

    Args:
        patch_size: side of a patch in pixels.
        mean: red, green and blue mean, in [0, 1], of the images that the weights were trained on.
        std: their standard deviation, in [0.001, 1].
        max_bytes: bound on the activations of one batch; a batch holds at least one image.

    Attributes:
        provides: which of "logits", "feats" and "attention" the output holds.
        independent: whether the logits are probabilities of each class by itself, in [0, 1], which
            need not sum to 1, so that a pixel may have low ones alone.
        feats_from: the row of `lpprop.presets.FEATS_FROM` whose settings suit the feats, or None.
        commit: the commit of the repository from which `from_pretrained` loaded; else None.

    Raises:
        InputError: an option that cannot be used.
    """

    provides: tuple[str, ...] = ()
    independent: bool = False
    feats_from: str | None = None

    def __init__(
        self,
        *,
        patch_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        max_bytes: int = 2**30,
    ) -> None:
        patch_size = check_integer("patch_size", patch_size)
        super().__init__(mean=mean, std=std, max_bytes=max_bytes)
        self.patch_size = patch_size

    def _describe(self) -> dict[str, object]:
        return {"patch_size": self.patch_size, "provides": " and ".join(self.provides)}

    @classmethod
    def from_pretrained(
        cls,
        checkpoint: str | Path,
        *,
        download: bool = True,
        revision: str | None = None,
        dtype: torch.dtype | None = None,
        **options: Any,
    ) -> Backbone:
        """Load a model by name or from a folder.

        Args:
            checkpoint: a short name that the class knows, the name of a repository on the Hugging
                Face hub, or a folder that `save_pretrained` wrote.
            download: whether weights may be downloaded that are neither in a folder nor in the
                cache.
            revision: commit, tag or branch of the repository; the newest if None. The result's
                `commit` says which one it was.
            dtype: dtype of the loaded weights; the checkpoint's own if None.
            options: keywords of the class.

        Code that comes with a checkpoint never runs.

        Raises:
            ImportError: an extra is not installed; the message names it.
            InputError: a checkpoint that does not exist, is damaged or of another kind, or needs
                code of its own; a hub that cannot be reached; an option that cannot be used.
        """
        raise NotImplementedError

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
        self,
        image: Float[Tensor, "B 3 H W"] | np.ndarray[Any, Any] | Image,
        classes: Sequence[str] | None = None,
    ) -> BackboneOutput:
        """See an image or a batch of images, without gradients.

        Args:
            image: as `lpprop.refine` takes it: (B, 3, H, W) RGB in [0, 1] on the module's device,
                or uint8, an array (H, W, 3), a PIL image.
            classes: the classes to score, where the backbone provides logits.

        Returns:
            The fields that the backbone provides, in float32, on a grid that spans `span((H, W))`
            pixels.

        Raises:
            InputError: an image of another shape, range or device, with values that are not finite,
                or too large for the memory; classes that the model cannot score; an output that is
                not finite.
        """
        with one_call():
            tensor = self._take(image)
            if classes is not None:
                self.class_names(classes)
            return self._see_all(self._prepare(tensor), classes)

    def _see_all(
        self, pixels: Float[Tensor, "B 3 Y X"], classes: Sequence[str] | None
    ) -> BackboneOutput:
        """See prepared images, as many at once as the bound on the activations allows."""
        size = pixels.shape[-2], pixels.shape[-1]
        self._check_memory(size)
        at_once = max(1, self.max_bytes // self._item_bytes(size))
        parts = pixels.split(at_once)
        shown = parts if len(parts) == 1 else track(parts, unit="batch")
        seen = [self._see(part.to(self.dtype), classes) for part in shown]

        def join(parts: list[Tensor | None]) -> Tensor | None:
            tensors = [part.float() for part in parts if part is not None]
            return torch.cat(tensors) if tensors else None

        fields = zip(*(output[1:] for output in seen), strict=True)
        output = BackboneOutput(seen[0].grid, *(join(list(field)) for field in fields))
        self._check_output(output)
        return output

    @uncompiled
    def _check_output(self, output: BackboneOutput) -> None:
        """Refuse NaN and infinity, which weights of huge values or half precision give."""
        for name, tensor in zip(output._fields[1:], output[1:], strict=True):
            if tensor is None or not values_are_checked():
                continue
            if not all_finite(tensor):
                raise InputError.of(
                    "model",
                    got=f"NaN or infinity in the {name} of {type(self).__name__} in {self.dtype}",
                    expected="finite values",
                    fix="Load it with dtype=torch.float32; if it is, its weights are damaged.",
                )
            mark_passed(tensor)

    def _prepare(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 Y X"]:
        """Normalise, so that 0 is the mean colour, and pad with 0 to whole patches."""
        height, width = image.shape[-2:]
        below, right = (spanned - side for spanned, side in
                        zip(self.span((height, width)), (height, width), strict=True))  # fmt: skip
        return F.pad(self._normalise(image), (0, right, 0, below))

    def _see(
        self, pixels: Float[Tensor, "b 3 H W"], classes: Sequence[str] | None
    ) -> BackboneOutput:
        """See a batch of prepared images, in the model's dtype."""
        raise NotImplementedError
