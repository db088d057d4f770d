"""A call: its scores and inputs, converted and checked once, and fitted to the image."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from lpprop._core.convert import as_grid
from lpprop._core.errors import InputError, warn
from lpprop._core.once import first_time
from lpprop._core.options import check_size
from lpprop._core.refiner import COMMON
from lpprop._core.scans import one_call, values_are_checked
from lpprop.compose.chain import Chain
from lpprop.compose.fitting import fit
from lpprop.inputs.background import check_background, lacks_background, mark_background
from lpprop.inputs.layout import check_layout, is_turned, warn_of_aspect
from lpprop.inputs.left_out import bring_back, find_kept
from lpprop.inputs.patch_grid import cover
from lpprop.inputs.proposals import Proposal
from lpprop.inputs.regions import warn_of_patches
from lpprop.inputs.table import INPUTS, check_inputs, convert_inputs
from lpprop.inputs.windows import SlidingWindows
from lpprop.refiners import bilinear_upsample

__all__ = ["NAMED", "Prepared", "Request"]

# The inputs that are parameters of `refine`.
NAMED = (*COMMON, "windows")


@dataclass(frozen=True)
class Request:
    """The scores and inputs of a call, converted and checked once against each other.

    Attributes:
        logits: (B, C', h, w) scores of the classes that take part.
        kept: (C,) which classes those are; None if all are. The others are -inf everywhere, the
            usual way to leave a class out, and come back as -inf.
        inputs: inputs that are given, by name.
        pixels: (H, W) of the image.
        span: (H, W) of the pixels that the grids cover, from the image's top left corner; None if
            they cover the image.
        size: (H, W) of the result.
        background: the threshold below which a pixel is none of the classes; None for no such.
    """

    logits: Tensor
    kept: Tensor | None
    inputs: Mapping[str, Any]
    pixels: tuple[int, int]
    span: tuple[int, int] | None
    size: tuple[int, int]
    background: float | None = None

    @classmethod
    def of(
        cls,
        logits: object,
        inputs: Mapping[str, object],
        *,
        size: tuple[int, int] | None = None,
        span: tuple[int, int] | None = None,
        background: float | None = None,
    ) -> Request:
        """Convert what users pass, and check all of it.

        Raises:
            InputError: input that cannot be used.
        """
        size = None if size is None else check_size("size", size)
        span = None if span is None else check_size("span", span)
        if background is not None:
            background = check_background("background", background)
        scores = as_grid("logits", logits)
        converted = convert_inputs(inputs, scores)
        windows = converted.get("windows")
        pixels = _find_pixels(converted, size)
        grids = {"logits": scores, "feats": converted.get("feats")}
        first_time("layout")  # so that no chain within this call checks it again
        for name, grid in grids.items():
            if grid is not None and span is None:  # the span says what the grids cover
                check_layout(name, grid, pixels if windows is None else windows.crop_size)
        kept = find_kept("logits", scores)
        if kept is not None:
            scores = scores[:, kept]
        sizes = check_inputs(scores, converted, INPUTS)
        if windows is not None:
            _check_windows(sizes, windows, span)
        if size is None:
            size = pixels
        elif size != pixels and is_turned(size, pixels):
            raise InputError.of(
                "size",
                got=str(size),
                expected=f"(H, W), for an image of {pixels[0]} x {pixels[1]} pixels",
                fix=f"It looks like (W, H): pass size=({size[1]}, {size[0]}).",
            )
        if background is None:
            _warn_of_few_classes(scores)
        else:
            _check_classes_beside(background, scores, kept)
        if "feats" in converted:
            _warn_of_constant("feats", converted["feats"])
        if "regions" in converted and not {"image", "windows"} & set(converted):
            warn_of_patches(converted["regions"], scores)
        return cls(scores, kept, converted, pixels, span, size, background)

    @property
    def n_classes(self) -> int:
        """The number of classes, also of those that are left out."""
        return self.logits.shape[1] if self.kept is None else len(self.kept)

    def only(self, names: Container[str]) -> Request:
        """Leave out inputs that a method does not take, so that it can be compared with others."""
        inputs = {name: x for name, x in self.inputs.items() if name in NAMED or name in names}
        return replace(self, inputs=inputs)

    def prepare(self, chain: Chain) -> Prepared:
        """Check a chain against the inputs, and fit it to the pixels that the grids cover.

        Raises:
            InputError: an input that the chain needs is missing, or it does not take one.
        """
        request = self._without_saliency(chain)
        if self.span is not None:
            covered = {
                name: INPUTS[name].cover(x, self.pixels, self.span)
                if name in INPUTS and INPUTS[name].per_image
                else x
                for name, x in request.inputs.items()
            }
            request = replace(request, inputs=covered)
        chain.check(request.logits, **request.inputs)
        regions = request.inputs.get("regions")
        if isinstance(regions, Proposal) and not regions.asks_for_scores:
            found = regions(request.inputs["image"], request.logits)
            request = replace(request, inputs={**request.inputs, "regions": found})
        fitted = fit(chain, request.inputs, request._covered, spanned=request.span is not None)
        if self.span is None:
            for name, grid in (("logits", self.logits), ("feats", self.inputs.get("feats"))):
                if grid is not None:
                    warn_of_aspect(name, grid, self._covered)
        return Prepared(fitted, request)

    def finish(self, scores: Tensor) -> Tensor:
        """Return refined scores as they are, or as probabilities with the background last."""
        if self.background is None:
            return scores
        return mark_background(scores, self.background, self.inputs.get("saliency"))

    def _without_saliency(self, chain: Chain) -> Request:
        """Leave the saliency to the background, unless a step of the user's own takes it too."""
        if "saliency" not in self.inputs or "saliency" in chain.takes:
            return self
        if self.background is None:
            raise lacks_background()
        return replace(self, inputs={x: y for x, y in self.inputs.items() if x != "saliency"})

    @property
    def _covered(self) -> tuple[int, int]:
        """The size of the pixels that each item's grids cover."""
        windows = self.inputs.get("windows")
        return (self.span or self.pixels) if windows is None else windows.crop_size


@dataclass(frozen=True)
class Prepared:
    """A call that is checked and fitted to its image, ready to run.

    Attributes:
        chain: the method.
        request: its scores and inputs; the image is that of the span.
    """

    chain: Chain
    request: Request

    def run(self) -> Tensor:
        """Return the refined scores (B, C, H, W), of the request's size."""
        request = self.request
        with one_call():
            first_time("layout")
            refined = self.chain(request.logits, **request.inputs)
        if "windows" in request.inputs and not self.chain.merges_windows:
            refined = request.inputs["windows"].merge(refined)
        if request.span is not None:
            refined = cover(_upsample(refined, request.span), request.pixels)
        refined = _upsample(refined, request.size)
        return refined if request.kept is None else bring_back(refined, request.kept)


def _upsample(scores: Tensor, size: tuple[int, int]) -> Tensor:
    return scores if tuple(scores.shape[-2:]) == size else bilinear_upsample(scores, size)


def _find_pixels(inputs: Mapping[str, Any], size: tuple[int, int] | None) -> tuple[int, int]:
    """Return the image's size, or, without an image, that of the result."""
    image, windows = inputs.get("image"), inputs.get("windows")
    if image is not None:
        return image.shape[-2], image.shape[-1]
    if windows is not None:
        return windows.image_size  # type: ignore[no-any-return]
    if size is not None:
        return size
    raise InputError.of(
        "image",
        got="None, and no size",
        expected="an image, or the size of the result",
        fix="Pass image=, or size=(H, W).",
    )


def _check_classes_beside(background: float, scores: Tensor, kept: Tensor | None) -> None:
    if scores.shape[1] == 1:
        raise InputError.of(
            "background",
            got=f"{background:g} beside a single class"
            + ("" if kept is None else ", since all others are -inf"),
            expected="two classes or more, of whose scores each has a share",
            fix="Compare the scores of the one class with a threshold.",
        )


def _warn_of_few_classes(scores: Tensor) -> None:
    if scores.ndim == 4 and scores.shape[1] == 1:
        warn(
            "one class",
            "logits: got a single class, which wins everywhere, and whose softmax is 1. Compare "
            "its scores with a threshold, or add the scores of a background class.",
        )


def _warn_of_constant(name: str, feats: Tensor) -> None:
    """Warn of features that are the same at every patch, so that no patch is like another."""
    if not values_are_checked() or feats.shape[-1] * feats.shape[-2] == 1:
        return
    nodes = feats.detach().flatten(2)
    # Two patches differ almost always, so that the others need no look.
    for some in (nodes[..., [0, -1]], nodes):
        alike = (some == some[..., :1]).flatten(1).all(1)
        if not bool(alike.any()):
            return
    value = "0" if not bool(nodes[alike].any()) else "the same"
    of_item = "" if bool(alike.all()) else f" of item {int(alike.nonzero()[0])}"
    warn(
        f"constant {name}",
        f"{name}: got features that are {value} at every patch{of_item}, so that all patches are "
        "alike. "
        "Check that the model has its weights, and that it saw the image.",
    )


def _check_windows(
    sizes: Mapping[str, int], windows: SlidingWindows, span: tuple[int, int] | None
) -> None:
    if span is not None:
        raise InputError.of(
            "span",
            got=f"{span}, beside windows",
            expected="None, since each window's grid covers its crop",
            fix="Remove span.",
        )
    if "H" in sizes and (sizes["H"], sizes["W"]) != windows.image_size:
        raise InputError.of(
            "windows",
            got=f"windows of a {windows.image_size[0]} x {windows.image_size[1]} image",
            expected=f"windows of this one, {sizes['H']} x {sizes['W']}",
            fix="Make the SlidingWindows with this image's size.",
        )
    if sizes["B"] != len(windows):
        raise InputError.of(
            "logits",
            got=f"{sizes['B']} items",
            expected=f"{len(windows)}, one per window",
            fix="Pass the logits of all windows of one image, in the order of windows.boxes.",
        )
