"""LPOSS and LPOSS+: Stojnic et al., CVPR 2025."""

from __future__ import annotations

from typing import Any

from lpprop._core.checks import check_choice
from lpprop.compose.chain import Chain
from lpprop.compose.presets.options import check_known
from lpprop.refiners import BilinearUpsample, PatchPropagation, PixelPropagation

__all__ = ["BACKBONES", "lposs", "lposs_plus"]

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
    check_known("lposs", options, ["backbone", *PatchPropagation().config])
    return Chain(_patch_step(backbone, options), BilinearUpsample())


def lposs_plus(
    *,
    backbone: str = "vit-b/16",
    tau: float = 0.01,
    r: int = 13,
    prune: bool = False,
    pixel_backend: str = "auto",
    **options: Any,
) -> Chain:
    """LPOSS+: label propagation over patches, bilinear to pixels, then over pixels.

    Stojnic et al., CVPR 2025: 42.1 mIoU over 8 datasets; see `lposs` for the protocol.

    Deviations: as for `lposs`.

    Args:
        backbone: what made the feats, as for `lposs`.
        tau: feature distance of the pixel step.
        r: side of the pixel step's neighbourhood.
        prune: whether the pixel step leaves out classes that cannot win.
        pixel_backend: of the pixel step: "auto", "torch", "llvm" or "triton".
        options: any option of `lpprop.propagate_patches`; alpha, max_iter and tol hold for both
            steps. For other settings of the pixel step make a `Chain` of your own.

    Returns:
        A chain that needs feats and image.

    Raises:
        InputError: an unknown backbone or option.

    >>> lposs_plus(r=9, max_iter=20).steps[2]
    PixelPropagation(tau=0.01, r=9, alpha=0.95, max_iter=20, tol=1e-06, sigma=0.0, ...)
    """
    own = ["backbone", "tau", "r", "prune", "pixel_backend"]
    check_known("lposs_plus", options, [*own, *PatchPropagation().config])
    shared = {name: options[name] for name in ("alpha", "max_iter", "tol") if name in options}
    return Chain(
        _patch_step(backbone, options),
        BilinearUpsample(),
        PixelPropagation(tau=tau, r=r, prune=prune, backend=pixel_backend, **shared),
    )


def _patch_step(backbone: str, options: dict[str, Any]) -> PatchPropagation:
    check_choice("backbone", backbone, tuple(BACKBONES))
    return PatchPropagation(**(BACKBONES[backbone] | options))
