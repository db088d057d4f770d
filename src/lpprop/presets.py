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

from lpprop.bilateral import JointBilateralUpsample
from lpprop.bilinear import BilinearUpsample
from lpprop.chain import Chain
from lpprop.checks import check_choice
from lpprop.discrepancy import ClassDistribution, KLDiscrepancy
from lpprop.errors import InputError
from lpprop.fusion import Fusion
from lpprop.label_propagation import PatchPropagation, PixelPropagation
from lpprop.max_velocity import MaxVelocity
from lpprop.optimal_path import OptimalPath
from lpprop.refiner import Refiner, unknown_option

__all__ = [
    "BACKBONES",
    "METHODS",
    "by_name",
    "fusion",
    "kl",
    "lposs",
    "lposs_plus",
    "max_velocity",
    "optimal_path",
]

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
    _check_options("lposs_plus", options, own=("backbone", "tau", "r", "prune", "pixel_backend"))
    shared = {name: options[name] for name in ("alpha", "max_iter", "tol") if name in options}
    return Chain(
        _patch_step(backbone, options),
        BilinearUpsample(),
        PixelPropagation(tau=tau, r=r, prune=prune, backend=pixel_backend, **shared),
    )


def _check_options(preset: str, options: dict[str, Any], own: tuple[str, ...]) -> None:
    known = [*own, *PatchPropagation().config]
    for name in options:
        if name not in known:
            raise unknown_option(name, preset, known)


def _patch_step(backbone: str, options: dict[str, Any]) -> PatchPropagation:
    check_choice("backbone", backbone, tuple(BACKBONES))
    return PatchPropagation(**(BACKBONES[backbone] | options))


def optimal_path(*, temperature: float | None = None, **options: Any) -> Chain:
    """DSLO by the optimal path: class distributions, transport, joint bilateral to pixels.

    Li et al., 2026 (arXiv:2604.07723): 46.2 mIoU over 8 datasets, with logits by CLIP ViT-B/16 and
    attention by Stable Diffusion 2 (its first two up blocks, averaged), whole images.

    Args:
        temperature: of the attention that is built from the feats, as `Chain` takes it.
        options: any option of `lpprop.class_distribution`, `lpprop.optimal_path` and
            `lpprop.joint_bilateral_upsample`.

    Returns:
        A chain that needs attention, or feats to build it from, and image.

    Raises:
        InputError: an unknown option.

    >>> optimal_path(epsilon=0.05).steps[1].config["epsilon"]
    0.05
    """
    steps = _configured(
        "optimal_path",
        options,
        _distribution(),
        OptimalPath(norm="image"),
        JointBilateralUpsample(),
    )
    return Chain(*steps, temperature=temperature)


def max_velocity(*, temperature: float | None = None, **options: Any) -> Chain:
    """DSLO by the maximum velocity: class distributions, a Markov chain, joint bilateral to pixels.

    Li et al., 2026 (arXiv:2604.07723): 46.9 mIoU over 8 datasets; see `optimal_path`.

    Args:
        temperature: of the attention that is built from the feats, as `Chain` takes it.
        options: any option of `lpprop.class_distribution`, `lpprop.max_velocity` and
            `lpprop.joint_bilateral_upsample`.

    Returns:
        A chain that needs attention, or feats to build it from, and image.

    Raises:
        InputError: an unknown option.

    >>> max_velocity(tau=0.5).steps[1]
    MaxVelocity(tau=0.5, ipf_iterations=15, criterion='arrival', max_steps=1000)
    """
    steps = _configured(
        "max_velocity", options, _distribution(), MaxVelocity(), JointBilateralUpsample()
    )
    return Chain(*steps, temperature=temperature)


def kl(**options: Any) -> Chain:
    """The KL divergence from uniform alone, the ablation's row without transport.

    Li et al., 2026 (arXiv:2604.07723), Table 2, row IV: 19.6 mIoU over 4 datasets where the raw
    logits have 8.9 and the optimal path 40.0. Where no class has kept a patch all score 0, and the
    argmax is a tie; `nms=0` avoids that.

    Args:
        options: any option of `lpprop.class_distribution` and
            `lpprop.joint_bilateral_upsample`.

    Returns:
        A chain that needs image.

    Raises:
        InputError: an unknown option.

    >>> kl(nms=0.5).needs
    ('image',)
    """
    steps = (_distribution(), KLDiscrepancy(), JointBilateralUpsample())
    return Chain(*_configured("kl", options, *steps))


def fusion(*, temperature: float | None = None, **options: Any) -> Chain:
    """The optimal path and the maximum velocity together.

    Li et al., 2026 (arXiv:2604.07723), Table 2, row VII: 38.4 mIoU over 4 datasets, below each of
    the two alone (40.0 and 40.8). It is there for study.

    Args:
        temperature: of the attention that is built from the feats, as `Chain` takes it.
        options: any option of the steps of `optimal_path` and `max_velocity`.

    Returns:
        A chain that needs attention, or feats to build it from, and image.

    Raises:
        InputError: an unknown option.

    >>> fusion(tau=0.5, epsilon=0.05).needs
    ('attention', 'image')
    """
    steps = (_distribution(), OptimalPath(norm="image"), MaxVelocity(), JointBilateralUpsample())
    distribution, *maps, upsample = _configured("fusion", options, *steps)
    return Chain(distribution, Fusion(*maps), upsample, temperature=temperature)


def _distribution() -> ClassDistribution:
    return ClassDistribution(early_rejection=True)


def _configured(preset: str, options: dict[str, Any], *steps: Refiner) -> list[Refiner]:
    """Give each step those of the options that are its own."""
    known = ["temperature"] * (preset != "kl") + [name for step in steps for name in step.config]
    for name in options:
        if name not in known:
            raise unknown_option(name, preset, known)
    return [
        type(step)(**{name: options.get(name, value) for name, value in step.config.items()})
        for step in steps
    ]


#: What `method=` names.
METHODS: dict[str, Callable[..., Chain]] = {
    "lposs": lposs,
    "lposs+": lposs_plus,
    "optimal_path": optimal_path,
    "max_velocity": max_velocity,
    "kl": kl,
    "fusion": fusion,
}


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
