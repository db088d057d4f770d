# Written by tests/derived.py from the signatures of the functions.
# mypy: disable-error-code="override"
from lpprop import backbones as backbones
from lpprop import batch as batch
from lpprop import cluster as cluster
from lpprop import comparison as comparison
from lpprop import evaluation as evaluation
from lpprop import integrations as integrations
from lpprop import io as io
from lpprop import models as models
from lpprop import numerics as numerics
from lpprop import regions as regions
from lpprop import tiled as tiled
from lpprop import video as video
from lpprop import viz as viz
from lpprop._core.errors import InputError as InputError
from lpprop._core.errors import InputWarning as InputWarning
from lpprop._core.scans import value_checks as value_checks
from lpprop._version import __version__ as __version__
from lpprop.comparison import Comparison as Comparison
from lpprop.comparison import compare as compare
from lpprop.compose import presets as presets
from lpprop.compose.chain import Chain as Chain
from lpprop.compose.fusion import Fusion as Fusion
from lpprop.compose.pipeline import refine as refine
from lpprop.inputs.aggregation import aggregate_attention as aggregate_attention
from lpprop.inputs.attention import sharpen_attention as sharpen_attention
from lpprop.inputs.background import add_background as add_background
from lpprop.inputs.classes import merge_classes as merge_classes
from lpprop.inputs.colour import lab_features as lab_features
from lpprop.inputs.feature_attention import attention_from_features as attention_from_features
from lpprop.inputs.feature_attention import correlation_attention as correlation_attention
from lpprop.inputs.feature_attention import proxy_attention as proxy_attention
from lpprop.inputs.fusing import fuse_masks as fuse_masks
from lpprop.inputs.points import prompt_points as prompt_points
from lpprop.inputs.prototypes import prototype_logits as prototype_logits
from lpprop.inputs.prototypes import prototypes as prototypes
from lpprop.inputs.region_matching import classify_regions as classify_regions
from lpprop.inputs.seeds import seed_logits as seed_logits
from lpprop.inputs.selection import select_classes as select_classes
from lpprop.inputs.windows import SlidingWindows as SlidingWindows
from lpprop.notebook.interact import interact as interact
from lpprop.refiners import PAMR as PAMR
from lpprop.refiners import AttentionPool as AttentionPool
from lpprop.refiners import BilinearUpsample as BilinearUpsample
from lpprop.refiners import ClassDistribution as ClassDistribution
from lpprop.refiners import ClassShares as ClassShares
from lpprop.refiners import CorrelationPool as CorrelationPool
from lpprop.refiners import DenseCRF as DenseCRF
from lpprop.refiners import GuidedFilter as GuidedFilter
from lpprop.refiners import JointBilateralUpsample as JointBilateralUpsample
from lpprop.refiners import KLDiscrepancy as KLDiscrepancy
from lpprop.refiners import LocalCRF as LocalCRF
from lpprop.refiners import MaxVelocity as MaxVelocity
from lpprop.refiners import OptimalPath as OptimalPath
from lpprop.refiners import PatchPropagation as PatchPropagation
from lpprop.refiners import PixelPropagation as PixelPropagation
from lpprop.refiners import RegionVote as RegionVote
from lpprop.refiners import attention_pool as attention_pool
from lpprop.refiners import bilinear_upsample as bilinear_upsample
from lpprop.refiners import class_distribution as class_distribution
from lpprop.refiners import class_shares as class_shares
from lpprop.refiners import correlation_pool as correlation_pool
from lpprop.refiners import dense_crf as dense_crf
from lpprop.refiners import guided_filter as guided_filter
from lpprop.refiners import joint_bilateral_upsample as joint_bilateral_upsample
from lpprop.refiners import kl_discrepancy as kl_discrepancy
from lpprop.refiners import local_crf as local_crf
from lpprop.refiners import max_velocity as max_velocity
from lpprop.refiners import optimal_path as optimal_path
from lpprop.refiners import pamr as pamr
from lpprop.refiners import propagate_patches as propagate_patches
from lpprop.refiners import propagate_pixels as propagate_pixels
from lpprop.refiners import region_vote as region_vote
from lpprop.viz.display import show as show

__all__ = [
    "PAMR",
    "AttentionPool",
    "BilinearUpsample",
    "Chain",
    "ClassDistribution",
    "ClassShares",
    "Comparison",
    "CorrelationPool",
    "DenseCRF",
    "Fusion",
    "GuidedFilter",
    "InputError",
    "InputWarning",
    "JointBilateralUpsample",
    "KLDiscrepancy",
    "LocalCRF",
    "MaxVelocity",
    "OptimalPath",
    "PatchPropagation",
    "PixelPropagation",
    "RegionVote",
    "SlidingWindows",
    "__version__",
    "add_background",
    "aggregate_attention",
    "attention_from_features",
    "attention_pool",
    "bilinear_upsample",
    "class_distribution",
    "class_shares",
    "classify_regions",
    "compare",
    "correlation_attention",
    "correlation_pool",
    "dense_crf",
    "fuse_masks",
    "guided_filter",
    "interact",
    "joint_bilateral_upsample",
    "kl_discrepancy",
    "lab_features",
    "local_crf",
    "max_velocity",
    "merge_classes",
    "optimal_path",
    "pamr",
    "presets",
    "prompt_points",
    "propagate_patches",
    "propagate_pixels",
    "prototype_logits",
    "prototypes",
    "proxy_attention",
    "refine",
    "region_vote",
    "seed_logits",
    "select_classes",
    "sharpen_attention",
    "show",
    "value_checks",
]
