"""Images and class names in, labels out: a backbone, its affinity and a refiner tied together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from lpprop._core.checks import (
    check_image,
    check_tensors,
)
from lpprop._core.convert import as_image
from lpprop._core.errors import InputError
from lpprop._core.options import (
    check_integer,
)
from lpprop.backbones.backbone import Backbone, BackboneOutput
from lpprop.compose import presets
from lpprop.compose.chain import Chain
from lpprop.compose.pipeline import refine
from lpprop.inputs.classes import merge_classes
from lpprop.inputs.windows import SlidingWindows
from lpprop.refiners import bilinear_upsample

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

__all__ = ["Segmentation", "Segmenter"]


class Segmentation(NamedTuple):
    """What a segmenter makes of images.

    Attributes:
        scores: of each class at each pixel, larger = likelier.
        names: of the classes.
    """

    scores: Float[Tensor, "B C H W"]
    names: list[str]

    @property
    def labels(self) -> Int[Tensor, "B H W"]:
        """The best class of each pixel, an index into `names`."""
        return self.scores.argmax(1)


class Segmenter:
    """Segment images into classes that are named in words.

        segmenter = Segmenter(MaskCLIP.from_pretrained("openai-vitb16"),
                              VisionTransformer.from_pretrained("dino-vitb16"), windows=(224, 112))
        scores, names = segmenter(image, ["cat; kitten", "sofa", "background = wall; floor"])

    The backbone scores the classes on its patches, the affinity model tells which patches belong
    together, and the method refines the scores with both and the image. Where the patches of the
    two do not coincide, the scores are sampled bilinearly at the centres of the affinity's.

    Args:
        backbone: provides logits.
        affinity: provides feats or attention; the backbone itself if None.
        method: as `lpprop.refine` takes it. "lposs" and "lposs+" take the settings that suit the
            affinity (its `preset`), unless an option says otherwise.
        shorter_side: pixels to which the image is resized before anything sees it, its shape kept;
            as it is if None. The scores come back at the image's own size.
        windows: (window, stride) in pixels of the resized image, whole patches of both models;
            each window is seen by itself, and one graph joins all. An image that is smaller is
            continued at its edges. None sees the whole image at once.
        options: of the method.

    Raises:
        InputError: a backbone without logits, a method or options that cannot be used, windows
            that are no whole patches.

    >>> from lpprop.backbones import EfficientNetLite0
    >>> segmenter = Segmenter(EfficientNetLite0(), method="lposs", shorter_side=64)
    >>> scores, names = segmenter(torch.rand(1, 3, 96, 128), ["cat; lynx", "sofa"])
    >>> scores.shape, names
    (torch.Size([1, 2, 96, 128]), ['cat', 'sofa'])
    """

    def __init__(
        self,
        backbone: Backbone,
        affinity: Backbone | None = None,
        method: str | Callable[..., Tensor] = "lposs+",
        *,
        shorter_side: int | None = None,
        windows: tuple[int, int] | None = None,
        **options: Any,
    ) -> None:
        """Check that the parts fit."""
        for name, model in (("backbone", backbone), ("affinity", affinity)):
            if not (isinstance(model, Backbone) or (name == "affinity" and model is None)):
                raise InputError.of(
                    name,
                    got=type(model).__name__,
                    expected="one of lpprop.backbones",
                    fix="Wrap a model of your own in a subclass of lpprop.backbones.Backbone.",
                )
        self.backbone = backbone
        self.affinity = backbone if affinity is None else affinity
        if "logits" not in backbone.provides:
            raise InputError.of(
                "backbone",
                got=f"{type(backbone).__name__}, which provides {' and '.join(backbone.provides)}",
                expected="one that provides logits",
                fix="Use MaskCLIP or EfficientNetLite0, and pass this one as affinity.",
            )
        if method in ("lposs", "lposs+", "lposs_plus"):
            options = _suited(self.affinity, options)
        if isinstance(method, str):
            self.method: Callable[..., Tensor] = presets.by_name(method, **options)
        elif options:
            raise InputError.of(
                ", ".join(options),
                got="options beside a method that is configured already",
                expected="none",
                fix="Configure the module itself, or pass a preset's name as method.",
            )
        else:
            self.method = method
        if not callable(self.method):
            raise InputError.of(
                "method",
                got=type(self.method).__name__,
                expected="a preset's name, a module or a callable",
                fix="Pass one, such as 'lposs+'.",
            )
        if wanted := lacking(self.method, self.affinity.provides):
            raise InputError.of(
                "affinity",
                got=f"{type(self.affinity).__name__}, which provides "
                + " and ".join(self.affinity.provides),
                expected=f"one that provides {wanted}, for this method",
                fix="Take another method, or another affinity.",
            )
        if shorter_side is not None:
            check_integer("shorter_side", shorter_side)
        self.shorter_side = shorter_side
        self.windows = None if windows is None else self._checked_windows(windows)

    def __repr__(self) -> str:
        """Show the parts."""
        models = type(self.backbone).__name__
        if self.affinity is not self.backbone:
            models += f", {type(self.affinity).__name__}"
        return (
            f"Segmenter({models}, shorter_side={self.shorter_side}, windows={self.windows},\n"
            f"{self.method!r})"
        )

    @torch.no_grad()
    def __call__(
        self, image: Tensor | np.ndarray[Any, Any] | Image, classes: Sequence[str]
    ) -> Segmentation:
        """Segment an image, or several of one size.

        Args:
            image: as `lpprop.refine` takes it; it goes to the backbone's device.
            classes: one string a class, synonyms separated by ";", which may begin with "label =".

        Returns:
            Scores (B, C, H, W) at the image's size, on the backbone's device, and the names.

        Raises:
            InputError: an image or classes that cannot be used.
        """
        pixels = as_image(image, like=torch.empty(0)).to(self.backbone.device)
        sizes = check_tensors(image=(pixels, "B 3 H W"))
        check_image("image", pixels)
        names = self.backbone.labels(classes)
        pixels = self._resized(pixels.float())
        if self.windows is None:
            scores = self._whole(pixels, classes)
        else:
            scores = torch.cat([self._windowed(one, classes) for one in pixels.split(1)])
        # Prompts that a backbone scores by themselves are refined so, as LPOSS does.
        scores = merge_classes(scores, self.backbone.groups(classes))
        return Segmentation(bilinear_upsample(scores, (sizes["H"], sizes["W"])), names)

    def _resized(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 Y X"]:
        if self.shorter_side is None:
            return image
        scale = self.shorter_side / min(image.shape[-2:])
        size = [max(1, round(scale * side)) for side in image.shape[-2:]]
        return F.interpolate(image, size, mode="bilinear", antialias=True).clamp(0, 1)

    def _whole(
        self, image: Float[Tensor, "B 3 H W"], classes: Sequence[str]
    ) -> Float[Tensor, "B C H W"]:
        height, width = image.shape[-2:]
        logits, seen = self._seen(image, classes)
        span = self.affinity.span((height, width))
        # The refiner works on what the affinity's grid spans, edge to edge; where distances between
        # patches count, in the pixels that the model saw.
        spanned = _continued(image, span)
        pixels = tuple(cells * self.affinity.patch_size for cells in seen.grid)
        if seen.feats is not None and pixels != span:
            spanned = F.interpolate(spanned, pixels, mode="bilinear", antialias=True).clamp(0, 1)
        scores = refine(
            logits, seen.feats, spanned, attention=self._attention(seen), method=self.method
        )
        return bilinear_upsample(scores, span)[..., :height, :width]

    def _windowed(
        self, image: Float[Tensor, "1 3 H W"], classes: Sequence[str]
    ) -> Float[Tensor, "1 C H W"]:
        assert self.windows is not None
        window, stride = self.windows
        height, width = image.shape[-2:]
        image = _continued(image, (max(height, window), max(width, window)))
        windows = SlidingWindows((image.shape[-2], image.shape[-1]), window, stride)
        logits, seen = self._seen(windows.split(image), classes)
        scores = refine(
            logits, seen.feats, image, attention=self._attention(seen), method=self.method,
            windows=windows,
        )  # fmt: skip
        return scores[..., :height, :width]

    def _seen(
        self, image: Float[Tensor, "B 3 H W"], classes: Sequence[str]
    ) -> tuple[Float[Tensor, "B C h w"], BackboneOutput]:
        """Return logits on the affinity's grid, and what the affinity sees."""
        scored = self.backbone(image, classes)
        if self.affinity is self.backbone:
            return bilinear_upsample(scored.logits, scored.grid), scored
        seen = self.affinity(image.to(self.affinity.device))
        moved = [x if x is None else x.to(scored.logits.device) for x in seen[1:]]
        size = (image.shape[-2], image.shape[-1])
        spans = self.backbone.span(size), self.affinity.span(size)
        logits = _sampled(scored.logits, *spans, seen.grid)
        return logits, BackboneOutput(seen.grid, *moved)

    def _attention(self, seen: BackboneOutput) -> Tensor | None:
        """Return the attention for a method that takes it; others build on the feats."""
        chain = self.method if isinstance(self.method, Chain) else Chain(self.method)
        wanted = "attention" in chain.needs or not isinstance(self.method, Chain)
        return seen.attention if wanted else None

    def _checked_windows(self, windows: object) -> tuple[int, int]:
        if "attention" in getattr(self.method, "needs", ()):
            raise InputError.of(
                "windows",
                got=repr(windows),
                expected="None, since this method works on the attention of whole images",
                fix="Leave windows out, or take a method on feats, such as 'lposs+'.",
            )
        pair = windows if isinstance(windows, (tuple, list)) and len(windows) == 2 else None
        if pair is None:
            raise InputError.of(
                "windows",
                got=repr(windows),
                expected="a pair (window, stride) of pixels",
                fix="The papers take (224, 112) and (448, 224).",
            )
        checked = SlidingWindows((1, 1), *pair)
        for model in (self.backbone, self.affinity):
            if checked.window % model.patch_size:
                raise InputError.of(
                    "windows",
                    got=f"windows of {checked.window} pixels",
                    expected=f"whole patches of {type(model).__name__}, {model.patch_size} pixels",
                    fix="Take a multiple, such as "
                    f"{model.patch_size * max(1, round(checked.window / model.patch_size))}.",
                )
        return checked.window, checked.stride


