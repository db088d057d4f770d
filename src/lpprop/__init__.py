"""Refine open-vocabulary segmentation: coarse scores in, sharp full-resolution scores out.

scores = lpprop.refine(logits, feats, image)          # (B, C, H, W), ready for argmax
"""

from lpprop import presets
from lpprop._refine import refine
from lpprop.affinity import lab_features
from lpprop.attention import aggregate_attention, attention_from_features, sharpen_attention
from lpprop.bilateral import JointBilateralUpsample, joint_bilateral_upsample
from lpprop.bilinear import BilinearUpsample, bilinear_upsample
from lpprop.chain import Chain
from lpprop.classes import merge_classes
from lpprop.comparison import Comparison, compare
from lpprop.dense_crf import DenseCRF, dense_crf
from lpprop.discrepancy import (
    ClassDistribution,
    KLDiscrepancy,
    class_distribution,
    kl_discrepancy,
)
from lpprop.errors import InputError
from lpprop.fusion import Fusion
from lpprop.guided_filter import GuidedFilter, guided_filter
from lpprop.label_propagation import (
    PatchPropagation,
    PixelPropagation,
    propagate_patches,
    propagate_pixels,
)
from lpprop.max_velocity import MaxVelocity, max_velocity
from lpprop.optimal_path import OptimalPath, optimal_path
from lpprop.pamr import PAMR, pamr
from lpprop.windows import SlidingWindows

__version__ = "0.1.0"

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
]
