"""What the methods are compared with: plain and edge-aware ways from patches to pixels."""

from __future__ import annotations

from typing import Any

from lpprop.compose.chain import Chain
from lpprop.compose.presets.options import configured
from lpprop.refiners import PAMR, BilinearUpsample, DenseCRF, GuidedFilter, JointBilateralUpsample

__all__ = ["bilinear", "dense_crf", "guided_filter", "joint_bilateral", "pamr"]


def bilinear(**options: Any) -> Chain:
    """Bilinear to pixels and nothing else: the scores as they came, which all others start from.

    Args:
        options: none.

    Returns:
        A chain that takes image, for its size.

    Raises:
        InputError: any option.

    >>> bilinear().needs
    ()
    """
    return Chain(*configured("bilinear", options, BilinearUpsample()))


def joint_bilateral(**options: Any) -> Chain:
    """Joint bilateral upsampling alone: the last step of `optimal_path` without the others.

    Kopf et al., SIGGRAPH 2007, with the constants of DSLO (arXiv:2604.07723).

    Args:
        options: any option of `lpprop.joint_bilateral_upsample`.

    Returns:
        A chain that needs image.

    Raises:
        InputError: an unknown option.

    >>> joint_bilateral(radius=2).needs
    ('image',)
    """
    return Chain(*configured("joint_bilateral", options, JointBilateralUpsample()))


def guided_filter(**options: Any) -> Chain:
    """Bilinear to pixels, then the guided filter.

    He, Sun, Tang, TPAMI 2013. Its radius and eps are of this package: the paper, which has other
    tasks, takes others for each.

    Args:
        options: any option of `lpprop.guided_filter`.

    Returns:
        A chain that needs image.

    Raises:
        InputError: an unknown option.

    >>> guided_filter(radius=4).steps[1]
    GuidedFilter(radius=4, eps=0.0001)
    """
    return Chain(*configured("guided_filter", options, BilinearUpsample(), GuidedFilter()))


def pamr(**options: Any) -> Chain:
    """Bilinear to pixels, then PAMR.

    Araslanov and Roth, CVPR 2020. On top of LPOSS, with 5 iterations and dilations 8 and 16, it has
    41.8 mIoU over 8 datasets, where LPOSS has 41.3 and LPOSS+ 42.1 (Stojnic et al., CVPR 2025,
    supplement); that is `Chain(lpprop.presets.lposs(), lpprop.PAMR())`.

    Args:
        options: any option of `lpprop.pamr`.

    Returns:
        A chain that needs image.

    Raises:
        InputError: an unknown option.

    >>> pamr(iterations=10).steps[1]
    PAMR(iterations=10, dilations=(8, 16))
    """
    return Chain(*configured("pamr", options, BilinearUpsample(), PAMR()))


def dense_crf(**options: Any) -> Chain:
    """Bilinear to pixels, then DenseCRF.

    Krähenbühl and Koltun, NeurIPS 2011. On top of LPOSS it improved nothing (Stojnic et al., CVPR
    2025, supplement, which gives neither figures nor settings).

    Args:
        options: any option of `lpprop.dense_crf`; scale=None where the logits are probabilities.

    Returns:
        A chain that needs image; its scores are probabilities.

    Raises:
        InputError: an unknown option.
        ImportError: the extra `crf` is not installed.

    >>> dense_crf(scale=100).needs
    ('image',)
    """
    return Chain(*configured("dense_crf", options, BilinearUpsample(), DenseCRF()))
