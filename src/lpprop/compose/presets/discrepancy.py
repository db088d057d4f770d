"""The discrepancy methods of DSLO: Li et al., 2026 (arXiv:2604.07723)."""

from __future__ import annotations

from typing import Any

from lpprop.compose.chain import Chain
from lpprop.compose.fusion import Fusion
from lpprop.compose.presets.options import configured
from lpprop.refiners import (
    ClassDistribution,
    JointBilateralUpsample,
    KLDiscrepancy,
    MaxVelocity,
    OptimalPath,
)

__all__ = ["fusion", "kl", "max_velocity", "optimal_path"]


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
    steps = configured(
        "optimal_path",
        options,
        _distribution(),
        OptimalPath(norm="image"),
        JointBilateralUpsample(),
        own=("temperature",),
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
    steps = configured(
        "max_velocity",
        options,
        _distribution(),
        MaxVelocity(),
        JointBilateralUpsample(),
        own=("temperature",),
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
    return Chain(*configured("kl", options, *steps))


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
    distribution, *maps, upsample = configured("fusion", options, *steps, own=("temperature",))
    return Chain(distribution, Fusion(*maps), upsample, temperature=temperature)


def _distribution() -> ClassDistribution:
    return ClassDistribution(early_rejection=True)
