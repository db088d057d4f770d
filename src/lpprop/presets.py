"""Named recipes: each returns a `Chain` with the settings of a paper.

    chain = lpprop.presets.lposs_plus(backbone="dinov2")
    scores = chain(logits, feats=feats, image=image)

`lpprop.refine(..., method="lposs+")` finds them by name, and fits patch_size to the image, which a
chain called directly takes as it stands.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

from lpprop.bilinear import BilinearUpsample
from lpprop.chain import Chain
from lpprop.checks import check_choice
from lpprop.errors import InputError
from lpprop.label_propagation import PatchPropagation, PixelPropagation
from lpprop.refiner import unknown_option

__all__ = ["BACKBONES", "METHODS", "by_name", "lposs", "lposs_plus"]

#: Settings of the patch step for the vision model that made the feats (LPOSS, supplement 8.1).
BACKBONES: dict[str, dict[str, float]] = {
    "vit-b/16": {"k": 400, "gamma": 3.0, "patch_size": 16},
    "vit-b/8": {"k": 800, "gamma": 3.0, "patch_size": 8},
    "dinov2": {"k": 400, "gamma": 7.0, "patch_size": 14},
}


def lposs(*, backbone: str = "vit-b/16", **options: Any) -> Chain:
    """LPOSS: label propagation over patches, then bilinear to pixels.

    Stojnic et al., CVPR 2025: 41.3 mIoU over 8 datasets from MaskCLIP's 27.0, with sliding windows
    of 224 every 112 pixels of an image whose shorter side is 448, logits by MaskCLIP ViT-B/16 and
    feats by DINO ViT-B/16.

    Deviations: logits on another grid than the feats are resized bilinearly to it; the authors
    resize the vision-language model's features instead, before they are compared with the text.

    Args:
        backbone: what made the feats: "vit-b/16" (k 400, gamma 3), "vit-b/8" (k 800, gamma 3) or
            "dinov2" (k 400, gamma 7).
        options: any option of `lpprop.propagate_patches`, over the backbone's.

    Returns:
        A chain that needs feats.

    Raises:
        InputError: an unknown backbone or option.

    >>> lposs(backbone="dinov2", k=200).steps[0].config["gamma"]
    7.0
    """
    _check_options("lposs", options, own=("backbone",))
    return Chain(_patch_step(backbone, options), BilinearUpsample())


def lposs_plus(
    *, backbone: str = "vit-b/16", tau: float = 0.01, r: int = 13, **options: Any
) -> Chain:
    """LPOSS+: label propagation over patches, bilinear to pixels, then over pixels.

    Stojnic et al., CVPR 2025: 42.1 mIoU over 8 datasets; see `lposs` for the protocol.

    Deviations: as for `lposs`.

    Args:
        backbone: what made the feats, as for `lposs`.
        tau: feature distance of the pixel step.
        r: side of the pixel step's neighbourhood.
        options: any option of `lpprop.propagate_patches`; alpha, max_iter and tol hold for both
            steps. For other settings of the pixel step make a `Chain` of your own.

    Returns:
        A chain that needs feats and image.

    Raises:
        InputError: an unknown backbone or option.

    >>> lposs_plus(r=9, max_iter=20).steps[2]
    PixelPropagation(tau=0.01, r=9, alpha=0.95, max_iter=20, tol=1e-06, sigma=0.0, ...)
    """
    _check_options("lposs_plus", options, own=("backbone", "tau", "r"))
    shared = {name: options[name] for name in ("alpha", "max_iter", "tol") if name in options}
    return Chain(
        _patch_step(backbone, options),
        BilinearUpsample(),
        PixelPropagation(tau=tau, r=r, **shared),
    )


def _check_options(preset: str, options: dict[str, Any], own: tuple[str, ...]) -> None:
    known = [*own, *PatchPropagation().config]
    for name in options:
        if name not in known:
            raise unknown_option(name, preset, known)


def _patch_step(backbone: str, options: dict[str, Any]) -> PatchPropagation:
    check_choice("backbone", backbone, tuple(BACKBONES))
    return PatchPropagation(**(BACKBONES[backbone] | options))


#: What `method=` names.
METHODS: dict[str, Callable[..., Chain]] = {"lposs": lposs, "lposs+": lposs_plus}


def by_name(method: str, **options: Any) -> Chain:
    """Build the preset that a method's name stands for.

    Args:
        method: a key of `METHODS`, such as "lposs+", or the preset function's name.
        options: the preset's options.

    Raises:
        InputError: an unknown method or option, with the closest known one.

    >>> by_name("lposs+", k=100).needs
    ('feats', 'image')
    """
    known = METHODS | {preset.__name__: preset for preset in METHODS.values()}
    if method not in known:
        close = difflib.get_close_matches(method.lower(), METHODS, n=1, cutoff=0.3)
        raise InputError.of(
            "method",
            got=repr(method),
            expected=f"one of {', '.join(map(repr, METHODS))}, a module or a callable",
            fix=f"Did you mean {close[0]!r}?" if close else "Change method.",
        )
    preset = known[method]
    return preset(**options)
