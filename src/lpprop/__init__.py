"""Refine open-vocabulary segmentation: coarse scores in, sharp full-resolution scores out.

scores = lpprop.refine(logits, feats, image)          # (B, C, H, W), ready for argmax
"""

from lpprop._core.errors import InputError
from lpprop._core.scans import value_checks
from lpprop._version import __version__
from lpprop.comparison import Comparison, compare
from lpprop.compose import presets
from lpprop.compose.chain import Chain
from lpprop.compose.fusion import Fusion
from lpprop.compose.pipeline import refine
from lpprop.inputs.attention import (
    aggregate_attention,
    attention_from_features,
    sharpen_attention,
)
from lpprop.inputs.classes import merge_classes
from lpprop.inputs.colour import lab_features
from lpprop.inputs.windows import SlidingWindows
from lpprop.refiners import (
    PAMR,
    BilinearUpsample,
    ClassDistribution,
    DenseCRF,
    GuidedFilter,
    JointBilateralUpsample,
    KLDiscrepancy,
    MaxVelocity,
    OptimalPath,
    PatchPropagation,
    PixelPropagation,
    bilinear_upsample,
    class_distribution,
    dense_crf,
    guided_filter,
    joint_bilateral_upsample,
    kl_discrepancy,
    max_velocity,
    optimal_path,
    pamr,
    propagate_patches,
    propagate_pixels,
)

__all__ = [
    "PAMR",
    "BilinearUpsample",
    "Chain",
    "ClassDistribution",
    "Comparison",
    "DenseCRF",
    "Fusion",
    "GuidedFilter",
    "InputError",
    "JointBilateralUpsample",
    "KLDiscrepancy",
    "MaxVelocity",
    "OptimalPath",
    "PatchPropagation",
    "PixelPropagation",
    "SlidingWindows",
    "__version__",
    "aggregate_attention",
    "attention_from_features",
    "bilinear_upsample",
    "class_distribution",
    "compare",
    "dense_crf",
    "guided_filter",
    "joint_bilateral_upsample",
    "kl_discrepancy",
    "lab_features",
    "max_velocity",
    "merge_classes",
    "optimal_path",
    "pamr",
    "presets",
    "propagate_patches",
    "propagate_pixels",
    "refine",
    "sharpen_attention",
    "value_checks",
]
