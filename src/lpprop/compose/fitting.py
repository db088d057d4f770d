"""A method fitted to an image: patch sizes in its pixels, and warnings of what does not fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lpprop._core.errors import warn
from lpprop.compose.chain import Chain
from lpprop.compose.composite import steps_of
from lpprop.compose.presets import FEATS_FROM
from lpprop.inputs.patch_grid import fit_patch_size
from lpprop.refiners import PatchPropagation

__all__ = ["fit"]


def fit(
    chain: Chain, inputs: Mapping[str, Any], pixels: tuple[int, int], *, spanned: bool
) -> Chain:
    """Fit patch sizes to the pixels that the feats cover, and warn of what does not fit.

    Args:
        chain: a method whose inputs are checked.
        inputs: its inputs, by name.
        pixels: (H, W) of the pixels that the grids cover, of the image or of a window.
        spanned: whether the user has said so.

    Returns:
        The chain, with steps adapted where that is needed.
    """
    if "feats" not in inputs or not ("image" in inputs or "windows" in inputs):
        return chain
    height, width = inputs["feats"].shape[-2:]
    windows = inputs.get("windows")
    fitted = chain.fitted((height, width), pixels)
    for before, after in zip(_list_propagations(chain), _list_propagations(fitted), strict=True):
        size = before.patch_size
        what = (
            f"the feats' grid of {height} x {width} patches of {size:g} pixels spans "
            f"{height * size:g} x {width * size:g} pixels, not {pixels[0]} x {pixels[1]}: "
        )
        if size != after.patch_size:
            makers = [
                name
                for name, x in FEATS_FROM.items()
                if fit_patch_size(x["patch_size"], (height, width), pixels) == x["patch_size"]
            ]
            advice = f"Pass patch_size={after.patch_size:.4g} if that is right"
            if len(makers) == 1:
                advice = f'Pass feats_from="{makers[0]}" if that made them'
                advice += "" if before.gamma == "auto" else ", which also sets gamma"
            warn(
                "patch size",
                f"{what}distances are taken as if patches had {after.patch_size:.4g}. {advice}"
                "; if the backbone saw a resized image, pass that one as image and the full size "
                "as size=.",
            )
        elif not spanned and (
            abs(height * size - pixels[0]) >= 1 or abs(width * size - pixels[1]) >= 1
        ):
            warn(
                "remainder",
                f"{what}scores shift by up to the difference. If the backbone padded or cropped "
                f"the image at the bottom and right, pass span=({height * size:g}, "
                f"{width * size:g}); if it resized the image, pass that one as image and the full "
                f"size as size=, or patch_size={pixels[0] / height:.4g}.",
            )
        patches = height * width * (1 if windows is None else len(windows))
        if before.k != "auto" and before.k > patches / 4:
            warn(
                "k",
                f"k: got {before.k} for {patches} patches. More than a quarter of them as "
                "neighbours blurs the scores, often to worse than bilinear upsampling: LPOSS's 400 "
                "is made for the thousands of patches of fifteen windows. "
                + (
                    'For a single image pass k="auto", or take method="auto".'
                    if windows is None
                    else f"Pass k={max(1, patches // 8)} or less."
                ),
            )
    return fitted


def _list_propagations(chain: Chain) -> list[PatchPropagation]:
    return [step for step in steps_of(chain) if isinstance(step, PatchPropagation)]