def lacking(method: Callable[..., Tensor], provides: Sequence[str]) -> str:
    """Say what a method needs of an affinity that does not provide it; "" where nothing lacks."""
    for needed in getattr(method, "needs", ()):
        # Attention is built from feats where there is none.
        sources = {"feats": ("feats",), "attention": ("attention", "feats")}.get(needed, ())
        if sources and not set(sources) & set(provides):
            return " or ".join(sources)
    return ""


def _suited(affinity: Backbone, options: dict[str, Any]) -> dict[str, Any]:
    """Add the patch step's settings for the affinity's features, where none are given."""
    suited: dict[str, Any] = {"patch_size": affinity.patch_size}
    if affinity.preset is not None:
        suited["feats_from"] = affinity.preset
    return suited | options


def _continued(image: Float[Tensor, "B 3 H W"], size: tuple[int, int]) -> Float[Tensor, "B 3 y x"]:
    """Repeat the edges at the bottom and the right up to a size."""
    below, right = (wanted - side for wanted, side in zip(size, image.shape[-2:], strict=True))
    return F.pad(image, (0, right, 0, below), mode="replicate")


def _sampled(
    logits: Float[Tensor, "B C h w"],
    own_span: tuple[int, int],
    span: tuple[int, int],
    grid: tuple[int, int],
) -> Float[Tensor, "B C y x"]:
    """Sample logits bilinearly at the centres of another grid, which spans other pixels.

    Both grids begin at the image's upper left corner; beyond the outermost centres the outermost
    value stands.
    """
    if own_span == span:
        return bilinear_upsample(logits, grid)
    y, x = (
        (torch.arange(cells, device=logits.device) + 0.5) * (2 * pixels / (cells * own)) - 1
        for cells, pixels, own in zip(grid, span, own_span, strict=True)
    )
    places = torch.stack(torch.broadcast_tensors(x, y[:, None]), -1).to(logits.dtype)
    return F.grid_sample(
        logits,
        places.expand(len(logits), -1, -1, -1),
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )
