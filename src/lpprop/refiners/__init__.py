"""All refiners: one algorithm per file, as a function and as a module.

The names of the files begin with an underscore, so that no function hides the file of its name;
import from here.
"""

from lpprop.refiners._attention_pool import (
    AttentionPool,
    CorrelationPool,
    attention_pool,
    correlation_pool,
)
from lpprop.refiners._bilinear import BilinearUpsample, bilinear_upsample
from lpprop.refiners._class_distribution import ClassDistribution, class_distribution
from lpprop.refiners._class_shares import ClassShares, class_shares
from lpprop.refiners._dense_crf import DenseCRF, dense_crf
from lpprop.refiners._guided_filter import GuidedFilter, guided_filter
from lpprop.refiners._joint_bilateral import JointBilateralUpsample, joint_bilateral_upsample
from lpprop.refiners._kl import KLDiscrepancy, kl_discrepancy
from lpprop.refiners._local_crf import LocalCRF, local_crf
from lpprop.refiners._max_velocity import MaxVelocity, max_velocity
from lpprop.refiners._optimal_path import OptimalPath, optimal_path
from lpprop.refiners._pamr import PAMR, pamr
from lpprop.refiners._patch_propagation import PatchPropagation, propagate_patches
from lpprop.refiners._pixel_propagation import PixelPropagation, propagate_pixels
from lpprop.refiners._region_vote import RegionVote, region_vote

__all__ = [
    "PAMR",
    "AttentionPool",
    "BilinearUpsample",
    "ClassDistribution",
    "ClassShares",
    "CorrelationPool",
    "DenseCRF",
    "GuidedFilter",
    "JointBilateralUpsample",
    "KLDiscrepancy",
    "LocalCRF",
    "MaxVelocity",
    "OptimalPath",
    "PatchPropagation",
    "PixelPropagation",
    "RegionVote",
    "attention_pool",
    "bilinear_upsample",
    "class_distribution",
    "class_shares",
    "correlation_pool",
    "dense_crf",
    "guided_filter",
    "joint_bilateral_upsample",
    "kl_discrepancy",
    "local_crf",
    "max_velocity",
    "optimal_path",
    "pamr",
    "propagate_patches",
    "propagate_pixels",
    "region_vote",
]
