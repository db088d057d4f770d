"""Images and class names in, labels out: a backbone, an affinity and a method tied together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from lpprop._core.checks import check_tensors
from lpprop._core.convert import as_image
from lpprop._core.errors import InputError, warn
from lpprop._core.once import first_time
from lpprop._core.options import check_boolean
from lpprop._core.precision import move_to
from lpprop._core.progress import track
from lpprop._core.scans import one_call
from lpprop.backbones.backbone import Backbone, BackboneOutput
from lpprop.compose import presets
from lpprop.compose.chain import Chain
from lpprop.compose.composite import steps_of
from lpprop.compose.pipeline import as_chain
from lpprop.inputs.patch_grid import cover
from lpprop.inputs.proposals import Proposal, as_given_regions, cover_regions
from lpprop.inputs.regions import Regions, check_regions
from lpprop.inputs.windows import SlidingWindows
from lpprop.models.choice import Choice, Chosen
from lpprop.models.geometry import check_sides, resize_image, sample_on_grid, seen_size
from lpprop.models.requirements import (
    check_affinity,
    check_averages,
    check_models,
    check_room,
    check_takes_regions,
    check_windows,
)
from lpprop.models.unrefined import Unrefined
from lpprop.refiners import bilinear_upsample

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

__all__ = ["Segmentation", "Segmenter"]

_Regions: TypeAlias = Regions | Callable[..., Any] | None


class Segmentation(NamedTuple):
    """The result of a segmenter.

    Attributes:
        scores: the scores of each class at each pixel, larger = likelier.
    """

    scores: Float[Tensor, "B C H W"]
    class_names: list[str]

    @property
    def labels(self) -> Int[Tensor, "B H W"]:
        """The best class of each pixel, an index into `class_names`."""
        return self.scores.argmax(1)


class Segmenter:
    """Segment images into classes that are given in words.

        segmenter = Segmenter(MaskCLIP.from_pretrained("openai-vitb16"),
                              VisionTransformer.from_pretrained("dino-vitb16"), windows=(224, 112))
        scores, names = segmenter(image, ["cat; kitten", "sofa", "background = wall; floor"])

    The backbone scores the classes on its patches, the affinity model tells which patches belong
    together, and the method refines the scores with both and the image. Where the patches of the
    two models do not coincide, the scores are sampled bilinearly at the centres of the affinity's.

    Args:
        backbone: the model that provides logits.
        affinity: the model that provides feats or attention; the backbone itself if None.
        method: as `lpprop.refine` takes it. LPOSS's methods use the settings that suit the
            affinity (its `feats_from` and `patch_size`), unless an option says otherwise.
        shorter_side: the models see the image resized to this shorter side, in pixels, with its
            aspect ratio kept; None leaves the image as it is. The scores always have the image's
            own size.
        longer_side: bound on the longer side of the resized image, in pixels. The shorter side of a
            long and narrow image then becomes less than `shorter_side`, as in MMSegmentation.
        antialias: whether resizing averages over pixels where it makes the image smaller. Without,
            it samples bilinearly as OpenCV does, whose result LPOSS's code rounds to 8 bits; this
            one is not rounded.
        windows: (window, stride) in pixels of the resized image, whole patches of both models. The
            models see each window by itself, and one graph joins all of them. The edges of an image
            smaller than a window are repeated. None shows the models the whole image at once.
        background: the threshold below which a pixel is none of the classes, as `lpprop.refine`
            takes it. The result then has one channel more, the last, called "none of these". Where
            the backbone gives cosines, of which every class has almost the same share, and the
            method has no `logit_scale`, it refines their softmax at the backbone's scale instead.
            Where the backbone gives a probability of each class by itself (SAM 3), the threshold
            is compared with these; the method is "bilinear", "joint_bilateral" or "pamr".
        top_classes: refine only so many classes, those that `lpprop.select_classes` finds in the
            image; the others are -inf in the result. Cosines are compared by their softmax, at the
            backbone's own scale. A class counts that is in any image of the batch, or any window.
        regions: what proposes regions to a method that takes them, as `lpprop.refine` takes it: a
            function of the image as the models see it, or a name such as "slic". None leaves them
            to each call.
        options: options of the method.

    Raises:
        InputError: a backbone without logits, a method or options that cannot be used, a longer
            side below the shorter one, windows that are not whole patches, or regions for a method
            that takes none.

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
        method: str | Callable[..., Tensor] = "auto",
        *,
        shorter_side: int | None = None,
        longer_side: int = 2048,
        antialias: bool = True,
        windows: tuple[int, int] | None = None,
        background: float | None = None,
        top_classes: int | None = None,
        regions: Callable[..., Any] | str | None = None,
        **options: Any,
    ) -> None:
        self.backbone = backbone
        self.affinity = backbone if affinity is None else affinity
        check_models(self.backbone, self.affinity)
        if isinstance(method, str) and presets.find(method).feats_from:
            suited = {name: getattr(self.affinity, name) for name in ("patch_size", "feats_from")}
            options = {name: value for name, value in suited.items() if value is not None} | options
        self.method = as_chain(method, windowed=windows is not None, **options)
        # A method of the user's own does not say what it needs: it gets all that there is.
        self._wants_attention = "attention" in self.method.needs or not isinstance(
            method, (str, Chain)
        )
        self._takes_scale = any(
            "logit_scale" in getattr(step, "config", ()) for step in steps_of(self.method)
        )
        check_affinity(self.affinity, self.method)
        #: What proposes regions; None where they come with each call.
        self.regions = None if regions is None else Proposal(regions).proposer
        if regions is not None:
            check_takes_regions(self.method)
        self.shorter_side, self.longer_side = check_sides(shorter_side, longer_side)
        self.antialias = check_boolean("antialias", antialias)
        self.choice = Choice(background, top_classes, self.backbone.independent)
        if background is not None and self.backbone.independent:
            check_averages(self.method)
        #: How a model is called with its inputs; several segmenters may share their calls.
        self.call_model: Callable[..., Any] = _call
        self.windows = None
        if windows is not None:
            self.windows = check_windows(windows, self.method, (self.backbone, self.affinity))

    def __repr__(self) -> str:
        models = type(self.backbone).__name__
        if self.affinity is not self.backbone:
            models += f", {type(self.affinity).__name__}"
        proposer = "" if self.regions is None else f",\nregions={Proposal(self.regions).name}"
        return (
            f"Segmenter({models}, shorter_side={self.shorter_side}, "
            f"longer_side={self.longer_side}, antialias={self.antialias}, windows={self.windows}"
            f"{self.choice!r},\n{self.method!r}{proposer})"
        )

    @torch.no_grad()
    def __call__(
        self,
        image: Tensor | np.ndarray[Any, Any] | Image,
        classes: Sequence[str],
        *,
        regions: Any = None,
    ) -> Segmentation:
        """Segment an image, or several of one size.

        Args:
            image: as `lpprop.refine` takes it; it is moved to the backbone's device.
            classes: one string per class: synonyms separated by ";", with or without "name =".
            regions: those of the image, as `lpprop.refine` takes them, in place of proposed ones.

        Returns:
            Scores (B, C, H, W) at the image's size, on the backbone's device, and the class names.
            With a background, probabilities of one channel more, and its name.

        A single class gives an `InputWarning`, since each pixel gets the best of the classes.

        Raises:
            InputError: an image, classes or regions that cannot be used, or an image for which the
                memory is not enough.
        """
        with one_call():
            return self._segment(image, classes, regions)

    def _segment(self, image: Any, classes: Sequence[str], regions: Any) -> Segmentation:
        pixels, given, size, labels = self._read(image, classes, regions)
        if self.windows is None:
            return Segmentation(self._prepare_whole(pixels, classes, size, given).refine(), labels)
        each = [
            self._prepare_windows(
                one, classes, size, given if callable(given) or given is None else given[i : i + 1]
            ).refine()
            for i, one in enumerate(track(pixels.split(1)))
        ]
        return Segmentation(torch.cat(each), labels)

    @torch.no_grad()
    def prepare(
        self, image: Tensor | np.ndarray[Any, Any] | Image, classes: Sequence[str]
    ) -> Unrefined:
        """Show an image to the models, and leave the refinement of what they see to the caller.

        Args:
            image: one image, as a call takes it.
            classes: as a call takes them.

        Raises:
            InputError: as a call raises it, or several images.

        >>> from lpprop.backbones import EfficientNetLite0
        >>> segmenter = Segmenter(EfficientNetLite0(), method="lposs", shorter_side=64)
        >>> unrefined = segmenter.prepare(torch.rand(3, 96, 128), ["cat; lynx", "sofa"])
        >>> unrefined.arguments["feats"].shape
        torch.Size([1, 192, 4, 6])
        >>> unrefined.refine().shape
        torch.Size([1, 2, 96, 128])
        """
        with one_call():
            pixels, given, size, labels = self._read(image, classes, None)
            if len(pixels) != 1:
                raise InputError.of(
                    "image",
                    got=f"{len(pixels)} images",
                    expected="one",
                    fix="Prepare each by itself.",
                )
            prepare = self._prepare_whole if self.windows is None else self._prepare_windows
            return replace(prepare(pixels, classes, size, given), class_names=labels)

    def _read(
        self, image: Any, classes: Sequence[str], regions: Any
    ) -> tuple[Float[Tensor, "B 3 Y X"], _Regions, tuple[int, int], list[str]]:
        """Check the inputs; return the images as the models see them, their size, and labels."""
        pixels = as_image(image, like=torch.empty(0))
        sizes = check_tensors(image=(pixels, "B 3 H W"))
        names = self.backbone.class_names(classes)
        labels = self.choice.label_names(names)
        if len(labels) == 1:
            warn(
                "one class",
                f"classes: got only {names[0]!r}, which is the label of every pixel. "
                "Add the classes that are around it, such as 'background'.",
            )
        elif len(names) == 1:
            first_time("one class")  # there is something beside it, which `refine` does not see
        size = sizes["H"], sizes["W"]
        seen = seen_size(size, self.shorter_side, self.longer_side)
        channels = sum(map(len, self.backbone.groups(classes)))
        check_room(sizes["B"], size, seen, channels, self.backbone.device)
        given = self._check_regions(regions, pixels)
        pixels = move_to(self.backbone.device, pixels).float()
        return resize_image(pixels, seen, antialias=self.antialias), given, size, labels

    def _choose(self, logits: Float[Tensor, "n Q h w"], classes: Sequence[str]) -> Chosen:
        cosines = getattr(self.backbone, "scores", None) == "cosine"
        scale = getattr(self.backbone, "logit_scale", None) if cosines else None
        if scale is not None and self.choice.background is not None and not self._takes_scale:
            logits, scale = (scale * logits).softmax(1), None
        return self.choice.choose(logits, self.backbone.groups(classes), scale)

    def _check_regions(self, regions: Any, image: Float[Tensor, "B 3 H W"]) -> _Regions:
        """Return the regions of the images, or what proposes them, for a method that takes them."""
        if regions is None:
            return self.regions
        check_takes_regions(self.method)
        given = as_given_regions(regions, image)
        if isinstance(given, Proposal):
            return given.proposer  # which sees each image as the models do
        check_regions(given, image)
        device = self.backbone.device
        if isinstance(given, Tensor):
            return given.to(device)
        return [move_to(device, masks) for masks in given]

    def _prepare_whole(
        self,
        image: Float[Tensor, "B 3 Y X"],
        classes: Sequence[str],
        size: tuple[int, int],
        regions: _Regions,
    ) -> Unrefined:
        height, width = image.shape[-2:]
        logits, seen = self._see(image, classes)
        span = self.affinity.span((height, width))
        # The method gets the image that the affinity's grid spans from edge to edge. Where it
        # measures distances between patches, they are in the pixels that the model saw.
        spanned = cover(image, span)
        pixels = span
        if seen.feats is not None:
            (rows, columns), side = seen.grid, self.affinity.patch_size
            pixels = rows * side, columns * side
        if pixels != span:
            spanned = F.interpolate(spanned, pixels, mode="bilinear", antialias=True).clamp(0, 1)

        chosen = self._choose(logits, classes)
        arguments = {
            "logits": chosen.logits, "feats": seen.feats, "image": spanned,
            "attention": self._attention(seen), "method": self.method,
            "span": pixels,
            **_as_input(regions, (height, width), span, pixels),
        }  # fmt: skip

        def finish(refined: Tensor) -> Tensor:
            whole = bilinear_upsample(refined, span)[..., :height, :width]
            return self.choice.finish(whole, chosen, size)

        return Unrefined(arguments, finish)

    def _prepare_windows(
        self,
        image: Float[Tensor, "1 3 Y X"],
        classes: Sequence[str],
        size: tuple[int, int],
        regions: _Regions,
    ) -> Unrefined:
        assert self.windows is not None
        window, stride = self.windows
        height, width = image.shape[-2:]
        covered = max(height, window), max(width, window)
        image = cover(image, covered)
        windows = SlidingWindows(covered, window, stride)
        logits, seen = self._see(windows.split(image), classes)

        chosen = self._choose(logits, classes)
        arguments = {
            "logits": chosen.logits, "feats": seen.feats, "image": image,
            "attention": self._attention(seen), "method": self.method, "windows": windows,
            **_as_input(regions, (height, width), covered, covered),
        }  # fmt: skip

        def finish(refined: Tensor) -> Tensor:
            return self.choice.finish(refined[..., :height, :width], chosen, size)

        return Unrefined(arguments, finish)

    def _see(
        self, image: Float[Tensor, "B 3 H W"], classes: Sequence[str]
    ) -> tuple[Float[Tensor, "B C h w"], BackboneOutput]:
        """Return logits on the affinity's grid, and the affinity's output."""
        scored = self.call_model(self.backbone, image, classes)
        if self.affinity is self.backbone:
            return bilinear_upsample(scored.logits, scored.grid), scored
        seen = self.call_model(self.affinity, image.to(self.affinity.device))
        moved = [x if x is None else x.to(scored.logits.device) for x in seen[1:]]
        size = (image.shape[-2], image.shape[-1])
        spans = self.backbone.span(size), self.affinity.span(size)
        logits = sample_on_grid(scored.logits, *spans, seen.grid)
        return logits, BackboneOutput(seen.grid, *moved)

    def _attention(self, seen: BackboneOutput) -> Tensor | None:
        return seen.attention if self._wants_attention else None


def _as_input(
    regions: _Regions, seen: tuple[int, int], spanned: tuple[int, int], pixels: tuple[int, int]
) -> dict[str, Any]:
    """Return regions as an input of `refine`, on the pixels that the image has there."""
    if regions is None:
        return {}
    if not callable(regions):
        regions = cover_regions(cover_regions(regions, seen, spanned), pixels, pixels)
    return {"regions": regions}


def _call(model: Backbone, *inputs: Any) -> Any:
    return model(*inputs)
